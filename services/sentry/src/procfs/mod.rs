//! File systems that are views of the sentry's own state: proc(5), sysfs, mqueue and cgroup (and devpts, see [`crate::tty`]).
//!
//! A node holds what it needs to make its text when it is read; nothing is cached but within one open file, from one read at
//! offset 0 to the next. What walks through the nodes, checks permissions and lists directories is [`crate::fs::special`].

mod facts;
mod load;
mod network;
mod node;
mod pids;
mod process;
mod root;
mod sysctl;
mod sysfs;
mod system;
mod text;

use std::sync::Arc;

use bulkhead_ipc::vfs::ForeignFs;

pub use facts::HostFacts;
pub use load::LoadAverage;
pub(crate) use root::number;
pub use system::VERSION;

use crate::{fs::special::SpecialNode, kernel::Kernel, task::Thread, tty::devpts};

/// What /proc remembers, besides what it reads from the rest of the kernel.
#[derive(Debug)]
pub struct ProcState {
    /// Facts about the CPUs.
    pub facts: HostFacts,
    /// /proc/loadavg.
    pub load: LoadAverage,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
}

impl ProcState {
    /// At start-up, while the host's /proc can be seen; `now` is executor time.
    pub fn new(now: u64) -> ProcState {
        ProcState { facts: HostFacts::read(), load: LoadAverage::new(now), boot_id: random_uuid() }
    }
}

/// The root directory of a file system.
pub fn root(thread: &Thread, fs: ForeignFs) -> Option<Arc<dyn SpecialNode>> {
    Some(match fs {
        ForeignFs::Proc => Arc::new(root::Root::new(thread.kernel.clone())),
        ForeignFs::Sysfs => sysfs::root(&thread.kernel),
        ForeignFs::Devpts => Arc::new(devpts::Root::new(thread.kernel.terminals.devpts(&thread.kernel))),
        ForeignFs::Mqueue => node::directory(ForeignFs::Mqueue, 0o1777),
        ForeignFs::Cgroup => node::directory(ForeignFs::Cgroup, 0o555),
    })
}

/// Times as /proc gives them.
struct Clock {
    boot: u64,
    now: u64,
}

impl Clock {
    fn new(kernel: &Kernel) -> Clock {
        Clock { boot: kernel.boot, now: crate::executor::now() }
    }
    /// Nanoseconds since the container started.
    fn uptime(&self) -> u64 {
        self.now.saturating_sub(self.boot)
    }
    /// A moment of executor time as nanoseconds since the container started.
    fn since_boot(&self, moment: u64) -> u64 {
        moment.saturating_sub(self.boot)
    }
    /// Nanoseconds in clock ticks of USER_HZ = 100.
    fn ticks(nanoseconds: u64) -> u64 {
        nanoseconds / 10_000_000
    }
}

/// A random (version 4) UUID in text form.
fn random_uuid() -> String {
    let mut bytes = [0u8; 16];
    // It is an identifier, not a secret; where the host has no randomness yet it stays zero.
    let _ = crate::fs::host_io::random_bytes(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
