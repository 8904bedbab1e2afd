//! Tasks (guest threads), processes (thread groups), process groups and sessions.
//!
//! A guest thread is one future ([`run`]) that owns a [`Thread`]; what others may see of it is its [`Task`]. Threads of one
//! group share a [`Process`]. [`PidTable`] knows all of them by number and holds what relates processes to each other: parents
//! and children, groups, sessions, zombies.
//!
//! Invariants:
//! - A task is in its process's thread list and in the pid table from before it first runs until its exit has begun.
//! - A process is in the pid table until its parent has waited for it (or did not want to know).
//! - Whoever makes a task's state change what it should do next (a signal, an exit, a stop) first writes the state, then calls
//!   `task.signals.kick()`; the task looks at its state after it has said that it will run guest code, so nothing is lost.
//! - Lock order: pid table, process (threads, limits, signals), task. Nothing that holds a lock of a process or task calls
//!   into the pid table; nothing sends a signal while it holds the pid table.
//!
//! What /proc reads: [`PidTable::processes`], [`Process::threads`], [`PidTable::relations`], [`PidTable::ended`] (of a zombie),
//! [`TaskCpu::state`] (R, S, T, Z), [`Task::cpu_times`], [`Process::cpu_times`], [`Process::children_cpu_times`] and `started`.

mod accounting;
pub(crate) mod clone;
pub(crate) mod cpu_limit;
pub(crate) mod credentials;
pub(crate) mod exec;
pub(crate) mod exit;
mod groups;
mod home;
mod init;
pub(crate) mod limits;
mod pidfd;
mod pids;
mod process;
mod run;
pub(crate) mod wait;

use std::sync::{
    Arc,
    atomic::{AtomicI32, AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};

pub(crate) use accounting::current_tid;
pub use accounting::{CpuAlarm, CpuTimes, CpuWatch, RunState, TaskCpu};
pub use credentials::{Credentials, capability};
pub(crate) use exit::INIT;
pub use init::{Prepared, StartError, enter, prepare, start_with};
pub use limits::Limits;
pub use pidfd::PidFd;
pub use pids::{Ended, PID_MAX, PidTable, Relations};
pub use process::Process;

use crate::{
    fs::{FdTable, FsContext},
    kernel::Kernel,
    memory::AddressSpace,
    platform::{Context, Registers},
    signal::TaskSignals,
};

/// One guest thread, as its own future sees it: what only it may touch. Handlers get `&mut Thread`.
pub struct Thread {
    /// What others may see too.
    pub task: Arc<Task>,
    /// Registers at the trap; what a handler changes takes effect at resume. The return value is put into rax by the caller.
    pub registers: Registers,
    /// The CPU.
    pub context: Context,
    /// The number of the system call that the guest is in, from the trap until its signals were delivered: what a restart puts
    /// back into rax. `None` after a fault or an interruption, and after a call that sets all registers (rt_sigreturn, execve).
    pub call: Option<u64>,
    /// What exit(2) was given.
    pub exit_code: i32,
}

impl std::ops::Deref for Thread {
    type Target = Task;
    fn deref(&self) -> &Task {
        &self.task
    }
}

/// A guest thread as others see it.
pub struct Task {
    /// See [`Task::tid`].
    tid: AtomicI32,
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
    /// Signals sent to this thread, its mask, its alternate stack.
    pub signals: TaskSignals,
    /// CPU time and run state.
    pub cpu: TaskCpu,
    /// set_tid_address(2): cleared and futex-woken when the thread ends.
    pub clear_child_tid: AtomicU64,
    /// set_robust_list(2).
    pub robust_list: AtomicU64,
    /// PR_SET_PDEATHSIG; 0 for none.
    pub parent_death_signal: AtomicI32,
    /// Niceness, policy, affinity: kept and told, not acted upon (the host schedules), but for the affinity.
    pub scheduling: Mutex<Scheduling>,
    /// personality(2).
    pub personality: AtomicU64,
    /// When it was made, executor time.
    pub started: u64,
    /// Set on the child of a vfork(2): told when the child no longer uses the parent's memory.
    vfork: Mutex<Option<Arc<process::Completion>>>,
}

/// What sched_setscheduler(2), setpriority(2), ioprio_set(2), sched_setaffinity(2) set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scheduling {
    /// SCHED_*.
    pub policy: i32,
    /// Real-time priority.
    pub priority: i32,
    /// -20..=19.
    pub nice: i32,
    /// SCHED_RESET_ON_FORK.
    pub reset_on_fork: bool,
    /// ioprio_set(2)'s value.
    pub io_priority: i32,
    /// Allowed CPUs, as a bit mask over the guest's CPUs.
    pub affinity: u64,
    /// PR_SET_TIMERSLACK in nanoseconds.
    pub timer_slack: u64,
}

impl Default for Scheduling {
    fn default() -> Self {
        Scheduling {
            policy: libc::SCHED_OTHER,
            priority: 0,
            nice: 0,
            reset_on_fork: false,
            io_priority: 0,
            affinity: u64::MAX,
            timer_slack: 50_000,
        }
    }
}

impl Task {
    /// Thread id. It changes once at most: the thread that carries out execve(2) in a group takes the leader's.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }
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
        self.process.limits.lock().get(resource)
    }
    /// The task that a pid argument means: 0 is the caller itself.
    pub fn find(self: &Arc<Self>, tid: i32) -> Result<Arc<Task>, bulkhead_ipc::Errno> {
        match tid {
            0 => Ok(self.clone()),
            tid if tid < 0 => Err(bulkhead_ipc::Errno::EINVAL),
            tid => self.kernel.pids.task(tid).ok_or(bulkhead_ipc::Errno::ESRCH),
        }
    }
    /// Whether the thread is to exit: its group exits, or another thread of it carries out execve.
    pub fn must_exit(&self) -> bool {
        self.signals.is_ending() || self.process.signals.exit_status().is_some()
    }
}
