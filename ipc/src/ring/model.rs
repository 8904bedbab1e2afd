//! The ring under a model checker, which tries all ways in which the two sides can interleave (with a few preemptions), and all
//! values that the host's memory model lets a read see. Sleeping has no timeout here: a wake-up that is lost is a deadlock.

use super::{Consumer, Direction, Producer, RingError, SLOTS, Shared, Waited, Word, shared, word};
use loom::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering, fence},
    },
    thread,
};
use std::time::Duration;

/// Words of a queue's header that are used.
const USED: usize = 3 + SLOTS as usize * word::PER_SLOT;

/// The shared memory, and the kernel's futexes on the two heads.
struct Model {
    words: Vec<AtomicU32>,
    slots: Vec<[AtomicU64; 1]>,
    sleepers: [(Mutex<()>, Condvar); 2],
}

impl Model {
    fn new() -> std::sync::Arc<Model> {
        std::sync::Arc::new(Model {
            words: (0..2 * USED).map(|_| AtomicU32::new(0)).collect(),
            slots: (0..2 * SLOTS).map(|_| [AtomicU64::new(0)]).collect(),
            sleepers: [(Mutex::new(()), Condvar::new()), (Mutex::new(()), Condvar::new())],
        })
    }
}

impl Shared for Model {
    type Word = AtomicU32;
    type Long = AtomicU64;
    const SLOT_BYTES: usize = 8;

    fn word(&self, index: usize) -> &AtomicU32 {
        let (queue, index) = (index / word::PER_QUEUE, index % word::PER_QUEUE);
        let place = match index {
            word::HEAD => 0,
            word::TAIL => 1,
            word::WAITING => 2,
            _ => 3 + index - word::SLOTS,
        };
        &self.words[queue * USED + place]
    }

    fn slot(&self, index: usize) -> &[AtomicU64] {
        &self.slots[index]
    }

    /// The kernel looks at the word under the lock that a waker takes, too.
    fn sleep(&self, word: usize, expected: u32, _timeout: Duration) {
        let (lock, condition) = &self.sleepers[word / word::PER_QUEUE];
        let guard = lock.lock().unwrap();
        if AtomicU32::load(self.word(word), Ordering::Relaxed) == expected {
            drop(condition.wait(guard).unwrap());
        }
    }

    fn wake(&self, word: usize) {
        let (lock, condition) = &self.sleepers[word / word::PER_QUEUE];
        drop(lock.lock().unwrap());
        condition.notify_one();
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

shared::word!(AtomicU32, u32);
shared::word!(AtomicU64, u64);

fn check(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

/// Waits for a message, and gives the error when no more comes.
fn receive(consumer: &mut Consumer<Model>) -> Result<Vec<u8>, RingError> {
    let mut message = Vec::new();
    loop {
        if consumer.take(&mut message)?.is_some() {
            return Ok(message);
        }
        let _: Waited = consumer.wait(Duration::MAX);
    }
}

#[test]
fn every_message_is_seen_whole_and_no_wake_up_is_lost() {
    check(3, || {
        let memory = Model::new();
        let mut producer = Producer::new(memory.clone(), Direction::Requests);
        let mut consumer = Consumer::new(memory, Direction::Requests);
        let sender = thread::spawn(move || {
            producer.put(b"one", 0).unwrap();
            producer.put(b"a second", 0).unwrap();
            producer.leave();
        });
        assert_eq!(receive(&mut consumer).unwrap(), b"one");
        assert_eq!(receive(&mut consumer).unwrap(), b"a second");
        assert_eq!(receive(&mut consumer), Err(RingError::Gone));
        sender.join().unwrap();
    });
}

/// A client and a server, so many calls.
fn calls(preemptions: usize, count: u8) {
    check(preemptions, move || {
        let memory = Model::new();
        let mut requests = Producer::new(memory.clone(), Direction::Requests);
        let mut replies = Consumer::new(memory.clone(), Direction::Replies);
        let server = thread::spawn(move || {
            let mut requests = Consumer::new(memory.clone(), Direction::Requests);
            let mut replies = Producer::new(memory, Direction::Replies);
            for _ in 0..count {
                let request = receive(&mut requests).unwrap();
                replies.put(&[request[0] + 100], 0).unwrap();
            }
        });
        for call in 0..count {
            requests.put(&[call], 0).unwrap();
            assert_eq!(receive(&mut replies).unwrap(), [call + 100]);
        }
        server.join().unwrap();
    });
}

#[test]
fn calls_are_answered() {
    calls(2, 2);
}

#[test]
fn calls_are_answered_when_slots_are_used_again() {
    calls(0, SLOTS as u8 + 1);
}

/// The checker does find a lost wake-up: here the consumer does not say that it sleeps before it looks.
#[test]
#[should_panic(expected = "deadlock")]
fn a_consumer_that_looks_before_it_says_that_it_sleeps_loses_a_wake_up() {
    check(3, || {
        let memory = Model::new();
        let mut producer = Producer::new(memory.clone(), Direction::Requests);
        let sender = thread::spawn(move || producer.put(b"one", 0).unwrap());
        let (lock, condition) = &memory.sleepers[0];
        if AtomicU32::load(memory.word(word::HEAD), Ordering::Acquire) == 0 {
            let guard = lock.lock().unwrap();
            AtomicU32::store(memory.word(word::WAITING), 1, Ordering::Relaxed);
            drop(condition.wait(guard).unwrap());
        }
        sender.join().unwrap();
    });
}
