//! What vfs publishes: names and attributes, in memory that the sentry maps read-only, so that the sentry answers `stat` and walks
//! without asking.
//!
//! The region is a memory file of fixed size, of which only the pages in use exist. It holds, one after the other, a header, the
//! mount table, a hash index of the names, and three tables of fixed records: dentries, inodes, and targets of symbolic links. A
//! record stands in the slot that its [`Key`] names. It says by its key whose it is: a key is never used twice, so a slot that was
//! given to somebody else does not pass for what it was. Not everything is published (long names, what lies beyond the tables, what
//! others than vfs may change), and what is not found here says nothing: the sentry asks vfs then.
//!
//! Each record begins with a sequence number, which is odd while the record changes. A change of several records is made at once:
//! all of them become odd, are written, and become even again, so that who sees the new state of one never sees the old state of
//! another. vfs does so before it answers the request that changed something.
//!
//! **Invariants.** Only [`Writer`]'s mapping can write to the file: it is sealed before it is given away. [`Reader`] takes nothing
//! for granted all the same: it copies a record, then checks it; nothing in the region makes it panic, loop or read elsewhere.

mod layout;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{Reader, Removals};
pub use writer::{Change, Writer};

use crate::vfs::Attributes;

/// Names a published dentry or inode: its slot, and a serial number that makes it unique.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Key(pub u64);

/// Bits of a key that are the slot.
const SLOT_BITS: u32 = 24;

impl Key {
    /// Nothing.
    pub const NONE: Key = Key(0);

    /// The key of what is the `serial`th (from 1 on) of its kind, in a slot; [`Key::NONE`] when the tables have no such slot.
    pub fn new(slot: usize, serial: u64) -> Key {
        if slot < layout::SLOTS { Key(serial << SLOT_BITS | slot as u64) } else { Key::NONE }
    }

    /// The slot; one that no table may have if the key came from elsewhere.
    pub fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    /// Whether it names something.
    pub fn is_some(self) -> bool {
        self != Key::NONE
    }
}

/// A published name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dentry {
    /// Its own key.
    pub key: Key,
    /// The directory that it is or was in; none for the root of a file system.
    pub parent: Key,
    /// What it names; none if there is no such file.
    pub inode: Key,
    /// Something is mounted on it, as seen through one mount or another.
    pub is_mountpoint: bool,
    /// It was unlinked.
    pub is_deleted: bool,
}

/// The attributes of a published file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Inode {
    /// Its own key.
    pub key: Key,
    /// Attributes, without those of a mount.
    pub attributes: Attributes,
    /// The contents are in a memory file of vfs.
    pub in_memory: bool,
    /// The sentry has that memory file: size, blocks and times of access and modification are the memory file's own now, and the
    /// time of change is the later of both; those here are out of date.
    pub is_lent: bool,
}

/// A mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mount {
    /// Its id.
    pub id: u32,
    /// ST_* flags.
    pub flags: u32,
    /// The mount that it is in, 0 for the root mount.
    pub parent: u32,
    /// The dentry that it is mounted on, in `parent`.
    pub mountpoint: Key,
    /// Its root; none if that is not published, or in a file system of the sentry's.
    pub root: Key,
    /// No dentry leads to it: it lies within a file system of the sentry's.
    pub is_hidden: bool,
}
