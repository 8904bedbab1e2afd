//! The one guest kernel of this process: what tasks share.

use std::sync::Arc;

use crate::{fs::vfs::VfsClient, memory::MemoryFile, platform::Platform, task::PidTable};

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
    /// Host name and domain name.
    pub uts: parking_lot::RwLock<Uts>,
    /// What the supervisor said (limits, masked paths, sysctls).
    pub settings: bulkhead_ipc::setup::SentrySetup,
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
