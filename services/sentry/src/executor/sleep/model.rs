//! A worker, guests that post to it and tasks that are given to it, under a model checker: it tries all ways in which they can
//! interleave (with a few preemptions). Nothing sleeps for a time here, so that a wake-up that is lost is a deadlock.

use std::{collections::VecDeque, sync::Arc};

use loom::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering, Ordering::SeqCst, fence},
    },
    thread,
};

use super::{Atomic, sleep, wake};

atomic!(AtomicBool, bool, fence);
atomic!(AtomicU32, u32, fence);

struct Worker {
    asleep: AtomicBool,
    word: AtomicU32,
    summary: AtomicU32,
    posted: AtomicU32,
    queue: Mutex<VecDeque<u32>>,
    /// The kernel's side of the futex.
    sleepers: (Mutex<()>, Condvar),
}

impl Worker {
    fn new() -> Arc<Worker> {
        Arc::new(Worker {
            asleep: AtomicBool::new(false),
            word: AtomicU32::new(0),
            summary: AtomicU32::new(0),
            posted: AtomicU32::new(0),
            queue: Mutex::new(VecDeque::new()),
            sleepers: (Mutex::new(()), Condvar::new()),
        })
    }

    /// FUTEX_WAIT: the kernel looks at the word under the lock that a waker takes, too.
    fn futex_wait(&self) {
        let guard = self.sleepers.0.lock().unwrap();
        if AtomicU32::load(&self.word, Ordering::Relaxed) == 1 {
            drop(self.sleepers.1.wait(guard).unwrap());
        }
    }

    fn futex_wake(&self) {
        drop(self.sleepers.0.lock().unwrap());
        self.sleepers.1.notify_one();
    }

    /// The stub's code from `bulkhead_stub_post` to `bulkhead_stub_wake` (`platform/systrap/code.rs`): the two bits, by locked
    /// instructions, which are full fences; a look at the word; its exchange; the wake-up.
    fn post(&self, slot: u32) {
        self.posted.fetch_or(1 << slot, SeqCst);
        fence(SeqCst);
        self.summary.fetch_or(1, SeqCst);
        fence(SeqCst);
        if AtomicU32::load(&self.word, Ordering::Relaxed) != 0 && AtomicU32::swap(&self.word, 0, SeqCst) != 0 {
            self.futex_wake();
        }
    }

    /// `inject` of `executor/worker.rs`.
    fn give(&self, task: u32) {
        self.queue.lock().unwrap().push_back(task);
        wake(&self.asleep, &self.word, || self.futex_wake());
    }

    /// `Posts::any`.
    fn any(&self) -> bool {
        AtomicU32::load(&self.summary, SeqCst) != 0
    }

    /// `Posts::drain`: how many had posted.
    fn drain(&self) -> u32 {
        match AtomicU32::swap(&self.summary, 0, SeqCst) {
            0 => 0,
            _ => AtomicU32::swap(&self.posted, 0, SeqCst).count_ones(),
        }
    }

    /// `run` of `executor/worker.rs`, until so much was done.
    fn run(&self, mut left: u32) {
        while left > 0 {
            let mut done = if self.any() { self.drain() } else { 0 };
            done += u32::from(self.queue.lock().unwrap().pop_front().is_some());
            left = left.saturating_sub(done);
            if done == 0 {
                sleep(&self.asleep, &self.word, || !self.any() && self.queue.lock().unwrap().is_empty(), || self.futex_wait());
            }
        }
    }
}

fn check(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(body);
}

#[test]
fn a_worker_hears_of_every_post() {
    check(|| {
        let worker = Worker::new();
        let posters = [0, 1].map(|slot| {
            let worker = worker.clone();
            thread::spawn(move || worker.post(slot))
        });
        worker.run(2);
        for poster in posters {
            poster.join().unwrap();
        }
    });
}

#[test]
fn a_worker_hears_of_posts_and_tasks_that_come_at_once() {
    check(|| {
        let worker = Worker::new();
        let (poster, giver) = (worker.clone(), worker.clone());
        let threads = [thread::spawn(move || poster.post(0)), thread::spawn(move || giver.give(7))];
        worker.run(2);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_worker_that_was_woken_sleeps_and_is_woken_again() {
    check(|| {
        let worker = Worker::new();
        let poster = worker.clone();
        let thread = thread::spawn(move || {
            poster.post(0);
            poster.give(1);
            poster.post(0);
        });
        // Two posts of one slot may be seen as one.
        worker.run(2);
        thread.join().unwrap();
    });
}

/// The checker does find a lost wake-up: here the worker looks for work before it says that it sleeps.
#[test]
#[should_panic(expected = "deadlock")]
fn a_worker_that_looks_before_it_says_that_it_sleeps_loses_a_post() {
    check(|| {
        let worker = Worker::new();
        let poster = worker.clone();
        let thread = thread::spawn(move || poster.post(0));
        if !worker.any() {
            sleep(&worker.asleep, &worker.word, || true, || worker.futex_wait());
        }
        thread.join().unwrap();
    });
}
