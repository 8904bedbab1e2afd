//! Who waits where: the whole policy of hand-overs between guest threads and workers.
//!
//! *Local mode*, the default: a guest thread posts to the worker of its own CPU, which sleeps meanwhile, and sleeps itself until the
//! answer. Nobody spins.
//!
//! *Hot mode*: a thread that makes one short call after the other is *adopted* by the worker of a CPU that has nothing to do. From
//! there the worker serves it without ever leaving the poll of its task: it looks at the thread's state word until the next call is
//! there; and the thread, having stopped, looks at the same word for the answer. Neither makes a host call.
//!
//! What it is about, on the machine with two virtual CPUs (AMD EPYC, 2.45 GHz) where the limits below were chosen:
//!
//! | a rewritten getpid(2), by | ns |
//! |---|---|
//! | a worker on the same CPU (two futex hand-overs) | 5 000 |
//! | a worker asleep on another CPU | 50 000 to 60 000 |
//! | a worker that spins on another CPU | 300 to 500 |
//!
//! So an adoption costs about as much as ten or twenty local calls (one hand-over across CPUs to begin with, and one spin in vain
//! at the end), and saves nine tenths of each call while it lasts. It begins when as much was lost by local calls ([`FIRST`]), so at
//! the worst it costs twice as much as knowing beforehand.
//!
//! How it begins: the adopter is called (*summoned*) when the guest is about to run and the task's poll is over. The thread's spin and
//! the adopter's way take equally long, so nobody else has to be woken. A thread that was told to spin any earlier may get the CPU
//! before its worker has finished with it, and would spin for an answer that this worker is to give.
//!
//! Invariants:
//! - An adopter has its CPU to itself, as far as the sentry knows: no guest thread of the sandbox runs there, no task waits there. It
//!   stops as soon as that changes. One spinner a CPU at most.
//! - Hot mode ends with the poll of the task ([`Posts::after_turn`](crate::executor::Posts)): a task that waits for anything else than
//!   its guest's next call is in local mode, and no claim is left behind.
//! - A worker spins for [`PATIENCE`] without a call at most, whatever a guest writes; and a guest's thread by its own count, which only
//!   costs the guest.
//! - Agents and services never spin.

use std::{
    hint::spin_loop,
    sync::atomic::Ordering::{Acquire, Relaxed, SeqCst},
};

use super::{layout::RUNNING, stub::Shared};
use crate::executor::{asleep, current_worker, has_work, instant};

/// So many short calls in a row make a thread hot: what they cost in local mode is what an adoption costs.
const FIRST: u32 = 32;
/// An adoption that served fewer calls was a mistake; the next one needs twice as many calls.
const WORTH: u32 = 64;
/// But no more than this.
const LAST: u32 = 1 << 13;
/// After an adoption that was interrupted, not given up, so many calls are enough.
const AGAIN: u32 = 4;
/// A call is short when the guest computed for no longer before it (local: some 5 µs of that are the hand-over), and the sentry for no
/// longer in it. Longer ones gain little by hot mode: some in a row end it.
const SHORT: u64 = 20_000;
/// The adopter waits so long for the next call: twice what a hand-over to it would cost if it slept, because the timer's interrupts
/// alone keep a thread off its CPU for 20 to 100 µs, a thousand times a second. For the same reason this counts looks, not time: an
/// interrupt of its own is not held against the guest.
const PATIENCE: u64 = 100_000;
/// The guest's thread waits so long for an answer: as above, and a little more, because the first call waits for the adopter to come.
const TRUST: u64 = 150_000;
/// An adopter that did not run for so long while it was spinning shares its CPU with somebody whom the sentry does not know: programs
/// of others, or a limit on the sandbox's CPU time. Interrupts take less.
const ABSENCE: u64 = 700_000;
/// Such a CPU is left alone for a while; twice as long each time that it happens again within [`MEMORY`].
const SHUNNED: u64 = 10_000_000;
/// But no longer than this.
const SHUNNED_AT_MOST: u64 = 640_000_000;
/// See [`SHUNNED`].
const MEMORY: u64 = 2_000_000_000;
/// An adopter is called so often at most.
const CALLS: u32 = 3;
/// Looks between two looks at the clock.
const LOOKS: u32 = 8;

/// What a context remembers of its calls.
pub struct Waiting {
    /// Short calls in a row.
    heat: u32,
    /// How many make it hot.
    needed: u32,
    /// Who adopted it.
    adopter: Option<usize>,
    /// How often that one was called.
    calls: u32,
    /// Calls that the adopter served.
    served: u32,
    /// Whether the adopter gave up waiting for the next one.
    in_vain: bool,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting { heat: 0, needed: FIRST, adopter: None, calls: 0, served: 0, in_vain: false }
    }
}

/// One call, as far as the choice depends on it.
pub struct Call {
    /// How long the guest ran before it.
    pub ran: u64,
    /// How long the sentry was at it.
    pub took: u64,
    /// Whether the task waited for something in it.
    pub waited: bool,
}

impl Waiting {
    /// The guest is about to be resumed by this worker: chooses where the call after is served.
    pub fn choose(&mut self, shared: &Shared, slot: usize, worker: usize, call: &Call) {
        let record = shared.records.get(slot);
        let (home, bound) = (record.home.load(Relaxed), record.bound.load(Relaxed));
        if let Some(adopter) = self.adopter {
            if home == adopter && bound != adopter && worker == adopter && !call.waited {
                shared.loads[adopter].hot.store(true, Relaxed);
                self.served = self.served.saturating_add(1);
                self.heat = if call.ran > SHORT { self.heat / 2 } else { (self.heat + 1).min(FIRST) };
                if self.heat > 0 {
                    return;
                }
                self.in_vain = true;
            }
            self.ended(shared, slot);
            if bound == worker || home == adopter {
                return;
            }
        }
        shared.follow_waker(slot, worker);
        if call.waited || call.ran > SHORT || call.took > SHORT {
            // Not forgotten at once: an interrupt makes any call long.
            self.heat = if call.waited { 0 } else { self.heat / 2 };
            return;
        }
        self.heat += 1;
    }

    /// The guest runs, the task's waker is where the workers find it, and this worker is about to leave its poll: the moment to have the
    /// thread adopted, if it is hot.
    pub fn summon(&mut self, shared: &Shared, slot: usize) {
        let Some(worker) = current_worker() else { return };
        if self.adopter.is_none() {
            if self.heat < self.needed {
                return;
            }
            // If nobody is free: ask again a little later.
            self.heat = self.needed.saturating_sub(AGAIN);
            self.adopter = shared.adopt(slot, worker);
            self.calls = 0;
            self.served = 0;
            self.in_vain = false;
        }
        // An adopter that is quicker than this worker has the task polled here again.
        if let Some(adopter) = self.adopter
            && adopter != worker
            && self.calls < CALLS
        {
            self.calls += 1;
            shared.post(adopter, slot);
        }
    }

    /// Whether an adopter is serving it.
    pub fn is_served(&self, shared: &Shared, slot: usize) -> bool {
        self.served > 0 && self.adopter.is_some_and(|adopter| shared.records.get(slot).home.load(Relaxed) == adopter)
    }

    /// Back to local mode, if it has an adopter.
    pub fn ended(&mut self, shared: &Shared, slot: usize) {
        if self.adopter.take().is_none() {
            return;
        }
        shared.leave(slot);
        shared.regions.control(slot).spins.store(0, Relaxed);
        if self.served < WORTH {
            self.needed = (self.needed * 2).min(LAST);
        } else {
            self.needed = FIRST;
        }
        self.heat = if self.in_vain { 0 } else { self.needed.saturating_sub(AGAIN) };
    }

    /// The guest's thread slept when it was answered: the call took too long for it.
    pub fn slept(&mut self, shared: &Shared, slot: usize) {
        if self.adopter.is_some() && self.served > 1 {
            self.in_vain = true;
            self.ended(shared, slot);
        }
    }

    /// Waits for the guest's next stop, if this is the place to do it; whether it has stopped.
    pub fn spin(&mut self, shared: &Shared, slot: usize) -> bool {
        let Some(worker) = self.adopter.filter(|adopter| current_worker() == Some(*adopter)) else { return false };
        let load = &shared.loads[worker];
        if load.claimed.load(Relaxed) != slot + 1 {
            return false;
        }
        load.hot.store(true, Relaxed);
        let state = &shared.regions.control(slot).state;
        let mut last = instant();
        let mut looks = 0;
        while looks < shared.spins.adopter {
            // The guest has just been set free, or was looked for: this is the time to see who else wants something.
            if load.running.load(Relaxed) > 0 || has_work(worker, last) {
                return false;
            }
            for _ in 0..LOOKS {
                if state.load(Acquire) != RUNNING {
                    return true;
                }
                spin_loop();
            }
            looks += LOOKS;
            let time = instant();
            if time.saturating_sub(last) > ABSENCE {
                load.shun(time);
                return false;
            }
            last = time;
        }
        self.in_vain = true;
        false
    }
}

impl super::posts::Load {
    fn shun(&self, time: u64) {
        let again = time.saturating_sub(self.shunned_until.load(Relaxed)) < MEMORY;
        let length = if again { (self.shunned_for.load(Relaxed) * 2).min(SHUNNED_AT_MOST) } else { SHUNNED };
        self.shunned_for.store(length, Relaxed);
        self.shunned_until.store(time + length, Relaxed);
    }
}

impl Shared {
    /// Has a worker that has nothing to do adopt a thread, which is about to run. It posts there from now on, after having waited for an
    /// answer by itself.
    fn adopt(&self, slot: usize, worker: usize) -> Option<usize> {
        let record = self.records.get(slot);
        let count = self.loads.len();
        if record.home.load(Relaxed) != worker
            || record.bound.load(Relaxed) != worker
            || self.loads[worker].running.load(Relaxed) > 1
        {
            return None;
        }
        let time = instant();
        let claimed = slot + 1;
        let adopter = (1..count).map(|distance| (worker + distance) % count).find(|other| {
            let load = &self.loads[*other];
            load.running.load(Relaxed) == 0
                && asleep(*other)
                && load.shunned_until.load(Relaxed) <= time
                && load.claimed.compare_exchange(0, claimed, SeqCst, Relaxed).is_ok()
        })?;
        let control = self.regions.control(slot);
        record.home.store(adopter, SeqCst);
        control.home.store(adopter as u32, SeqCst);
        control.spins.store(self.spins.guest, SeqCst);
        Some(adopter)
    }

    /// Posts for a thread.
    fn post(&self, worker: usize, slot: usize) {
        let block = self.regions.worker(worker);
        let word = slot / 64;
        if let (Some(posted), Some(summary)) = (block.posted.get(word), block.summary.get(word / 64)) {
            posted.fetch_or(1 << (slot % 64), SeqCst);
            summary.fetch_or(1 << (word % 64), SeqCst);
        }
        crate::executor::wake(worker);
    }

    /// The thread posts to its own CPU's worker again.
    pub fn leave(&self, slot: usize) {
        let record = self.records.get(slot);
        let bound = record.bound.load(Relaxed);
        // A new thread that is bound to none yet has no adopter either.
        if bound >= self.cpus.len() || record.home.load(Relaxed) == bound {
            return;
        }
        let home = record.home.swap(bound, SeqCst);
        let control = self.regions.control(slot);
        control.home.store(bound as u32, SeqCst);
        control.spins.store(0, SeqCst);
        if let Some(load) = self.loads.get(home)
            && load.claimed.load(Relaxed) == slot + 1
        {
            load.hot.store(false, Relaxed);
            load.claimed.store(0, SeqCst);
        }
        if !record.running.load(SeqCst) {
            self.count_out(slot);
        }
    }

    /// A worker's task has come to the end of its poll, and with it what it was hot for.
    pub fn cool(&self, worker: usize) {
        let load = &self.loads[worker];
        if load.hot.load(Relaxed) {
            match load.claimed.load(Relaxed).checked_sub(1) {
                Some(slot) => self.leave(slot),
                // Somebody moved the thread away in the same moment.
                None => load.hot.store(false, Relaxed),
            }
        }
    }
}

/// How often who spins looks.
pub struct Spins {
    /// A guest's thread, for [`TRUST`].
    guest: u32,
    /// An adopter, for [`PATIENCE`].
    adopter: u32,
}

impl Spins {
    /// Measures how long a look takes.
    pub fn measure() -> Spins {
        const SAMPLE: u32 = 256;
        // Being put aside in between would make it too few.
        let fastest = (0..4).map(|_| {
            let start = crate::executor::now();
            (0..SAMPLE).for_each(|_| spin_loop());
            crate::executor::now().saturating_sub(start).max(1)
        });
        let fastest = fastest.min().unwrap_or(1);
        let looks = |time: u64| (time * u64::from(SAMPLE) / fastest).clamp(1000, 100_000) as u32;
        Spins { guest: looks(TRUST), adopter: looks(PATIENCE) }
    }
}
