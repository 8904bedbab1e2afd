//! What the sentry itself knows of each context slot. No stub can reach it.

use std::{
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicI32, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, SeqCst},
        },
    },
    task::Waker,
};

use parking_lot::Mutex;

use super::layout::SLOTS;

/// A slot's record.
#[derive(Default)]
pub struct Record {
    /// Whom to wake when it stops.
    pub waker: Mutex<Option<Waker>>,
    /// Whether it was resumed and has not been seen to stop since.
    pub running: AtomicBool,
    /// Whether somebody wants it to stop.
    pub interrupt: AtomicBool,
    /// When that was first said while it ran; 0 when it was not.
    pub interrupted_at: AtomicU64,
    /// Whether its stub has died.
    pub lost: AtomicBool,
    /// Whether the thread's first stop, which is in the stub's code, is still to be seen.
    pub fresh: AtomicBool,
    /// Host process.
    pub pid: AtomicI32,
    /// Host thread, as the host said when it was made; a guest may have forged it, so only use it together with the pid.
    pub tid: AtomicI32,
    /// Index of the worker it posts to: its CPU's, or one that has adopted it ([`super::waiting`]).
    pub home: AtomicUsize,
    /// Index of the CPU it is bound to.
    pub bound: AtomicUsize,
    /// The CPUs that it may be bound to, as the guest asked for it: bit n stands for the CPU with index n. Those behind the last bit are
    /// always allowed.
    pub allowed: AtomicU64,
    /// The CPU in whose load it is counted as running, plus one; 0 while it is in none.
    pub counted: AtomicUsize,
    /// Counts the contexts that had the slot, so that an old interrupter does nothing.
    pub generation: AtomicU64,
    /// When it was resumed.
    pub since: AtomicU64,
    /// Nanoseconds it ran before that.
    pub ran: AtomicU64,
    /// How long it had run when its worker looked last.
    pub seen: AtomicU64,
    /// How often it waited in a call since its worker looked last.
    pub waits: AtomicU64,
    /// When it was moved to a CPU with less to do.
    pub moved: AtomicU64,
    /// CPU time of its process when the context was made.
    pub process_base: AtomicU64,
}

impl Record {
    /// Whether it may be bound to a CPU.
    pub fn may_run_at(&self, cpu: usize) -> bool {
        cpu >= 64 || self.allowed.load(Relaxed) & 1 << cpu != 0
    }

    /// Wakes whoever waits for it.
    pub fn notify(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nanoseconds between resumes and stops, up to `time`.
    pub fn ran_until(&self, time: u64) -> u64 {
        let ran = self.ran.load(Acquire);
        if self.running.load(SeqCst) { ran + time.saturating_sub(self.since.load(Relaxed)) } else { ran }
    }

    /// CPU time: it ran between resume and stop, as far as the host gave its process that much.
    pub fn cpu_time(&self) -> u64 {
        let process = process_time(self.pid.load(Relaxed)).saturating_sub(self.process_base.load(Relaxed));
        self.ran_until(crate::executor::now()).min(process)
    }
}

/// CPU time of a host process; 0 when it is gone.
pub fn process_time(pid: i32) -> u64 {
    // The kernel's number for "all threads of pid, scheduler's clock".
    let clock = (!pid << 3) | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place; an unknown clock is an error that leaves it.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

const CHUNK: usize = 64;

/// The records of all slots, made as slots come into use.
pub struct Records {
    chunks: [OnceLock<Box<[Record; CHUNK]>>; SLOTS / CHUNK],
}

impl Default for Records {
    fn default() -> Self {
        Records { chunks: [const { OnceLock::new() }; SLOTS / CHUNK] }
    }
}

impl Records {
    /// The record of a slot, made if need be.
    pub fn get(&self, slot: usize) -> &Record {
        &self.chunks[slot / CHUNK].get_or_init(|| Box::new(std::array::from_fn(|_| Record::default())))[slot % CHUNK]
    }

    /// All that were made, with their slots.
    pub fn all(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.chunks
            .iter()
            .enumerate()
            .filter_map(|(index, chunk)| Some((index, chunk.get()?)))
            .flat_map(|(index, chunk)| chunk.iter().enumerate().map(move |(offset, record)| (index * CHUNK + offset, record)))
    }

    /// The record of a slot that was in use at some time; a guest may name any other.
    pub fn known(&self, slot: usize) -> Option<&Record> {
        Some(&self.chunks.get(slot / CHUNK)?.get()?[slot % CHUNK])
    }
}
