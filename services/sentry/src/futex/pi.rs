//! Locks whose word holds the owner's thread id (FUTEX_LOCK_PI), and what becomes of them when the owner ends.
//!
//! Priorities are not inherited, as guests have none: what is kept is who owns what. An unlock hands the lock to the first waiter.

use bulkhead_ipc::Errno;

use super::table::{Bucket, FutexTable, Waiter, Waiting, change};
use crate::{
    abi::UserAddress,
    memory::{AddressSpace, FutexKey},
};

/// FUTEX_WAITERS.
const WAITERS: u32 = 0x8000_0000;
/// FUTEX_OWNER_DIED.
const OWNER_DIED: u32 = 0x4000_0000;
/// FUTEX_TID_MASK.
const TID: u32 = 0x3fff_ffff;

/// What an attempt to lock came to.
pub enum Locked<'a> {
    /// It is the caller's.
    Taken,
    /// The caller waits for it; who is woken owns it.
    Waits(Waiting<'a>),
}

/// Takes the first waiter for the lock out of the bucket, and says whether there are more.
fn next_owner(bucket: &mut Bucket, key: &FutexKey) -> Option<(std::sync::Arc<Waiter>, i32, bool)> {
    let waits = |waiter: &Waiter| waiter.lock_for.is_some() && waiter.key() == *key;
    let at = bucket.iter().position(|waiter| waits(waiter))?;
    let waiter = bucket.remove(at)?;
    let tid = waiter.lock_for?;
    let more = bucket.iter().any(|waiter| waits(waiter));
    Some((waiter, tid, more))
}

impl FutexTable {
    /// Locks for thread `tid`, or enters the waiters (unless `try_only`: EAGAIN then). `lives` says whether a thread is there.
    pub fn lock_pi(
        &self,
        memory: &AddressSpace,
        address: UserAddress,
        private: bool,
        tid: i32,
        try_only: bool,
        lives: impl Fn(i32) -> bool,
    ) -> Result<Locked<'_>, Errno> {
        let key = memory.futex_key(address, private)?;
        let mut bucket = self.bucket(&key);
        let mut value = memory.load_u32(address)?;
        loop {
            let owner = value & TID;
            if owner == tid as u32 {
                return Err(Errno::EDEADLK);
            }
            let new = if owner == 0 { value | tid as u32 } else { value | WAITERS };
            if owner != 0 {
                if !lives(owner as i32) {
                    return Err(Errno::ESRCH);
                }
                if try_only {
                    return Err(Errno::EAGAIN);
                }
            }
            let found = memory.compare_exchange_u32(address, value, new)?;
            if found != value {
                value = found;
                continue;
            }
            if owner == 0 {
                return Ok(Locked::Taken);
            }
            return Ok(Locked::Waits(self.add(&mut bucket, key, super::ANY, Some(tid))));
        }
    }

    /// Unlocks; EPERM when it is not `tid`'s.
    pub fn unlock_pi(&self, memory: &AddressSpace, address: UserAddress, private: bool, tid: i32) -> Result<(), Errno> {
        let key = memory.futex_key(address, private)?;
        let next = {
            let mut bucket = self.bucket(&key);
            if memory.load_u32(address)? & TID != tid as u32 {
                return Err(Errno::EPERM);
            }
            let next = next_owner(&mut bucket, &key);
            let word = next.as_ref().map_or(0, |(_, tid, more)| *tid as u32 | if *more { WAITERS } else { 0 });
            change(memory, address, |_| word)?;
            next
        };
        if let Some((waiter, ..)) = next {
            waiter.wake();
        }
        Ok(())
    }

    /// For the robust list of an exiting thread: if the word's owner is `tid`, marks it FUTEX_OWNER_DIED and wakes a waiter.
    pub fn owner_died(&self, memory: &AddressSpace, address: UserAddress, tid: i32, pi: bool) -> Result<(), Errno> {
        if memory.load_u32(address)? & TID != tid as u32 {
            return Ok(());
        }
        for private in [false, true] {
            let key = memory.futex_key(address, private)?;
            let next = {
                let mut bucket = self.bucket(&key);
                let next = next_owner(&mut bucket, &key);
                if let Some((_, tid, more)) = &next {
                    let word = *tid as u32 | OWNER_DIED | if *more { WAITERS } else { 0 };
                    change(memory, address, |_| word)?;
                }
                next
            };
            if let Some((waiter, ..)) = next {
                waiter.wake();
                return Ok(());
            }
        }
        let old = change(memory, address, |value| if value & TID == tid as u32 { value & WAITERS | OWNER_DIED } else { value })?;
        if !pi && old & TID == tid as u32 && old & WAITERS != 0 {
            self.wake(memory, address, 1)?;
        }
        Ok(())
    }
}
