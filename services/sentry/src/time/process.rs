//! The timers of a process.

/// Interval timers and POSIX timers. Held as `Process.timers`; a fork's child starts with none.
#[derive(Default)]
pub struct ProcessTimers {}

impl ProcessTimers {
    /// For execve: POSIX timers are gone, interval timers stay.
    pub fn reset_for_exec(&self) {}
    /// For exit: nothing fires any more.
    pub fn stop(&self) {}
}
