//! The system-call table and its handlers, one file per family.

pub mod table;
