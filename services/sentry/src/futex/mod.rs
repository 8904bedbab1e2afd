//! Futexes: waiting on a word of memory (futex(2)).

use bulkhead_ipc::Errno;

use crate::{abi::UserAddress, memory::AddressSpace};

/// All waiters of the sandbox, by the identity of their word. Held as `Kernel.futexes`.
#[derive(Default)]
pub struct FutexTable {}

impl FutexTable {
    /// Nobody waits.
    pub fn new() -> FutexTable {
        FutexTable {}
    }
    /// Wakes up to `count` waiters on a word, shared or private (CLONE_CHILD_CLEARTID, robust lists); how many.
    pub fn wake(&self, memory: &AddressSpace, address: UserAddress, count: u32) -> Result<u32, Errno> {
        let _ = (memory, address, count);
        todo!()
    }
    /// For the robust list of an exiting thread: if the word's owner is `tid`, marks it FUTEX_OWNER_DIED and wakes a waiter.
    pub fn owner_died(&self, memory: &AddressSpace, address: UserAddress, tid: i32, pi: bool) -> Result<(), Errno> {
        let _ = (memory, address, tid, pi);
        todo!()
    }
}
