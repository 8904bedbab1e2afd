//! Tasks (guest threads), processes (thread groups), process groups and sessions.

use std::{future::Future, sync::Arc};

use bulkhead_ipc::Errno;
use parking_lot::{Mutex, RwLock};

use crate::{
    fs::{FdTable, FsContext},
    kernel::Kernel,
    memory::AddressSpace,
    platform::{Context, Registers},
    signal::{SignalInfo, SignalSet},
};

/// One guest thread, as its own future sees it: what only it may touch. Handlers get `&mut Thread`.
pub struct Thread {
    /// What others may see too.
    pub task: Arc<Task>,
    /// Registers at the trap; what a handler changes takes effect at resume. The return value is put into rax by the caller.
    pub registers: Registers,
    /// The CPU.
    pub context: Context,
}

impl std::ops::Deref for Thread {
    type Target = Task;
    fn deref(&self) -> &Task {
        &self.task
    }
}

/// A guest thread as others see it.
pub struct Task {
    /// Thread id.
    pub tid: i32,
    /// Its thread group.
    pub process: Arc<Process>,
    /// The kernel.
    pub kernel: Arc<Kernel>,
    /// Memory; replaced by execve.
    pub memory: RwLock<Arc<AddressSpace>>,
    /// Open files (CLONE_FILES shares the table).
    pub files: RwLock<Arc<FdTable>>,
    /// Root, working directory, umask (CLONE_FS shares).
    pub fs: RwLock<Arc<FsContext>>,
    /// Credentials; replaced as a whole.
    pub credentials: RwLock<Arc<Credentials>>,
    /// PR_SET_NAME, at most 15 bytes.
    pub name: Mutex<Vec<u8>>,
}

/// A thread group.
pub struct Process {
    /// Process id (the leader's tid).
    pub pid: i32,
}

/// Processes, groups and sessions by number.
pub struct PidTable {}

/// credentials(7), immutable: a change makes a new one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    pub capabilities: bulkhead_ipc::setup::CapabilitySets,
    pub securebits: u32,
    pub no_new_privileges: bool,
}

impl Credentials {
    /// Whether the effective set has this capability (a `CAP_*` number from capabilities(7)).
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities.effective & (1 << capability) != 0
    }
}

impl Task {
    /// The current memory.
    pub fn memory(&self) -> Arc<AddressSpace> {
        self.memory.read().clone()
    }
    /// The current fd table.
    pub fn files(&self) -> Arc<FdTable> {
        self.files.read().clone()
    }
    /// The current fs context.
    pub fn fs(&self) -> Arc<FsContext> {
        self.fs.read().clone()
    }
    /// The current credentials.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.read().clone()
    }
    /// A resource limit's (soft, hard) values, RLIMIT_*.
    pub fn limit(&self, resource: u32) -> (u64, u64) {
        let _ = resource;
        todo!()
    }
    /// Whether a signal waits that would be delivered now, or the thread is to exit.
    pub fn has_pending_signal(&self) -> bool {
        todo!()
    }
    /// Sends to this thread.
    pub fn send_signal(&self, info: SignalInfo) {
        let _ = info;
        todo!()
    }

    /// Waits for `future`, or for a signal: `Err(ERESTARTSYS)` then (callers map it to the right restart code).
    pub async fn interruptible<T>(&self, future: impl Future<Output = T>) -> Result<T, Errno> {
        let _ = future;
        todo!()
    }
    /// As `interruptible`, with a deadline in executor time (`None` waits for ever): `Ok(None)` when it passed.
    pub async fn interruptible_until<T>(
        &self,
        deadline: Option<u64>,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, Errno> {
        let _ = (deadline, future);
        todo!()
    }
    /// Replaces the signal mask until the current system call has ended and its signals were delivered (ppoll, sigsuspend).
    pub fn set_temporary_mask(&self, mask: SignalSet) {
        let _ = mask;
        todo!()
    }
}

impl Process {
    /// Sends to the process: any thread that does not block it takes it.
    pub fn send_signal(&self, info: SignalInfo) {
        let _ = info;
        todo!()
    }
}
