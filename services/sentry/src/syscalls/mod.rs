//! The system-call table and its handlers, one file per family.

pub mod directory;
pub mod exec;
pub mod fd;
pub mod identity;
pub mod io;
pub mod limits;
pub mod memory;
pub mod mount;
pub mod open;
pub mod path;
pub mod pipe;
pub mod prctl;
pub mod process;
pub mod schedule;
pub mod socket;
pub mod stat;
pub mod system;
pub mod table;
pub mod wait;
pub mod xattr;
