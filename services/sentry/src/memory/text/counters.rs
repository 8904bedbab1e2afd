//! How often call sites are used: good enough to see what is hot, cheap enough to be always on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const ENTRIES: usize = 64;

/// A call site, and how often it called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallSite {
    /// Address behind the `syscall` instruction.
    pub address: u64,
    /// Calls by way of a thunk.
    pub rewritten: u64,
    /// Calls by way of a signal.
    pub trapped: u64,
}

/// Calls by way of thunks. A small table in which a site may take another's place: then that one's count starts anew.
pub struct Counters([(AtomicU64, AtomicU64); ENTRIES]);

impl Default for Counters {
    fn default() -> Self {
        Counters([const { (AtomicU64::new(0), AtomicU64::new(0)) }; ENTRIES])
    }
}

impl Counters {
    pub fn count(&self, address: u64) {
        let (site, count) = &self.0[(address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize];
        if site.load(Relaxed) != address {
            site.store(address, Relaxed);
            count.store(0, Relaxed);
        }
        count.fetch_add(1, Relaxed);
    }

    pub fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(site, count)| (site.load(Relaxed), count.load(Relaxed))).filter(|(site, _)| *site != 0)
    }
}
