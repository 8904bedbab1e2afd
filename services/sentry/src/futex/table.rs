//! The buckets: waiting, waking, moving waiters from one word to another.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    future::poll_fn,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Poll, Waker},
};

use bulkhead_ipc::Errno;
use parking_lot::{Mutex, MutexGuard};

use super::{ANY, WakeOp};
use crate::{
    abi::UserAddress,
    memory::{AddressSpace, FutexKey},
};

const BUCKETS: usize = 256;

pub(super) type Bucket = VecDeque<Arc<Waiter>>;

/// All waiters of the sandbox, by the identity of their word. Held as `Kernel.futexes`.
pub struct FutexTable {
    buckets: Box<[Mutex<Bucket>]>,
    hasher: RandomState,
}

impl Default for FutexTable {
    fn default() -> Self {
        FutexTable { buckets: (0..BUCKETS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

/// Somebody who waits.
pub(super) struct Waiter {
    /// Changes only under the locks of the bucket it leaves and the one it enters.
    key: Mutex<FutexKey>,
    bitset: u32,
    /// The thread that gets the lock with the wake-up (FUTEX_LOCK_PI).
    pub lock_for: Option<i32>,
    woken: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Waiter {
    pub fn key(&self) -> FutexKey {
        *self.key.lock()
    }
    fn is_woken(&self) -> bool {
        self.woken.load(SeqCst)
    }
    /// It is in no bucket any more.
    pub fn wake(&self) {
        self.woken.store(true, SeqCst);
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A place among the waiters of a word, given up when it goes out of scope.
pub struct Waiting<'a> {
    table: &'a FutexTable,
    pub(super) waiter: Arc<Waiter>,
}

impl Waiting<'_> {
    /// Until somebody wakes it.
    pub async fn woken(&self) {
        poll_fn(|cx| self.poll(cx)).await
    }
    /// As [`Waiting::woken`].
    pub fn poll(&self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if self.waiter.is_woken() {
            return Poll::Ready(());
        }
        *self.waiter.waker.lock() = Some(cx.waker().clone());
        if self.waiter.is_woken() { Poll::Ready(()) } else { Poll::Pending }
    }
    /// Gives the place up; whether somebody had woken it before that.
    pub fn leave(self) -> bool {
        !self.table.remove(&self.waiter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.table.remove(&self.waiter);
    }
}

impl FutexTable {
    /// Nobody waits.
    pub fn new() -> FutexTable {
        FutexTable::default()
    }

    fn index(&self, key: &FutexKey) -> usize {
        self.hasher.hash_one(key) as usize % BUCKETS
    }

    pub(super) fn bucket(&self, key: &FutexKey) -> MutexGuard<'_, Bucket> {
        // The index is within: it is a remainder.
        self.buckets[self.index(key)].lock()
    }

    /// Locks the buckets of two keys, in ascending order; the second is `None` when they are the same.
    fn two_buckets(&self, first: &FutexKey, second: &FutexKey) -> (MutexGuard<'_, Bucket>, Option<MutexGuard<'_, Bucket>>) {
        let (one, two) = (self.index(first), self.index(second));
        if one == two {
            return (self.buckets[one].lock(), None);
        }
        if one < two {
            let lower = self.buckets[one].lock();
            (lower, Some(self.buckets[two].lock()))
        } else {
            let lower = self.buckets[two].lock();
            (self.buckets[one].lock(), Some(lower))
        }
    }

    /// Enters the waiters of a word if that has the value `expected`; EAGAIN if not.
    pub fn enter(
        &self,
        memory: &AddressSpace,
        address: UserAddress,
        private: bool,
        expected: u32,
        bitset: u32,
    ) -> Result<Waiting<'_>, Errno> {
        let key = memory.futex_key(address, private)?;
        let mut bucket = self.bucket(&key);
        if memory.load_u32(address)? != expected {
            return Err(Errno::EAGAIN);
        }
        Ok(self.add(&mut bucket, key, bitset, None))
    }

    pub(super) fn add(&self, bucket: &mut Bucket, key: FutexKey, bitset: u32, lock_for: Option<i32>) -> Waiting<'_> {
        let waiter =
            Arc::new(Waiter { key: Mutex::new(key), bitset, lock_for, woken: AtomicBool::new(false), waker: Mutex::new(None) });
        bucket.push_back(waiter.clone());
        Waiting { table: self, waiter }
    }

    /// Takes a waiter out; false when it was not in any more.
    fn remove(&self, waiter: &Arc<Waiter>) -> bool {
        loop {
            if waiter.is_woken() {
                return false;
            }
            let key = waiter.key();
            let mut bucket = self.bucket(&key);
            if waiter.key() != key {
                // It was moved to another word meanwhile.
                continue;
            }
            return match bucket.iter().position(|other| Arc::ptr_eq(other, waiter)) {
                Some(at) => bucket.remove(at).is_some(),
                None => false,
            };
        }
    }

    fn wake_key(&self, key: &FutexKey, count: u32, bitset: u32) -> u32 {
        let woken = take(&mut self.bucket(key), key, count, bitset);
        wake_all(woken)
    }

    /// Wakes up to `count` waiters of a word whose bitset meets `bitset`; how many.
    pub fn wake_waiters(
        &self,
        memory: &AddressSpace,
        address: UserAddress,
        private: bool,
        count: u32,
        bitset: u32,
    ) -> Result<u32, Errno> {
        Ok(self.wake_key(&memory.futex_key(address, private)?, count, bitset))
    }

    /// Wakes up to `count` waiters on a word, shared or private (CLONE_CHILD_CLEARTID, robust lists); how many.
    pub fn wake(&self, memory: &AddressSpace, address: UserAddress, count: u32) -> Result<u32, Errno> {
        let (shared, private) = (memory.futex_key(address, false)?, memory.futex_key(address, true)?);
        let mut woken = self.wake_key(&shared, count, ANY);
        if private != shared && woken < count {
            woken += self.wake_key(&private, count - woken, ANY);
        }
        Ok(woken)
    }

    /// Wakes up to `wake` waiters of the first word and moves up to `requeue` others to the second, if the first has the value
    /// `expected` (when that is given; EAGAIN if not). How many were woken, and how many moved.
    #[allow(clippy::too_many_arguments, reason = "these are the call's own")]
    pub fn requeue(
        &self,
        memory: &AddressSpace,
        (from, from_private): (UserAddress, bool),
        (to, to_private): (UserAddress, bool),
        wake: u32,
        requeue: u32,
        expected: Option<u32>,
    ) -> Result<(u32, u32), Errno> {
        let (from_key, to_key) = (memory.futex_key(from, from_private)?, memory.futex_key(to, to_private)?);
        let (woken, moved) = {
            let (mut source, mut target) = self.two_buckets(&from_key, &to_key);
            if let Some(expected) = expected
                && memory.load_u32(from)? != expected
            {
                return Err(Errno::EAGAIN);
            }
            let woken = take(&mut source, &from_key, wake, ANY);
            let moving = if from_key == to_key {
                // They stay where they are, but count.
                let staying = source.iter().filter(|w| w.key() == from_key).count();
                return Ok((wake_all(woken), requeue.min(staying as u32)));
            } else {
                take(&mut source, &from_key, requeue, ANY)
            };
            let moved = moving.len() as u32;
            for waiter in moving {
                *waiter.key.lock() = to_key;
                target.as_mut().unwrap_or(&mut source).push_back(waiter);
            }
            (woken, moved)
        };
        Ok((wake_all(woken), moved))
    }

    /// FUTEX_WAKE_OP: changes the second word, wakes up to `wake` waiters of the first, and up to `wake_second` of the second if
    /// its old value passes the operation's comparison.
    pub fn wake_op(
        &self,
        memory: &AddressSpace,
        (first, second, private): (UserAddress, UserAddress, bool),
        (wake, wake_second): (u32, u32),
        operation: WakeOp,
    ) -> Result<u32, Errno> {
        let (first_key, second_key) = (memory.futex_key(first, private)?, memory.futex_key(second, private)?);
        let woken = {
            let (mut one, mut two) = self.two_buckets(&first_key, &second_key);
            let old = change(memory, second, |value| operation.apply(value))?;
            let mut woken = take(&mut one, &first_key, wake, ANY);
            if operation.compares(old) {
                woken.append(&mut take(two.as_mut().unwrap_or(&mut one), &second_key, wake_second, ANY));
            }
            woken
        };
        Ok(wake_all(woken))
    }
}

/// Changes a word atomically; its old value.
pub(super) fn change(memory: &AddressSpace, address: UserAddress, f: impl Fn(u32) -> u32) -> Result<u32, Errno> {
    let mut value = memory.load_u32(address)?;
    loop {
        let found = memory.compare_exchange_u32(address, value, f(value))?;
        if found == value {
            return Ok(value);
        }
        value = found;
    }
}

/// Takes up to `count` waiters of a word out of a bucket, those first that came first.
fn take(bucket: &mut Bucket, key: &FutexKey, count: u32, bitset: u32) -> Vec<Arc<Waiter>> {
    let mut taken = Vec::new();
    let mut at = 0;
    while (taken.len() as u32) < count
        && let Some(waiter) = bucket.get(at)
    {
        if waiter.bitset & bitset != 0 && waiter.lock_for.is_none() && waiter.key() == *key {
            taken.extend(bucket.remove(at));
        } else {
            at += 1;
        }
    }
    taken
}

fn wake_all(woken: Vec<Arc<Waiter>>) -> u32 {
    for waiter in &woken {
        waiter.wake();
    }
    woken.len() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> FutexKey {
        FutexKey::Private(1, n)
    }
    fn waiting(table: &FutexTable, n: u64, bitset: u32) -> Waiting<'_> {
        table.add(&mut table.bucket(&key(n)), key(n), bitset, None)
    }

    #[test]
    fn waiters_are_woken_in_the_order_they_came_and_only_of_their_word() {
        let table = FutexTable::new();
        let (a, b, other) = (waiting(&table, 4, ANY), waiting(&table, 4, ANY), waiting(&table, 8, ANY));
        assert_eq!(table.wake_key(&key(4), 1, ANY), 1);
        assert!(a.waiter.is_woken() && !b.waiter.is_woken());
        assert_eq!(table.wake_key(&key(4), 9, ANY), 1);
        assert!(b.waiter.is_woken() && !other.waiter.is_woken());
    }

    #[test]
    fn a_bitset_that_does_not_meet_is_passed_over() {
        let table = FutexTable::new();
        let (first, second) = (waiting(&table, 4, 1), waiting(&table, 4, 2));
        assert_eq!(table.wake_key(&key(4), 1, 2), 1);
        assert!(!first.waiter.is_woken() && second.waiter.is_woken());
    }

    #[test]
    fn who_leaves_knows_whether_it_was_woken_and_is_gone() {
        let table = FutexTable::new();
        let a = waiting(&table, 4, ANY);
        table.wake_key(&key(4), 1, ANY);
        assert!(a.leave());
        let b = waiting(&table, 4, ANY);
        assert!(!b.leave());
        assert_eq!(table.wake_key(&key(4), 1, ANY), 0);
        drop(waiting(&table, 4, ANY));
        assert!(table.bucket(&key(4)).is_empty());
    }

    #[test]
    fn a_moved_waiter_is_found_at_its_new_word_when_it_leaves() {
        let table = FutexTable::new();
        for n in 1..50 {
            let waiter = waiting(&table, 0, ANY);
            {
                let (mut from, mut to) = table.two_buckets(&key(0), &key(n));
                for moved in take(&mut from, &key(0), 1, ANY) {
                    *moved.key.lock() = key(n);
                    to.as_mut().unwrap_or(&mut from).push_back(moved);
                }
            }
            assert!(!waiter.leave());
            assert!(table.bucket(&key(n)).is_empty());
        }
    }
}
