//! The system-call table and its handlers, one file per family.

pub mod exec;
pub mod identity;
pub mod limits;
pub mod prctl;
pub mod process;
pub mod schedule;
pub mod system;
pub mod table;
pub mod wait;
