//! What the two sides share, as the ring's protocol sees it: words and slots. In use it is a memory file
//! ([`super::memory::Memory`]); in the model checker's tests it is made of the checker's atomics, so that what it checks is the code
//! that runs.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// Shared memory.
pub trait Shared {
    /// A word of the header.
    type Word: Word<u32>;
    /// A word of a message.
    type Long: Word<u64>;
    /// Bytes of a slot.
    const SLOT_BYTES: usize;

    /// A word of the header.
    fn word(&self, index: usize) -> &Self::Word;
    /// A slot of the body.
    fn slot(&self, index: usize) -> &[Self::Long];
    /// Sleeps while the word is `expected`, at most for `timeout`. May return early for no reason; callers look again.
    fn sleep(&self, word: usize, expected: u32, timeout: Duration);
    /// Wakes whoever sleeps on the word.
    fn wake(&self, word: usize);
    /// A sequentially consistent fence.
    fn fence();
}

/// An atomic number.
pub trait Word<T> {
    /// Reads it.
    fn load(&self, order: Ordering) -> T;
    /// Writes it.
    fn store(&self, value: T, order: Ordering);
}

macro_rules! word {
    ($atomic:ty, $value:ty) => {
        impl Word<$value> for $atomic {
            fn load(&self, order: Ordering) -> $value {
                <$atomic>::load(self, order)
            }
            fn store(&self, value: $value, order: Ordering) {
                <$atomic>::store(self, value, order);
            }
        }
    };
}
#[cfg(test)]
pub(super) use word;

word!(AtomicU32, u32);
word!(AtomicU64, u64);

/// Writes `message` to the beginning of `slot`, as far as the slot reaches.
pub(super) fn copy_in(message: &[u8], slot: &[impl Word<u64>]) {
    for (chunk, word) in message.chunks(8).zip(slot) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

/// Replaces what is in `message` by the first `length` bytes of `slot`, or as many as it has.
pub(super) fn copy_out(slot: &[impl Word<u64>], length: usize, message: &mut Vec<u8>) {
    message.clear();
    let words = &slot[..length.div_ceil(8).min(slot.len())];
    message.reserve(words.len() * 8);
    for word in words {
        message.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    message.truncate(length);
}
