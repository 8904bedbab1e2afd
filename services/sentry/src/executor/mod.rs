//! The sentry's own executor: one pinned worker thread per CPU polls guest tasks (futures) and takes posted contexts.

use std::{future::Future, sync::Arc, task::Waker, time::Duration};

bitflags::bitflags! {
    /// Readiness, as poll(2) has it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    #[allow(missing_docs)]
    pub struct Readiness: u32 {
        const IN = 0x001; const PRI = 0x002; const OUT = 0x004; const ERR = 0x008; const HUP = 0x010; const NVAL = 0x020;
        const RDNORM = 0x040; const RDBAND = 0x080; const WRNORM = 0x100; const WRBAND = 0x200; const MSG = 0x400; const RDHUP = 0x2000;
    }
}

/// Somebody who wants to be told of every wake-up of a queue (epoll).
pub trait Watcher: Send + Sync {
    /// The queue was woken with these events. Called without the queue's lock; must not block.
    fn notify(&self, events: Readiness);
}

/// Those who wait for something to change.
#[derive(Default)]
pub struct WaitQueue {}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        WaitQueue {}
    }
    /// Wakes everybody who waits for any of these events (HUP and ERR wake all).
    pub fn wake(&self, events: Readiness) {
        let _ = events;
        todo!()
    }
    /// Registers a waker until the registration is dropped.
    pub fn register(self: &Arc<Self>, interest: Readiness, waker: &Waker) -> Registration {
        let _ = (interest, waker);
        todo!()
    }
    /// Registers a watcher until the registration is dropped.
    pub fn watch(self: &Arc<Self>, interest: Readiness, watcher: Arc<dyn Watcher>) -> Registration {
        let _ = (interest, watcher);
        todo!()
    }
}

/// Keeps a place in a [`WaitQueue`].
pub struct Registration {}

/// Waits until `check` gives a value; it is called first at once, and again after every wake-up of the queue with one of the
/// events of `interest`. No wake-up is lost.
pub async fn wait_for<T>(queue: &Arc<WaitQueue>, interest: Readiness, check: impl FnMut() -> Option<T>) -> T {
    let _ = (queue, interest, check);
    todo!()
}

/// CLOCK_MONOTONIC of the host in nanoseconds: the executor's time.
pub fn now() -> u64 {
    todo!()
}

/// Completes when [`now`] has reached `deadline` (nanoseconds).
pub async fn sleep_until(deadline: u64) {
    let _ = deadline;
    todo!()
}

/// A timer that calls back on a worker. Re-armed at will; dropping it disarms.
pub struct Timer {}

impl Timer {
    /// Disarmed. `fire` runs on a worker and must not block.
    pub fn new(fire: impl Fn() + Send + Sync + 'static) -> Timer {
        let _ = fire;
        todo!()
    }
    /// Fires once when [`now`] reaches `deadline`; replaces an earlier one.
    pub fn arm(&self, deadline: u64) {
        let _ = deadline;
        todo!()
    }
    /// Disarms.
    pub fn disarm(&self) {
        todo!()
    }
}

/// The workers.
pub struct Executor {}

impl Executor {
    /// Starts a future on the worker with this index; it may run on others later.
    pub fn spawn(cpu: usize, future: impl Future<Output = ()> + Send + 'static) {
        let _ = (cpu, future);
        todo!()
    }
    /// The index of the worker this is called on; 0 elsewhere.
    pub fn current_cpu() -> usize {
        todo!()
    }
    /// Number of workers.
    pub fn cpus() -> usize {
        todo!()
    }
    /// Where a new guest thread should live.
    pub fn choose_home() -> usize {
        todo!()
    }
}

/// Runs `work`, which may sleep on the host (a disk), on a small pool of threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _ = work;
    todo!()
}

/// Watches host fds (container stdio, donated ones) and wakes a queue when they become ready.
pub struct HostPoller {}

impl HostPoller {
    /// Wakes `queue` whenever `fd` may have become ready for `interest` (one shot: call again after each would-block).
    pub fn arm(fd: std::os::fd::RawFd, interest: Readiness, queue: Arc<WaitQueue>) {
        let _ = (fd, interest, queue);
        todo!()
    }
}

/// A duration to an absolute deadline, saturating.
pub fn deadline_after(duration: Duration) -> u64 {
    now().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
