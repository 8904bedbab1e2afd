//! Futexes: waiting on a word of memory (futex(2)).
//!
//! Waiters stand in buckets by the identity of their word ([`FutexKey`]). A waiter looks at the word and enters its bucket under
//! the bucket's lock, and a waker takes waiters out under it: whoever changes the word and then wakes finds every waiter that saw
//! the old value. Buckets are locked in ascending order; under their locks only guest memory is touched.

mod pi;
mod table;
mod wake_op;

pub use pi::Locked;
pub use table::{FutexTable, Waiting};
pub use wake_op::WakeOp;

/// FUTEX_BITSET_MATCH_ANY.
pub const ANY: u32 = u32::MAX;
