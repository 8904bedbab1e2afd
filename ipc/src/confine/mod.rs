//! What a service takes away from itself before it serves.
//!
//! The supervisor cloned it into fresh namespaces, in which it still sees the host's mounts. [`Confinement::prepare`] makes its
//! root empty, drops capabilities and sets limits and Landlock rules; [`Confinement::seal`] installs the seccomp filter. Between
//! the two a service starts what it needs and could not start later: threads, mappings, the sentry's stubs.
//!
//! Invariants: `prepare` runs while the process has one thread (capabilities and Landlock are a thread's own, and threads that
//! start later inherit them). Nothing that this module takes away comes back. A step that fails ends the service: there is no
//! running with less.
//!
//! What runs under the seal passes it on: every process and thread made after it is bound by the same filter, and of two
//! filters the stricter answer counts. A process that needs other calls (the sentry's stubs) has to be made before.

mod capabilities;
mod constants;
mod denied;
mod landlock;
mod limits;
pub mod policy;
mod root;
mod syscalls;

pub use capabilities::Capability;
pub use landlock::Files;
pub use policy::{Policy, PolicyError};
pub use syscalls::name_of as syscall_name;

use crate::Errno;

/// What a service may keep. The default is the least that any of them has.
#[derive(Clone, Copy, Debug)]
pub struct Restrictions<'a> {
    /// Capabilities it keeps (within its user namespace).
    pub capabilities: &'a [Capability],
    /// RLIMIT_NOFILE, as far as the host's hard limit allows.
    pub open_files: u64,
    /// RLIMIT_FSIZE, if any: also bounds memory files that are resized.
    pub file_size: Option<u64>,
    /// Whether processes of the same user may look into its memory, as the sentry has to with its stubs.
    pub dumpable: bool,
    /// Whether it may signal processes that it made before, as the sentry has to with its stubs. (Others it does not see: it is in
    /// a pid namespace of its own.)
    pub signals: bool,
    /// Whether it starts threads after it is sealed, as its policy then has to allow (`include threads`).
    pub threads: bool,
    /// What Landlock lets it reach by path.
    pub files: Files<'a>,
}

impl Default for Restrictions<'_> {
    fn default() -> Self {
        Restrictions {
            capabilities: &[],
            open_files: 1024,
            file_size: None,
            dumpable: false,
            signals: false,
            threads: false,
            files: Files::None,
        }
    }
}

/// Why a service could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A host call failed.
    #[error("cannot {0}: {1}")]
    Host(&'static str, Errno),
    /// Landlock refused the rules.
    #[error("cannot set up Landlock: {0}")]
    Landlock(String),
    /// The policy's text is wrong.
    #[error("the seccomp policy is wrong: {0}")]
    Policy(#[from] PolicyError),
    /// The seccomp filter was refused.
    #[error("cannot install the seccomp filter: {0}")]
    Seccomp(String),
    /// It is too late.
    #[error("the process has more than one thread already")]
    Threads,
}

/// A service that has given up what it had, but can still make any system call.
#[derive(Debug)]
#[must_use = "a service serves only when it is sealed"]
pub struct Confinement {
    landlock: bool,
}

impl Confinement {
    /// Everything but the seccomp filter.
    pub fn prepare(restrictions: &Restrictions<'_>) -> Result<Confinement, ConfineError> {
        if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
            return Err(ConfineError::Threads);
        }
        limits::make_predictable(restrictions.threads);
        root::make_empty()?;
        limits::set(restrictions)?;
        capabilities::keep_only(restrictions.capabilities)?;
        limits::forbid_new_privileges()?;
        let landlock = landlock::restrict(restrictions.files, restrictions.signals)?;
        limits::set_dumpable(restrictions.dumpable)?;
        Ok(Confinement { landlock })
    }

    /// Whether the host has Landlock and it is in force.
    pub fn has_landlock(&self) -> bool {
        self.landlock
    }

    /// Installs the filter for every thread of the process.
    pub fn seal(self, policy: &Policy) -> Result<(), ConfineError> {
        let program = policy.compile()?;
        denied::report_and_die()?;
        seccompiler::apply_filter_all_threads(&program).map_err(|e| ConfineError::Seccomp(e.to_string()))
    }
}

fn host(doing: &'static str) -> impl Fn(nix::errno::Errno) -> ConfineError {
    move |errno| ConfineError::Host(doing, errno.into())
}

#[cfg(test)]
mod tests;
