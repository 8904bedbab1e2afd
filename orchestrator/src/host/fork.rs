//! fork(2) while this process has one thread.

use nix::unistd::{ForkResult, Pid};

use crate::error::{Error, Result};

/// Which side one is on.
#[derive(Debug)]
pub enum Forked {
    /// The caller; the child's pid.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks. Refuses in a process with several threads, whose locks the child would inherit in whatever state they are.
pub fn fork() -> Result<Forked> {
    let doing = "start the supervisor";
    let threads = std::fs::read_dir("/proc/self/task").map_err(Error::host(doing))?.count();
    if threads != 1 {
        return Err(Error::Host { doing, why: format!("this process has {threads} threads") });
    }
    // SAFETY: there is one thread (checked above), so the child's memory is consistent and any function may be called in it.
    match unsafe { nix::unistd::fork() }.map_err(Error::host(doing))? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        ForkResult::Child => Ok(Forked::Child),
    }
}
