//! What a socket has sent and nobody has received yet.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use crate::{
    abi::PAGE_SIZE,
    executor::{Readiness, WaitQueue},
};

/// What a socket has sent and nobody has received yet, against SO_SNDBUF. Messages are charged with what Linux keeps for them, so
/// that as many fit as there.
pub(super) struct Account {
    charged: AtomicUsize,
    limit: AtomicUsize,
    /// The socket's.
    queue: Arc<WaitQueue>,
    /// Charged to all sockets together.
    total: Arc<AtomicUsize>,
}

/// Bytes that all sockets may have charged together, whatever each may.
pub(super) const MOST_IN_ALL: usize = 1 << 30;

/// What Linux keeps for a message of so many bytes (its truesize): a header of its own, and a tail behind the bytes.
pub(super) fn cost(bytes: usize) -> usize {
    const HEADER: usize = 256;
    const TAIL: usize = 320;
    const PAGE: usize = PAGE_SIZE as usize;
    match bytes + TAIL {
        small if small <= PAGE => small.next_power_of_two().max(512) + HEADER,
        _ => (bytes + TAIL).next_multiple_of(PAGE) + HEADER,
    }
}

impl Account {
    pub(super) fn new(limit: usize, queue: Arc<WaitQueue>, total: Arc<AtomicUsize>) -> Arc<Account> {
        Arc::new(Account { charged: AtomicUsize::new(0), limit: AtomicUsize::new(limit), queue, total })
    }

    /// SO_SNDBUF.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(SeqCst)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, SeqCst);
        self.queue.wake(Readiness::OUT | Readiness::WRNORM | Readiness::WRBAND);
    }

    /// What was sent and is not received yet.
    pub(super) fn charged(&self) -> usize {
        self.charged.load(SeqCst)
    }

    /// Whether one more message may be sent. One more is as large as it likes, so that a small buffer does not block it for ever.
    pub(super) fn has_room(&self) -> bool {
        self.charged() < self.limit()
    }

    /// Whether all sockets together have too much on its way.
    pub(super) fn exhausted(&self) -> bool {
        self.total.load(SeqCst) >= MOST_IN_ALL
    }

    /// Whether poll(2) calls it writable: with three quarters free.
    pub(super) fn writable(&self) -> bool {
        self.charged().saturating_mul(4) <= self.limit()
    }

    pub(super) fn charge(&self, bytes: usize) {
        self.charged.fetch_add(bytes, SeqCst);
        self.total.fetch_add(bytes, SeqCst);
    }

    /// Something was received, or thrown away. Not to be called under an inbox's lock.
    pub(super) fn release(&self, bytes: usize) {
        self.total.fetch_sub(bytes, SeqCst);
        self.charged.fetch_sub(bytes, SeqCst);
        if self.writable() {
            self.queue.wake(Readiness::OUT | Readiness::WRNORM | Readiness::WRBAND);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cost_what_linux_charges_for_them() {
        assert_eq!(cost(1), 768);
        assert_eq!(cost(192), 768);
        assert_eq!(cost(193), 1280);
        assert!(cost(100_000) > 100_000 && cost(100_000) < 105_000);
    }
}
