//! A thread group: what its threads share beyond what clone(2) lets them share piecewise.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};

use super::{CpuTimes, Limits, Task};
use crate::{
    executor::{Readiness, WaitQueue},
    fs::OpenFile,
    kernel::Kernel,
    signal::{GroupState, ProcessSignals},
    time::ProcessTimers,
    tty::Pty,
};

/// A thread group.
pub struct Process {
    /// Process id (the leader's tid).
    pub pid: i32,
    /// Signals sent to the process, and the actions its threads share.
    pub signals: ProcessSignals,
    /// The kernel.
    pub kernel: Arc<Kernel>,
    /// Interval timers and POSIX timers.
    pub timers: ProcessTimers,
    /// Resource limits.
    pub limits: Mutex<Limits>,
    /// Threads that have not begun to exit.
    threads: Mutex<Vec<Arc<Task>>>,
    /// Woken when a child of this process changes state.
    pub child_events: Arc<WaitQueue>,
    /// Woken (HUP and IN) when this process has become a zombie, and when one of its threads has exited.
    pub exit_events: Arc<WaitQueue>,
    /// What the parent gets when this process ends (SIGCHLD, mostly); 0 for nothing.
    pub exit_signal: AtomicI32,
    /// PR_SET_CHILD_SUBREAPER.
    pub child_subreaper: AtomicBool,
    /// PR_SET_DUMPABLE.
    pub dumpable: AtomicI32,
    /// /proc/self/oom_score_adj.
    pub oom_score_adjust: AtomicI32,
    /// Whether it has called execve since it was forked (setpgid(2) asks).
    pub(super) has_executed: AtomicBool,
    /// Its controlling terminal.
    pub terminal: Mutex<Option<Arc<Pty>>>,
    /// The foreground group of a session's terminal that was hung up, which is told when the session's leader ends; 0 for none.
    pub earlier_foreground: AtomicI32,
    /// The program, for /proc/self/exe.
    pub executable: RwLock<Option<Arc<OpenFile>>>,
    /// A thread carries out execve and waits for the others to end.
    pub(super) executing: AtomicBool,
    /// The wait status that the leader's exit(2) gives, for a process that ends by its threads ending one by one.
    pub(super) leader_status: AtomicI32,
    /// CPU time of threads that have ended.
    pub(super) ended_threads: Mutex<CpuTimes>,
    /// CPU time of children that were waited for, and theirs.
    pub(super) waited_children: Mutex<CpuTimes>,
    /// Largest resident size so far, in bytes, of this process's memory as it ended.
    pub(crate) peak_resident: AtomicU64,
    /// The same of children that were waited for.
    pub(crate) children_peak_resident: AtomicU64,
    /// When it was made, executor time.
    pub started: u64,
    /// For a process that `exec` made: called with its wait status when it has ended.
    pub(super) on_end: Mutex<Option<OnEnd>>,
}

/// See [`Process::on_end`].
pub(super) type OnEnd = Box<dyn FnOnce(i32) + Send>;

/// Something that happens once and can be waited for.
#[derive(Default)]
pub(super) struct Completion {
    done: AtomicBool,
    queue: Arc<WaitQueue>,
}

impl Completion {
    pub fn complete(&self) {
        self.done.store(true, Ordering::Release);
        self.queue.wake(Readiness::all());
    }
    pub async fn wait(&self) {
        crate::executor::wait_for(&self.queue, Readiness::IN, || self.done.load(Ordering::Acquire).then_some(())).await
    }
}

impl Process {
    /// A process without threads, not yet in the pid table.
    pub(super) fn new(kernel: &Arc<Kernel>, pid: i32, signals: ProcessSignals, limits: Limits, exit_signal: i32) -> Process {
        Process {
            pid,
            signals,
            kernel: kernel.clone(),
            timers: ProcessTimers::default(),
            limits: Mutex::new(limits),
            threads: Mutex::default(),
            child_events: Arc::default(),
            exit_events: Arc::default(),
            exit_signal: AtomicI32::new(exit_signal),
            child_subreaper: AtomicBool::new(false),
            dumpable: AtomicI32::new(1),
            oom_score_adjust: AtomicI32::new(0),
            has_executed: AtomicBool::new(false),
            executing: AtomicBool::new(false),
            terminal: Mutex::default(),
            earlier_foreground: AtomicI32::new(0),
            leader_status: AtomicI32::new(0),
            executable: RwLock::new(None),
            ended_threads: Mutex::default(),
            waited_children: Mutex::default(),
            peak_resident: AtomicU64::new(0),
            children_peak_resident: AtomicU64::new(0),
            started: crate::executor::now(),
            on_end: Mutex::new(None),
        }
    }

    /// Its threads that have not begun to exit, oldest first (the leader first while it lives).
    pub fn threads(&self) -> Vec<Arc<Task>> {
        self.threads.lock().clone()
    }
    /// Calls `f` with the threads, without copying the list. `f` may take locks of tasks only.
    pub fn with_threads<T>(&self, f: impl FnOnce(&[Arc<Task>]) -> T) -> T {
        f(&self.threads.lock())
    }
    /// Number of threads.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }
    /// The leader, or the oldest thread if it has ended. `None` when all have.
    pub fn leader(&self) -> Option<Arc<Task>> {
        self.threads.lock().first().cloned()
    }
    /// Adds a thread; false when the group is exiting already, or is to have but one.
    pub(super) fn add_thread(&self, task: Arc<Task>) -> bool {
        let mut threads = self.threads.lock();
        if self.signals.exit_status().is_some() || self.executing.load(Ordering::SeqCst) {
            return false;
        }
        threads.push(task);
        true
    }
    /// Takes a thread out; how many are left.
    pub(super) fn remove_thread(&self, task: &Arc<Task>) -> usize {
        let mut threads = self.threads.lock();
        threads.retain(|other| !Arc::ptr_eq(other, task));
        threads.len()
    }

    /// Whether it is stopped, every thread.
    pub fn is_stopped(&self) -> bool {
        matches!(self.signals.group_state(), GroupState::Stopped(_))
    }

    /// CPU time of all its threads, living and ended.
    pub fn cpu_times(&self) -> CpuTimes {
        let ended = *self.ended_threads.lock();
        self.threads.lock().iter().fold(ended, |sum, task| sum + task.cpu_times())
    }
    /// CPU time of children that were waited for, and theirs.
    pub fn children_cpu_times(&self) -> CpuTimes {
        *self.waited_children.lock()
    }
}
