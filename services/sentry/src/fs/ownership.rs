//! Mode, owner and times of files that live in the sentry only (pipes, memfds, the container's own stdio).

use bulkhead_ipc::vfs::{Attributes, Timestamp};
use parking_lot::Mutex;

use crate::task::{Credentials, Thread};

/// What fchmod(2) and fchown(2) change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ownership {
    /// Permission bits.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// An inode of the sentry's own.
pub struct LocalInode {
    /// Owner and permissions.
    pub ownership: Mutex<Ownership>,
    /// Inode number.
    pub number: u64,
    /// When it was made.
    created: Timestamp,
}

/// st_dev of the sentry's own anonymous files: major 0, as Linux gives to file systems without a block device.
pub const ANONYMOUS_DEVICE: u64 = 13;

impl LocalInode {
    /// A new one.
    pub fn new(permissions: u32, credentials: &Credentials) -> LocalInode {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1024);
        LocalInode {
            ownership: Mutex::new(Ownership { permissions, uid: credentials.fsuid, gid: credentials.fsgid }),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            created: wall_clock(),
        }
    }

    /// stat(2)'s fields for a file of this type (S_IF*) and size.
    pub fn attributes(&self, kind: u32, size: u64) -> Attributes {
        let ownership = *self.ownership.lock();
        Attributes {
            device: ANONYMOUS_DEVICE,
            inode: self.number,
            mode: kind | ownership.permissions,
            links: 1,
            uid: ownership.uid,
            gid: ownership.gid,
            size,
            block_size: 4096,
            accessed: self.created,
            modified: self.created,
            changed: self.created,
            created: self.created,
            ..Attributes::default()
        }
    }
}

impl Ownership {
    /// The caller's ids with these permission bits.
    pub fn of(thread: &Thread, permissions: u32) -> Ownership {
        let credentials = thread.credentials();
        Ownership { permissions, uid: credentials.fsuid, gid: credentials.fsgid }
    }
}

/// CLOCK_REALTIME now.
pub fn wall_clock() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: now.as_secs() as i64, nanoseconds: now.subsec_nanos() }
}
