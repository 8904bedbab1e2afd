//! How workers hear that guest threads have stopped, and what a worker looks at by itself from time to time, because what it
//! hears comes from memory that guests can write, and because a CPU may have more to compute than its share.

use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, SeqCst},
};

use super::{
    layout::RUNNING,
    stub::{Shared, pin_stub_thread},
};
use crate::executor::{Posts, now};

/// How often a worker looks after its running guest threads.
const LOOK: u64 = 250_000_000;
/// As `LOOK`, when there are several.
const LOOK_AT_SEVERAL: u64 = 3_000_000;
/// A thread that does not stop for this long after it was interrupted has blocked the signal: only hostile code does.
const DEAF: u64 = 10_000_000_000;
/// A thread moves when its CPU has so much more to compute than another (1000: one thread all the time).
const UNEVEN: u64 = 1300;
/// Only a thread that runs so long between two waits moves: one that waits more often speaks with others, and a hand-over from
/// CPU to CPU (50 to 70 µs on a virtual machine) would cost it more than the company does.
const COMPUTES: u64 = 300_000;
/// How long a thread that was moved away to compute stays away from the one that wakes it.
const SETTLED: u64 = 50_000_000;

/// What a worker has to compute, measured from look to look.
#[derive(Default)]
pub struct Load {
    /// Guest threads that run there now.
    pub running: AtomicU32,
    /// When it looked last.
    looked: AtomicU64,
    /// Between its last two looks: 1000 for each thread that wanted to run all the time.
    permille: AtomicU64,
    /// The thread that its worker has adopted, as its slot plus one; 0 for none ([`super::waiting`]).
    pub claimed: AtomicUsize,
    /// Whether the worker is serving that thread. Only the worker itself sets it.
    pub hot: AtomicBool,
    /// Until then nobody is adopted there,
    pub shunned_until: AtomicU64,
    /// which is for so long.
    pub shunned_for: AtomicU64,
}

impl Load {
    /// What it has to compute now, as far as is known.
    pub fn now(&self) -> u64 {
        if self.running.load(Relaxed) == 0 { 0 } else { self.permille.load(Relaxed) }
    }
}

impl Posts for Shared {
    fn after_turn(&self, worker: usize) {
        self.cool(worker);
    }

    fn sleeping(&self, worker: usize) -> &AtomicU32 {
        &self.regions.worker(worker).sleeping
    }

    fn any(&self, worker: usize) -> bool {
        self.regions.worker(worker).summary.iter().any(|word| word.load(SeqCst) != 0)
    }

    fn drain(&self, worker: usize) {
        let block = self.regions.worker(worker);
        for (index, summary) in block.summary.iter().enumerate() {
            if summary.load(Relaxed) == 0 {
                continue;
            }
            let mut words = summary.swap(0, SeqCst);
            while words != 0 {
                let word = index * 64 + words.trailing_zeros() as usize;
                words &= words - 1;
                let mut slots = block.posted.get(word).map_or(0, |posted| posted.swap(0, SeqCst));
                while slots != 0 {
                    let slot = word * 64 + slots.trailing_zeros() as usize;
                    slots &= slots - 1;
                    // Whether it has really stopped is seen by whoever is woken.
                    if let Some(record) = self.records.known(slot) {
                        record.notify();
                    }
                }
            }
        }
    }

    fn next_look(&self, worker: usize) -> Option<u64> {
        let load = &self.loads[worker];
        let interval = match load.running.load(Relaxed) {
            0 => return None,
            1 => LOOK,
            _ => LOOK_AT_SEVERAL,
        };
        Some(load.looked.load(Relaxed) + interval)
    }

    fn look(&self, worker: usize) {
        let time = now();
        let passed = time.saturating_sub(self.loads[worker].looked.swap(time, Relaxed)).max(1);
        let mut total = 0;
        let mut busiest = (0, None);
        for (slot, record) in self.records.all() {
            if record.bound.load(Relaxed) != worker || record.pid.load(Relaxed) == 0 {
                continue;
            }
            let ran = record.ran_until(time);
            let share = ran.saturating_sub(record.seen.swap(ran, Relaxed)).min(passed);
            total += share;
            let waits = record.waits.swap(0, Relaxed);
            if !record.running.load(Acquire) {
                continue;
            }
            if share > busiest.0 && share / (waits + 1) >= COMPUTES {
                busiest = (share, Some(slot));
            }
            if self.regions.control(slot).state.load(Acquire) != RUNNING {
                // It posted, and somebody may have wiped the post away.
                record.notify();
                continue;
            }
            let interrupted = record.interrupted_at.load(Relaxed);
            if interrupted != 0 && time.saturating_sub(interrupted) > DEAF {
                let pid = record.pid.load(Relaxed);
                tracing::warn!(pid, "a guest thread does not hear interrupts; ending its process");
                self.kill(pid);
            }
        }
        // After a long sleep it says little; a short one is an average over a few turns.
        let permille = total * 1000 / passed;
        self.loads[worker].permille.store(permille, Relaxed);
        let other = busiest.1.and_then(|slot| self.quietest(slot, worker));
        if let (Some(other), Some(slot)) = (other, busiest.1)
            && permille.saturating_sub(self.loads[other].now()) > UNEVEN
        {
            self.records.get(slot).moved.store(time, Relaxed);
            self.move_home(slot, other);
            self.loads[worker].permille.store(permille.saturating_sub(1000), Relaxed);
        }
    }
}

impl Shared {
    /// A thread is resumed by another worker than its home's, because something there woke it: it moves there (a hand-over on
    /// one CPU is far cheaper than one across), unless that CPU has enough to do.
    pub fn follow_waker(&self, slot: usize, worker: usize) {
        let record = self.records.get(slot);
        if record.home.load(Relaxed) != worker
            && worker < self.loads.len()
            && record.may_run_at(worker)
            && self.loads[worker].now() <= UNEVEN
            && now().saturating_sub(record.moved.load(Relaxed)) > SETTLED
        {
            self.move_home(slot, worker);
        }
    }

    /// The CPU but `worker` with the least to compute, of those where a thread may run.
    fn quietest(&self, slot: usize, worker: usize) -> Option<usize> {
        let record = self.records.get(slot);
        let others = (0..self.loads.len()).filter(|other| *other != worker && record.may_run_at(*other));
        others.min_by_key(|other| self.loads[*other].now())
    }

    /// Moves a thread that is where it may not run (any more).
    pub fn keep_within(&self, slot: usize) {
        let record = self.records.get(slot);
        let bound = record.bound.load(Relaxed);
        if bound < self.cpus.len()
            && !record.may_run_at(bound)
            && let Some(other) = self.quietest(slot, bound)
        {
            record.moved.store(now(), Relaxed);
            self.move_home(slot, other);
        }
    }

    /// Makes a thread post to, and run at, another worker.
    pub fn move_home(&self, slot: usize, worker: usize) {
        self.leave(slot);
        let record = self.records.get(slot);
        let old = record.bound.load(Relaxed);
        if old != worker {
            let (pid, tid) = (record.pid.load(Relaxed), record.tid.load(Relaxed));
            match self.cpus.get(worker) {
                Some(cpu) if pin_stub_thread(pid, tid, *cpu) => {}
                // Better a home that is not the best than posts to a CPU where the thread does not run.
                _ if old < self.cpus.len() => return,
                _ => {}
            }
            record.bound.store(worker, Relaxed);
            if old < self.cpus.len() && record.counted.compare_exchange(old + 1, worker + 1, SeqCst, Relaxed).is_ok() {
                self.loads[old].running.fetch_sub(1, Relaxed);
                self.loads[worker].running.fetch_add(1, Relaxed);
            }
        }
        record.home.store(worker, SeqCst);
        self.regions.control(slot).home.store(worker as u32, SeqCst);
    }

    /// A thread is resumed: its CPU has it to run.
    pub fn count_in(&self, slot: usize) {
        let record = self.records.get(slot);
        if record.counted.load(Relaxed) == 0 {
            let bound = record.bound.load(Relaxed);
            self.loads[bound].running.fetch_add(1, Relaxed);
            record.counted.store(bound + 1, SeqCst);
        }
    }

    /// A thread has stopped.
    pub fn count_out(&self, slot: usize) {
        let counted = self.records.get(slot).counted.swap(0, SeqCst);
        if counted > 0 {
            self.loads[counted - 1].running.fetch_sub(1, Relaxed);
        }
    }
}
