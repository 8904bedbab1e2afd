//! Time: clocks, interval timers, POSIX timers.

pub mod posix;
mod process;

pub use process::ProcessTimers;
