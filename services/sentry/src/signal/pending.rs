//! Signals that were sent and not taken yet.
//!
//! Invariant: a standard signal is at most once in a queue; a real-time signal as often as it was sent, in order. Lower numbers
//! are taken first, and those that the CPU raised before all others.

use std::{collections::VecDeque, sync::Arc};

use super::{
    info::SignalInfo,
    set::{FIRST_REAL_TIME, SignalSet},
};
use crate::time::posix::PosixTimer;

/// One sent signal.
#[derive(Clone)]
pub struct Pending {
    /// What is told of it.
    pub info: SignalInfo,
    /// The timer that sent it: it counts overruns instead of sending again until this was taken.
    pub timer: Option<Arc<PosixTimer>>,
}

/// A queue of one thread or one process.
#[derive(Default)]
pub struct PendingQueue {
    set: SignalSet,
    queue: VecDeque<Pending>,
}

impl PendingQueue {
    /// Nothing.
    pub const fn new() -> Self {
        PendingQueue { set: SignalSet::EMPTY, queue: VecDeque::new() }
    }
    /// Which signals wait.
    pub fn set(&self) -> SignalSet {
        self.set
    }
    /// How many wait.
    pub fn count(&self) -> usize {
        self.queue.len()
    }
    /// Adds one; false when it is a standard signal that waits already (and so merges with it).
    pub fn push(&mut self, pending: Pending) -> bool {
        let signal = pending.info.signal;
        if signal < FIRST_REAL_TIME && self.set.contains(signal) {
            return false;
        }
        self.set = self.set.with(signal);
        self.queue.push_back(pending);
        true
    }
    /// The next one that is not in `blocked`.
    pub fn take(&mut self, blocked: SignalSet) -> Option<Pending> {
        let ready = self.set.minus(blocked);
        let urgent = ready.and(SignalSet::SYNCHRONOUS);
        let signal = if urgent.is_empty() { ready.first()? } else { urgent.first()? };
        self.take_signal(signal)
    }
    /// The oldest instance of `signal`.
    pub fn take_signal(&mut self, signal: i32) -> Option<Pending> {
        let at = self.queue.iter().position(|p| p.info.signal == signal)?;
        let taken = self.queue.remove(at)?;
        if !self.queue.iter().skip(at).any(|p| p.info.signal == signal) {
            self.set = self.set.without(signal);
        }
        Some(taken)
    }
    /// Takes every instance of the given signals out.
    pub fn discard(&mut self, signals: SignalSet) -> Vec<Pending> {
        if self.set.and(signals).is_empty() {
            return Vec::new();
        }
        self.set = self.set.minus(signals);
        let (dropped, kept) = self.queue.drain(..).partition(|p| signals.contains(p.info.signal));
        self.queue = kept;
        Vec::from_iter::<VecDeque<Pending>>(dropped)
    }
    /// Drops what a deleted timer sent.
    pub fn discard_timer(&mut self, timer: &Arc<PosixTimer>) {
        self.queue.retain(|p| !p.timer.as_ref().is_some_and(|t| Arc::ptr_eq(t, timer)));
        self.set = self.queue.iter().fold(SignalSet::EMPTY, |set, p| set.with(p.info.signal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(signal: i32, code: i32) -> Pending {
        Pending { info: SignalInfo { signal, code, ..Default::default() }, timer: None }
    }

    #[test]
    fn a_standard_signal_waits_once_and_a_real_time_signal_as_often_as_sent() {
        let mut queue = PendingQueue::new();
        assert!(queue.push(sent(10, 1)));
        assert!(!queue.push(sent(10, 2)));
        assert!(queue.push(sent(34, 1)));
        assert!(queue.push(sent(34, 2)));
        let taken: Vec<_> = std::iter::from_fn(|| queue.take(SignalSet::EMPTY)).map(|p| (p.info.signal, p.info.code)).collect();
        assert_eq!(taken, [(10, 1), (34, 1), (34, 2)]);
        assert!(queue.set().is_empty());
    }

    #[test]
    fn faults_come_first_then_lower_numbers_and_blocked_ones_stay() {
        let mut queue = PendingQueue::new();
        for signal in [40, 35, libc::SIGINT, libc::SIGSEGV, libc::SIGTERM] {
            queue.push(sent(signal, 0));
        }
        let blocked = SignalSet::EMPTY.with(35);
        let taken: Vec<_> = std::iter::from_fn(|| queue.take(blocked)).map(|p| p.info.signal).collect();
        assert_eq!(taken, [libc::SIGSEGV, libc::SIGINT, libc::SIGTERM, 40]);
        assert_eq!(queue.set(), SignalSet::EMPTY.with(35));
    }

    #[test]
    fn discarding_empties_the_set_too() {
        let mut queue = PendingQueue::new();
        queue.push(sent(libc::SIGTSTP, 0));
        queue.push(sent(libc::SIGCONT, 0));
        assert_eq!(queue.discard(SignalSet::STOPPING).len(), 1);
        assert_eq!(queue.set(), SignalSet::EMPTY.with(libc::SIGCONT));
        assert_eq!(queue.count(), 1);
    }
}
