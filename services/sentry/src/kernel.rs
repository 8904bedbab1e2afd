//! The one guest kernel of this process: what tasks share.

use std::sync::Arc;

use crate::{
    fs::vfs::VfsClient,
    futex::FutexTable,
    memory::MemoryFile,
    platform::Platform,
    task::{CpuWatch, PidTable},
};

/// The guest kernel. Made once at start-up, before the first task.
pub struct Kernel {
    /// Where guest code runs.
    pub platform: Arc<Platform>,
    /// All guest memory.
    pub memory: Arc<MemoryFile>,
    /// vfs.
    pub vfs: Arc<VfsClient>,
    /// Processes, process groups and sessions by number.
    pub pids: PidTable,
    /// Who waits on which futex word.
    pub futexes: FutexTable,
    /// Looks after limits and timers in CPU time.
    pub cpu_watch: CpuWatch,
    /// Who traces system calls.
    pub tracer: Arc<crate::trace::Tracer>,
    /// What /proc remembers.
    pub proc: crate::procfs::ProcState,
    /// Pseudo-terminals.
    pub terminals: crate::tty::Terminals,
    /// Address families.
    pub sockets: crate::socket::Sockets,
    /// Host name and domain name.
    pub uts: parking_lot::RwLock<Uts>,
    /// What the supervisor said (limits, masked paths, sysctls).
    pub settings: bulkhead_ipc::setup::SentrySetup,
    /// Which system calls may be made (OCI linux.seccomp); `None`: all.
    pub filter: Option<crate::syscalls::filter::Filter>,
    /// Called with init's wait status when it has ended and nothing else runs any more.
    pub on_exit: Box<dyn Fn(i32) + Send + Sync>,
    /// When the container started, CLOCK_MONOTONIC nanoseconds of the host.
    pub boot: u64,
}

/// uname(2)'s settable part.
#[derive(Clone, Debug, Default)]
pub struct Uts {
    /// sethostname(2).
    pub hostname: Vec<u8>,
    /// setdomainname(2).
    pub domainname: Vec<u8>,
}

/// What `uname -r` says.
pub const RELEASE: &str = "6.12.0-bulkhead";

/// What `uname -v` says.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC";
