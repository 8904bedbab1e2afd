//! The system-call table and its handlers, one file per family.

pub mod directory;
pub mod epoll;
pub mod event;
pub mod exec;
pub mod fd;
pub mod futex;
pub mod identity;
pub mod io;
pub mod limits;
pub mod memory;
pub mod mount;
pub mod open;
pub mod path;
pub mod pipe;
pub mod poll;
pub mod prctl;
pub mod process;
pub mod schedule;
pub mod signal;
pub mod socket;
pub mod stat;
pub mod system;
pub mod table;
pub mod time;
pub mod wait;
pub mod xattr;
