//! A mapping as the ring uses it: a header page of 32-bit words, then the slots.

use super::{MAX_MESSAGE, SLOT_WORDS, futex, shared::Shared};
pub use crate::mapping::Memory;
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    time::Duration,
};

/// The header page in front of the slots.
pub(super) const HEADER_BYTES: usize = 4096;

impl Memory {
    /// The words of the header page.
    pub(super) fn header(&self) -> &[AtomicU32] {
        &self.words32()[..HEADER_BYTES / 4]
    }
}

impl Shared for Memory {
    type Word = AtomicU32;
    type Long = AtomicU64;
    const SLOT_BYTES: usize = MAX_MESSAGE;

    fn word(&self, index: usize) -> &AtomicU32 {
        &self.header()[index]
    }

    fn slot(&self, index: usize) -> &[AtomicU64] {
        &self.words()[HEADER_BYTES / 8..][index * SLOT_WORDS..(index + 1) * SLOT_WORDS]
    }

    fn sleep(&self, word: usize, expected: u32, timeout: Duration) {
        futex::wait(self.word(word), expected, timeout);
    }

    fn wake(&self, word: usize) {
        futex::wake(self.word(word));
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}
