//! How workers hear that guest threads have stopped, and what a worker looks at by itself from time to time, because what it
//! hears comes from memory that guests can write.

use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, SeqCst},
};

use super::{layout::RUNNING, stub::Shared};
use crate::executor::{Posts, now, pin_thread};

/// How often a worker looks after its running guest threads.
const LOOK: u64 = 250_000_000;
/// As `LOOK`, when there are several and another CPU has none.
const LOOK_TO_SPREAD: u64 = 3_000_000;
/// What has computed for this long without a stop may move to another CPU.
const COMPUTING: u64 = 2_000_000;
/// A thread that does not stop for this long after it was interrupted has blocked the signal: only hostile code does.
const DEAF: u64 = 10_000_000_000;

impl Posts for Shared {
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
        match self.running[worker].load(Relaxed) {
            0 => None,
            1 => Some(now() + LOOK),
            _ if self.idle_worker().is_some() => Some(now() + LOOK_TO_SPREAD),
            _ => Some(now() + LOOK),
        }
    }

    fn look(&self, worker: usize) {
        let time = now();
        let mut spread = self.running[worker].load(Relaxed) >= 2;
        for (slot, record) in self.records.all() {
            if !record.running.load(Acquire) || record.home.load(Relaxed) != worker {
                continue;
            }
            let control = self.regions.control(slot);
            if control.state.load(Acquire) != RUNNING {
                // It posted, and somebody wiped the post away.
                record.notify();
                continue;
            }
            let interrupted = record.interrupted_at.load(Relaxed);
            if interrupted != 0 && time.saturating_sub(interrupted) > DEAF {
                tracing::warn!(pid = record.pid.load(Relaxed), "a guest thread does not hear interrupts; ending its process");
                self.kill(record.pid.load(Relaxed));
                continue;
            }
            if spread
                && time.saturating_sub(record.since.load(Relaxed)) > COMPUTING
                && let Some(idle) = self.idle_worker()
            {
                self.move_home(slot, idle);
                spread = false;
            }
        }
    }
}

impl Shared {
    fn idle_worker(&self) -> Option<usize> {
        self.running.iter().position(|running| running.load(Relaxed) == 0)
    }

    /// Makes a thread post to, and run at, another worker.
    pub fn move_home(&self, slot: usize, worker: usize) {
        let record = self.records.get(slot);
        let old = record.home.swap(worker, SeqCst);
        self.regions.control(slot).home.store(worker as u32, SeqCst);
        if record.running.load(SeqCst) && old != worker {
            self.running[old].fetch_sub(1, Relaxed);
            self.running[worker].fetch_add(1, Relaxed);
        }
        if record.bound.swap(worker, Relaxed) != worker {
            let (pid, tid) = (record.pid.load(Relaxed), record.tid.load(Relaxed));
            // A forged tid is not of this process: then nothing happens.
            // SAFETY: signal 0 only asks whether the thread is in the process.
            let genuine = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) == 0 };
            if genuine && let Some(cpu) = self.cpus.get(worker) {
                pin_thread(tid, *cpu);
            }
        }
    }
}
