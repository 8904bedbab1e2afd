//! fork(2) while this process has one thread, and what the child should not have of its parent.

use std::os::fd::RawFd;

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

/// Closes the fds beyond stdio that this process inherited from whoever started it, so that a supervisor does not hold its
/// caller's pipes open. Ours are close-on-exec, as everything in Rust is; what came through exec(2) is not.
pub fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|&fd| fd > 2) {
        // SAFETY: asks for the flags of a number; the fd is closed only if nothing in this process owns it (see above).
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFD);
            if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
                libc::close(fd);
            }
        }
    }
}
