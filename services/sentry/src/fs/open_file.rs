//! Open file descriptions.
//!
//! Owns status flags, position, and the moment of release: when the last reference goes, in the call that drops it, so
//! that the other end of a pipe sees a close at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{FileOps, Location, locks};

/// Who is told by SIGIO (fcntl F_SETOWN_EX, F_SETSIG). Kept for those who read it back; no file sends it yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AsyncOwner {
    /// F_OWNER_TID, F_OWNER_PID or F_OWNER_PGRP.
    pub kind: i32,
    /// The number.
    pub id: i32,
    /// The signal; 0 is SIGIO.
    pub signal: i32,
}

/// F_OWNER_PID.
const F_OWNER_PID: i32 = 1;
/// F_OWNER_PGRP.
pub const F_OWNER_PGRP: i32 = 2;

/// An open file description.
pub struct OpenFile {
    /// O_* status flags and access mode (no O_CLOEXEC, O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC).
    pub flags: AtomicU32,
    /// File position.
    pub position: Mutex<u64>,
    /// What stands behind it.
    pub ops: Arc<dyn FileOps>,
    /// Where it was opened, for files that have a path.
    pub location: Option<Location>,
    /// Unique number, the owner of flock and OFD locks.
    pub id: u64,
    /// F_SETOWN and F_SETSIG.
    pub owner: Mutex<AsyncOwner>,
    /// Whether a lock may be held in the name of `id`.
    pub(super) locked: AtomicBool,
}

/// Where numbers of open files start: above every process id, which owns POSIX locks in the same space.
const FIRST_ID: u64 = 1 << 32;

/// Flags that say how to open and are forgotten afterwards.
const OPENING_FLAGS: u32 = (libc::O_CLOEXEC | libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY | libc::O_TRUNC) as u32;

impl OpenFile {
    /// A new one with `flags` O_*.
    pub fn new(ops: Arc<dyn FileOps>, flags: u32, location: Option<Location>) -> Arc<OpenFile> {
        static NEXT: AtomicU64 = AtomicU64::new(FIRST_ID);
        Arc::new(OpenFile {
            flags: AtomicU32::new(flags & !OPENING_FLAGS),
            position: Mutex::new(0),
            ops,
            location,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            owner: Mutex::default(),
            locked: AtomicBool::new(false),
        })
    }

    /// All flags.
    pub fn status(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Whether this flag (an `O_*` of libc) is set.
    pub fn has(&self, flag: i32) -> bool {
        self.status() & flag as u32 != 0
    }

    /// Whether it was opened with O_PATH: it names a place, and every other use of it is EBADF.
    pub fn is_path(&self) -> bool {
        self.has(libc::O_PATH)
    }

    /// Whether it may be read.
    pub fn readable(&self) -> bool {
        !self.is_path() && matches!(self.status() as i32 & libc::O_ACCMODE, libc::O_RDONLY | libc::O_RDWR)
    }

    /// Whether it may be written.
    pub fn writable(&self) -> bool {
        !self.is_path() && matches!(self.status() as i32 & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR)
    }

    /// O_NONBLOCK.
    pub fn nonblocking(&self) -> bool {
        self.has(libc::O_NONBLOCK)
    }

    /// Sets or clears a flag.
    pub fn set(&self, flag: i32, on: bool) {
        if on {
            self.flags.fetch_or(flag as u32, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!(flag as u32), Ordering::Relaxed);
        }
    }

    /// F_SETOWN: a process, or with a negative number a process group. EINVAL.
    pub fn set_owner(&self, id: i32) -> Result<(), Errno> {
        let kind = if id < 0 { F_OWNER_PGRP } else { F_OWNER_PID };
        let mut owner = self.owner.lock();
        *owner = AsyncOwner { kind, id: id.checked_abs().ok_or(Errno::EINVAL)?, signal: owner.signal };
        Ok(())
    }

    /// F_GETOWN.
    pub fn owner_number(&self) -> i32 {
        let owner = *self.owner.lock();
        if owner.kind == F_OWNER_PGRP { -owner.id } else { owner.id }
    }

    /// Its ops as a concrete type.
    pub fn downcast<T: FileOps>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.locked.load(Ordering::Relaxed) {
            locks::release_description(self);
        }
        let ops = self.ops.clone();
        ops.release(self);
    }
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("id", &self.id).field("flags", &self.status()).finish_non_exhaustive()
    }
}
