//! timerfd_create(2): expiries of a timer as a file.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::{Errno, vfs::Attributes};
use parking_lot::Mutex;

use super::{FileOps, Offset, OpenFile, UserBuffers, anonymous};
use crate::{
    executor::{self, Readiness, Timer, WaitQueue},
    task::Thread,
    time::{Clock, Schedule},
};

const SIZE: usize = size_of::<u64>();

struct State {
    /// In executor time.
    schedule: Schedule,
    /// Expiries that were not read.
    expired: u64,
}

/// A timerfd.
pub struct TimerFd {
    clock: Clock,
    state: Mutex<State>,
    timer: Timer,
    queue: Arc<WaitQueue>,
}

impl TimerFd {
    /// Disarmed.
    pub fn new(clock: Clock) -> Arc<TimerFd> {
        let queue = Arc::new(WaitQueue::new());
        let woken = queue.clone();
        Arc::new(TimerFd {
            clock,
            state: Mutex::new(State { schedule: Schedule::default(), expired: 0 }),
            // Only wakes: who looks counts. It is armed again by a read, as under Linux.
            timer: Timer::new(move || woken.wake(Readiness::IN | Readiness::RDNORM)),
            queue,
        })
    }

    /// timerfd_settime(2): expires at or after `value` (0 disarms), then every `interval`; what was set before is returned.
    pub fn set(&self, value: u64, absolute: bool, interval: u64) -> (u64, u64) {
        let before = self.get();
        let next =
            (value != 0).then(|| if absolute { self.clock.to_executor(value) } else { executor::now().saturating_add(value) });
        *self.state.lock() = State { schedule: Schedule { next, interval }, expired: 0 };
        self.arm(next);
        before
    }

    /// timerfd_gettime(2): (remaining, interval).
    pub fn get(&self) -> (u64, u64) {
        let now = executor::now();
        let mut state = self.state.lock();
        state.count(now);
        (state.schedule.remaining(now), state.schedule.interval)
    }

    fn arm(&self, next: Option<u64>) {
        match next {
            Some(next) => self.timer.arm(next),
            None => self.timer.disarm(),
        }
    }

    /// Takes the expiries; EAGAIN when there are none.
    fn take(&self) -> Result<u64, Errno> {
        let (taken, next) = {
            let mut state = self.state.lock();
            state.count(executor::now());
            (std::mem::take(&mut state.expired), state.schedule.next)
        };
        if taken == 0 {
            return Err(Errno::EAGAIN);
        }
        self.arm(next);
        Ok(taken)
    }
}

impl State {
    fn count(&mut self, now: u64) {
        self.expired = self.expired.saturating_add(self.schedule.take_due(now));
    }
}

impl FileOps for TimerFd {
    fn read(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        if buffers.remaining() < SIZE {
            return Err(Errno::EINVAL);
        }
        let taken = self.take()?;
        buffers.put(&taken.to_le_bytes())
    }
    fn poll(&self, _: &OpenFile) -> Readiness {
        let mut state = self.state.lock();
        state.count(executor::now());
        if state.expired > 0 { Readiness::IN | Readiness::RDNORM } else { Readiness::empty() }
    }
    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        Some(&self.queue)
    }
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(anonymous::attributes())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[timerfd]".to_vec()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_are_counted_until_they_are_read() {
        let timer = TimerFd::new(Clock::Host(libc::CLOCK_MONOTONIC));
        let start = executor::now();
        timer.set(start - 25_000_000, true, 10_000_000);
        assert!(timer.take().is_ok_and(|count| count >= 3));
        timer.set(0, false, 0);
        assert_eq!(timer.take(), Err(Errno::EAGAIN));
        assert_eq!(timer.get(), (0, 0));
        timer.set(60_000_000_000, false, 0);
        assert!(timer.get().0 > 59_000_000_000);
    }
}
