//! A pair of message queues in one shared memory file: requests one way, replies the other.
//!
//! Each side keeps its own indices in private memory and only *publishes* them. What it reads from the other side (indices,
//! lengths, counts, the message itself) is read once, copied, and then checked: the other side may change every byte at any
//! time, and the worst it can get by it is an error here. Nothing here waits for room: a side that finds the queue full has a
//! broken peer, because a client makes one call at a time.
//!
//! Who waits sleeps on its queue's head word (a futex shared between processes) after saying so in `waiting`; the producer
//! makes the system call only then.

mod futex;
mod memory;
mod shared;

use crate::{
    Errno,
    mapping::{self, Access},
};
use memory::Memory;
use shared::{Shared, Word, copy_in, copy_out};
use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Messages that a queue holds.
const SLOTS: u32 = 4;
/// Bytes of a message at most.
pub const MAX_MESSAGE: usize = 128 * 1024;
/// `u64` words of a slot.
const SLOT_WORDS: usize = MAX_MESSAGE / 8;
/// Set in a head index by a producer that goes. It changes the word that the consumer sleeps on, so that no wake-up is lost.
const GONE: u32 = 1 << 31;
/// The bits of a head or tail that count messages, modulo 2^31 (a multiple of [`SLOTS`]).
const INDEX: u32 = GONE - 1;

/// The ring's layout: a header page of `u32` words, then the slots of the requests, then those of the replies.
/// Words that different sides write lie in different cache lines.
mod word {
    /// Counts messages published; the futex that the consumer sleeps on.
    pub const HEAD: usize = 0;
    /// Counts messages consumed.
    pub const TAIL: usize = 16;
    /// 1 while the consumer sleeps, or is about to.
    pub const WAITING: usize = 32;
    /// Where the slots' descriptions begin: length, fds, sequence.
    pub const SLOTS: usize = 48;
    /// From one slot's description to the next.
    pub const PER_SLOT: usize = 4;
    /// From the request queue's header to the reply queue's.
    pub const PER_QUEUE: usize = 128;
}

/// Bytes of the memory file.
const BYTES: usize = memory::HEADER_BYTES + 2 * SLOTS as usize * MAX_MESSAGE;

/// Which queue of the pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Client to server.
    Requests,
    /// Server to client.
    Replies,
}

/// What a producer wrote about a message: checked against the bounds, but no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Description {
    /// How many fds were sent beside it.
    pub fds: u32,
    /// The producer's count of messages, which the fds' packet repeats.
    pub sequence: u32,
}

/// Why nothing more comes through a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingError {
    /// The other side said that it goes.
    Gone,
    /// The other side does not keep to the protocol.
    Broken(&'static str),
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// `take` has something to say.
    Ready,
    /// Woken, or the time is over, and there is nothing: look whether the other side is still there.
    Nothing,
}

/// The mapped ring.
pub struct Ring {
    memory: Arc<Memory>,
}

impl Ring {
    /// Makes the memory file, all zero, which is an empty ring. Its size is sealed.
    pub fn create() -> Result<OwnedFd, (&'static str, Errno)> {
        mapping::create(c"bulkhead-ring", BYTES)
    }

    /// Maps a ring's memory; a file that could shrink under us is refused.
    pub fn map(file: impl AsFd) -> Result<Ring, (&'static str, Errno)> {
        Ok(Ring { memory: Arc::new(Memory::map(file.as_fd(), BYTES, Access::ReadWrite)?) })
    }

    /// The sending end of a queue.
    pub fn producer(&self, direction: Direction) -> Producer {
        Producer::new(self.memory.clone(), direction)
    }

    /// The receiving end of a queue.
    pub fn consumer(&self, direction: Direction) -> Consumer {
        Consumer::new(self.memory.clone(), direction)
    }
}

struct Queue<M> {
    memory: Arc<M>,
    direction: Direction,
}

impl<M: Shared> Queue<M> {
    fn index(&self, word: usize) -> usize {
        self.direction as usize * word::PER_QUEUE + word
    }

    fn word(&self, word: usize) -> &M::Word {
        self.memory.word(self.index(word))
    }

    /// A word of the description of the slot of message number `count`.
    fn description(&self, count: u32, field: usize) -> &M::Word {
        self.word(word::SLOTS + (count % SLOTS) as usize * word::PER_SLOT + field)
    }

    fn slot(&self, count: u32) -> &[M::Long] {
        self.memory.slot(self.direction as usize * SLOTS as usize + (count % SLOTS) as usize)
    }

    fn wake(&self) {
        self.memory.wake(self.index(word::HEAD));
    }
}

/// The sending end of a queue.
pub struct Producer<M = Memory> {
    queue: Queue<M>,
    head: u32,
}

impl<M: Shared> Producer<M> {
    fn new(memory: Arc<M>, direction: Direction) -> Self {
        Producer { queue: Queue { memory, direction }, head: 0 }
    }

    /// The sequence number that the next message will have.
    pub fn sequence(&self) -> u32 {
        self.head
    }

    /// Publishes a message and wakes the consumer if it sleeps. `message` must not be longer than [`MAX_MESSAGE`].
    pub fn put(&mut self, message: &[u8], fds: u32) -> Result<(), RingError> {
        let used = self.head.wrapping_sub(self.queue.word(word::TAIL).load(Ordering::Acquire)) & INDEX;
        if used >= SLOTS {
            return Err(RingError::Broken(if used == SLOTS { "it takes no messages" } else { "its tail index is impossible" }));
        }
        let Ok(length) = u32::try_from(message.len()) else { return Err(RingError::Broken("the message is too large")) };
        if message.len() > M::SLOT_BYTES {
            return Err(RingError::Broken("the message is too large"));
        }
        copy_in(message, self.queue.slot(self.head));
        for (field, value) in [length, fds, self.head].into_iter().enumerate() {
            self.queue.description(self.head, field).store(value, Ordering::Relaxed);
        }
        self.head = self.head.wrapping_add(1) & INDEX;
        self.queue.word(word::HEAD).store(self.head, Ordering::Release);
        // With the consumer's fence between `waiting` and `head`: one of us sees the other.
        M::fence();
        if self.queue.word(word::WAITING).load(Ordering::Relaxed) != 0 {
            self.queue.wake();
        }
        Ok(())
    }

    /// Tells the consumer that nothing more comes. What was put before can still be taken.
    pub fn leave(&mut self) {
        self.queue.word(word::HEAD).store(self.head | GONE, Ordering::Release);
        self.queue.wake();
    }
}

/// The receiving end of a queue.
pub struct Consumer<M = Memory> {
    queue: Queue<M>,
    tail: u32,
}

impl<M: Shared> Consumer<M> {
    fn new(memory: Arc<M>, direction: Direction) -> Self {
        Consumer { queue: Queue { memory, direction }, tail: 0 }
    }

    /// Whether `take` would find something.
    fn ready(&self) -> bool {
        self.queue.word(word::HEAD).load(Ordering::Relaxed) != self.tail
    }

    /// Sleeps until there is something to take, or for `timeout`.
    pub fn wait(&self, timeout: Duration) -> Waited {
        if self.ready() {
            return Waited::Ready;
        }
        let waiting = self.queue.word(word::WAITING);
        waiting.store(1, Ordering::Relaxed);
        M::fence();
        if !self.ready() {
            self.queue.memory.sleep(self.queue.index(word::HEAD), self.tail, timeout);
        }
        waiting.store(0, Ordering::Relaxed);
        if self.ready() { Waited::Ready } else { Waited::Nothing }
    }

    /// Takes the next message, if there is one: a copy of it replaces what is in `message`.
    pub fn take(&mut self, message: &mut Vec<u8>) -> Result<Option<Description>, RingError> {
        let head = self.queue.word(word::HEAD).load(Ordering::Acquire);
        let available = head.wrapping_sub(self.tail) & INDEX;
        if available == 0 {
            return if head & GONE == 0 { Ok(None) } else { Err(RingError::Gone) };
        }
        if available > SLOTS {
            return Err(RingError::Broken("its head index is impossible"));
        }
        let [length, fds, sequence] = [0, 1, 2].map(|field| self.queue.description(self.tail, field).load(Ordering::Relaxed));
        if length as usize > M::SLOT_BYTES {
            return Err(RingError::Broken("a message longer than its slot"));
        }
        if sequence != self.tail {
            return Err(RingError::Broken("a message out of turn"));
        }
        copy_out(self.queue.slot(self.tail), length as usize, message);
        self.tail = self.tail.wrapping_add(1) & INDEX;
        self.queue.word(word::TAIL).store(self.tail, Ordering::Release);
        Ok(Some(Description { fds, sequence }))
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
