//! The sentry's own executor: one pinned worker thread per CPU polls guest tasks (futures) and takes posted contexts.
//!
//! Owns the worker threads, timers, wait queues, the small pool for host calls that may sleep, and the host fd poller. Knows
//! nothing of guests: where guest threads post is behind [`Posts`].
//!
//! Invariants: a woken task is polled by the worker that woke it, next; nothing here spins (a task may, within one poll, while
//! [`has_work`] says that nobody else needs its worker); a worker sleeps only when it has looked at everything that could wake it
//! after it said that it sleeps; no callback runs under a lock of this module.

mod blocking;
mod clock;
mod futex;
mod poller;
mod sleep;
mod timer;
mod wait;
mod worker;

use std::{future::Future, time::Duration};

pub use blocking::blocking;
pub(crate) use blocking::submit;
pub use clock::instant;
pub(crate) use futex::futex_wake;
pub use poller::HostPoller;
pub use timer::{Timer, sleep_until};
pub use wait::{Registration, WaitQueue, Watcher, wait_for};
pub(crate) use worker::{Posts, asleep, configure, current as current_worker, has_work, pin_thread, turn, unpin_thread, wake};

bitflags::bitflags! {
    /// Readiness, as poll(2) has it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct Readiness: u32 {
        /// There is something to read.
        const IN = 0x1;
        /// Something urgent.
        const PRI = 0x2;
        /// It can be written.
        const OUT = 0x4;
        /// An error; always reported.
        const ERR = 0x8;
        /// The other side is gone; always reported.
        const HUP = 0x10;
        /// Not an open fd.
        const NVAL = 0x20;
        /// As IN.
        const RDNORM = 0x40;
        /// Priority data to read.
        const RDBAND = 0x80;
        /// As OUT.
        const WRNORM = 0x100;
        /// Priority data can be written.
        const WRBAND = 0x200;
        /// Unused.
        const MSG = 0x400;
        /// The other side writes no more.
        const RDHUP = 0x2000;
    }
}

/// CLOCK_MONOTONIC of the host in nanoseconds: the executor's time.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// A duration to an absolute deadline, saturating.
pub fn deadline_after(duration: Duration) -> u64 {
    now().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// The workers. They start with the first task or timer, so that they inherit what the process locked itself down to; without
/// a platform (unit tests) there is one, which is not pinned.
pub struct Executor {}

impl Executor {
    /// Starts a future on the worker with this index; it may run on others later.
    pub fn spawn(cpu: usize, future: impl Future<Output = ()> + Send + 'static) {
        worker::spawn(cpu, future);
    }
    /// The index of the worker this is called on; 0 elsewhere.
    pub fn current_cpu() -> usize {
        worker::current().unwrap_or(0)
    }
    /// Number of workers.
    pub fn cpus() -> usize {
        worker::count()
    }
    /// Where a new guest thread should live: with whoever makes it, because the two will speak with each other, and a
    /// hand-over on one CPU is ten times cheaper than one across. A home with more to compute than one CPU can is relieved later.
    /// Off the workers (a sandbox's first thread), any: so that many sandboxes do not all begin at the first CPU.
    pub fn choose_home() -> usize {
        worker::current().unwrap_or_else(|| (now() >> 10) as usize % worker::count())
    }
    /// Runs a future on the calling thread, which sleeps meanwhile; not for workers (start-up, tests).
    pub fn block_on<T>(future: impl Future<Output = T>) -> T {
        worker::block_on(future)
    }
}
