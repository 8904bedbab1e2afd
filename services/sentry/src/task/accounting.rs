//! CPU time and run states: what getrusage(2), the CPU clocks, RLIMIT_CPU and /proc tell and need.
//!
//! User time is what the guest thread's host thread used; system time is how long the sentry polled the thread's calls.
//! Guest code that makes no calls is watched by [`CpuWatch`]: a timer on a worker looks at the CPU time of whoever has a limit.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;

use super::{Process, Task};
use crate::executor::{self, Executor, Timer};

/// CPU time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTimes {
    /// Guest code.
    pub user: u64,
    /// The sentry on its behalf.
    pub system: u64,
}

impl CpuTimes {
    /// Both.
    pub fn total(self) -> u64 {
        self.user.saturating_add(self.system)
    }
}

impl std::ops::Add for CpuTimes {
    type Output = CpuTimes;
    fn add(self, other: CpuTimes) -> CpuTimes {
        CpuTimes { user: self.user.saturating_add(other.user), system: self.system.saturating_add(other.system) }
    }
}

/// What a thread does, as /proc/PID/stat's third field has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RunState {
    /// R: runs guest code or a system call.
    Running = b'R',
    /// S: waits.
    Sleeping = b'S',
    /// T: stopped by a signal.
    Stopped = b'T',
    /// Z: has ended.
    Zombie = b'Z',
}

impl RunState {
    /// The letter of /proc.
    pub fn letter(self) -> u8 {
        self as u8
    }
    /// The word of /proc/PID/status.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Sleeping => "sleeping",
            RunState::Stopped => "stopped",
            RunState::Zombie => "zombie",
        }
    }
}

/// A thread's CPU time and state.
pub struct TaskCpu {
    system: AtomicU64,
    state: AtomicU8,
    /// Voluntary context switches: waits.
    waits: AtomicU64,
    /// The number of the call that it waited in last.
    waits_in: AtomicU64,
}

impl Default for TaskCpu {
    fn default() -> Self {
        TaskCpu { system: AtomicU64::new(0), state: AtomicU8::new(b'R'), waits: AtomicU64::new(0), waits_in: AtomicU64::new(0) }
    }
}

impl TaskCpu {
    /// What the thread does.
    pub fn state(&self) -> RunState {
        match self.state.load(Ordering::Relaxed) {
            b'S' => RunState::Sleeping,
            b'T' => RunState::Stopped,
            b'Z' => RunState::Zombie,
            _ => RunState::Running,
        }
    }
    pub(super) fn set_state(&self, state: RunState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
    /// Times that it waited (voluntary_ctxt_switches).
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }
}

impl TaskCpu {
    /// The number of the system call that the thread waits in, if it does.
    pub fn waits_in(&self) -> Option<u64> {
        (self.state() == RunState::Sleeping).then(|| self.waits_in.load(Ordering::Relaxed))
    }
}

impl Task {
    /// CPU time so far, also while it runs.
    pub fn cpu_times(&self) -> CpuTimes {
        CpuTimes { user: self.signals.user_time(), system: self.cpu.system.load(Ordering::Relaxed) }
    }

    /// Runs the future of the system call with this number, counting the time that its polls take and showing whether it waits. It began at `start`; the second
    /// value is when it ended.
    pub(super) async fn metered<T>(&self, start: u64, number: u64, future: impl Future<Output = T>) -> (T, u64) {
        Metered { task: self, start: Some(start), number, future: pin!(future) }.await
    }
}

thread_local! {
    static CURRENT: std::cell::Cell<Option<i32>> = const { std::cell::Cell::new(None) };
}

/// The thread whose system call this worker is polling now: for files whose contents depend on who reads (signalfd).
pub(crate) fn current_tid() -> Option<i32> {
    CURRENT.get()
}

struct Metered<'a, F> {
    task: &'a Task,
    start: Option<u64>,
    number: u64,
    future: Pin<&'a mut F>,
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = (F::Output, u64);
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let cpu = &self.task.cpu;
        cpu.set_state(RunState::Running);
        let start = self.start.take().unwrap_or_else(executor::instant);
        CURRENT.set(Some(self.task.tid()));
        let result = self.future.as_mut().poll(cx);
        CURRENT.set(None);
        let end = executor::instant();
        let cpu = &self.task.cpu;
        // Only the task itself, which is polled here, writes it.
        let used = cpu.system.load(Ordering::Relaxed) + end.saturating_sub(start);
        cpu.system.store(used, Ordering::Relaxed);
        if result.is_pending() {
            cpu.waits_in.store(self.number, Ordering::Relaxed);
            cpu.set_state(RunState::Sleeping);
            cpu.waits.fetch_add(1, Ordering::Relaxed);
        }
        result.map(|value| (value, end))
    }
}

/// A limit or timer in CPU time.
pub trait CpuAlarm: Send + Sync {
    /// Called on a worker, not before as much CPU time was used as it asked for the last time (and soon after). Acts if it is
    /// time to, and says how many nanoseconds of CPU time of `process` must pass before it need look again; `None`: no more.
    fn check(&self) -> Option<u64>;
    /// Whose CPU time it is about.
    fn process(&self) -> Option<Arc<Process>>;
}

/// Looks at CPU time while guests run, for those who asked.
#[derive(Default)]
pub struct CpuWatch {
    alarms: Arc<Mutex<Vec<Arc<dyn CpuAlarm>>>>,
    timer: Arc<std::sync::OnceLock<Timer>>,
}

/// Least distance of two looks.
const FINEST: u64 = 1_000_000;
/// Largest distance of two looks.
const COARSEST: u64 = 1_000_000_000;

impl CpuWatch {
    /// Looks at `alarm` from now on, until its check says `None`.
    pub fn watch(&self, alarm: Arc<dyn CpuAlarm>) {
        let timer = self.timer.get_or_init(|| {
            let (alarms, slot) = (self.alarms.clone(), Arc::downgrade(&self.timer));
            Timer::new(move || {
                if let Some(slot) = slot.upgrade()
                    && let Some(timer) = slot.get()
                {
                    look(&alarms, timer);
                }
            })
        });
        let mut alarms = self.alarms.lock();
        alarms.push(alarm);
        timer.arm(executor::now().saturating_add(FINEST));
    }
}

/// Checks all alarms and sets the timer for the next time.
fn look(alarms: &Mutex<Vec<Arc<dyn CpuAlarm>>>, timer: &Timer) {
    let mut next = None;
    let mut kept = Vec::new();
    // Not under the lock: an alarm that acts may add another.
    let present = std::mem::take(&mut *alarms.lock());
    for alarm in present {
        if let Some(left) = alarm.check() {
            // With n threads on as many CPUs, n times as much CPU time passes as real time.
            let threads = alarm.process().map_or(1, |process| process.threads().len()).clamp(1, Executor::cpus().max(1));
            let wait = (left / threads as u64).clamp(FINEST, COARSEST);
            next = Some(next.map_or(wait, |other: u64| other.min(wait)));
            kept.push(alarm);
        }
    }
    let mut alarms = alarms.lock();
    if !alarms.is_empty() {
        next = Some(FINEST);
    }
    alarms.extend(kept);
    if let Some(next) = next {
        timer.arm(executor::now().saturating_add(next));
    }
}
