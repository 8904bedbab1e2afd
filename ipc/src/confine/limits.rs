//! Resource limits and the flags of a process, and what it asks of the host without being told to.

use super::{ConfineError, Restrictions, host};
use nix::sys::{
    prctl,
    resource::{Resource, getrlimit, setrlimit},
    signal::{self, SigHandler, Signal},
};

/// Has the runtime libraries ask the host for no more than policies allow.
pub(super) fn make_predictable(threads: bool) {
    // Arenas of threads grow and shrink by mprotect and madvise, and would look for a file.
    if !threads {
        // SAFETY: sets a number, and there is one thread.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
    // std's handlers tell an overflow of a stack from other faults, by calls that no policy has. A fault just ends the process.
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: the default action runs no code.
        let _ = unsafe { signal::signal(signal, SigHandler::SigDfl) };
    }
}

/// Sets the limits, for good: soft and hard are the same.
pub(super) fn set(restrictions: &Restrictions<'_>) -> Result<(), ConfineError> {
    // A core file would hold guest memory.
    lower(Resource::RLIMIT_CORE, 0)?;
    lower(Resource::RLIMIT_NOFILE, restrictions.open_files)?;
    lower(Resource::RLIMIT_MSGQUEUE, 0)?;
    if let Some(bytes) = restrictions.file_size {
        lower(Resource::RLIMIT_FSIZE, bytes)?;
    }
    Ok(())
}

fn lower(resource: Resource, to: u64) -> Result<(), ConfineError> {
    let (_, hard) = getrlimit(resource).map_err(host("read a resource limit"))?;
    let to = to.min(hard);
    setrlimit(resource, to, to).map_err(host("set a resource limit"))
}

/// No program that is run from here on gets more than this process has; seccomp and Landlock ask for it.
pub(super) fn forbid_new_privileges() -> Result<(), ConfineError> {
    prctl::set_no_new_privs().map_err(host("forbid new privileges"))
}

/// Whether processes of the same user may trace this one.
pub(super) fn set_dumpable(dumpable: bool) -> Result<(), ConfineError> {
    prctl::set_dumpable(dumpable).map_err(host("close the process's memory to others"))
}
