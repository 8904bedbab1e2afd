//! The sentry's side: copies, checks, and says nothing rather than something doubtful.

use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use super::{
    Dentry, Inode, Key, Mount,
    layout::{
        self, BYTES, DENTRY_WORDS, INDEX_MASK, INODE_WORDS, MOUNT_HEADER, MOUNT_TABLE, MOUNT_WORDS, MOUNTS, REMOVALS, REMOVED,
        REMOVED_KEYS, SLOTS, TARGET_BYTES, TARGET_WORDS, WAYS,
    },
};
use crate::{
    Errno,
    mapping::{Access, Memory},
};

/// How often a record that changes is read anew before it is given up.
const ATTEMPTS: usize = 3;

/// The mapped region. Every method answers `None` for what is not published, or not whole at the moment.
pub struct Reader {
    memory: Memory,
}

impl Reader {
    /// Maps a region's file; one that could shrink under us is refused.
    pub fn map(file: impl AsFd) -> Result<Reader, (&'static str, Errno)> {
        Ok(Reader { memory: Memory::map(file.as_fd(), BYTES, Access::Read)? })
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.words()[at]
    }

    /// A whole copy of the words that follow a sequence number.
    fn copy<const N: usize>(&self, at: usize) -> Option<[u64; N]> {
        for _ in 0..ATTEMPTS {
            let before = self.word(at).load(Ordering::Acquire);
            if before & 1 != 0 {
                continue;
            }
            let mut words = [0; N];
            for (word, from) in words.iter_mut().zip(&self.memory.words()[at + 1..]) {
                *word = from.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            if self.word(at).load(Ordering::Relaxed) == before {
                return Some(words);
            }
        }
        None
    }

    /// The dentry with this key.
    pub fn dentry(&self, key: Key) -> Option<Dentry> {
        if !key.is_some() || key.slot() >= SLOTS {
            return None;
        }
        let dentry = layout::decode_dentry(&self.copy(layout::dentry_at(key.slot()))?);
        (dentry.key == key).then_some(dentry)
    }

    /// What is known of `name` in a directory.
    pub fn child(&self, parent: Key, name: &[u8]) -> Option<Dentry> {
        let words = layout::name_words(name)?;
        let hash = layout::hash(parent, name.len(), &words);
        let bucket = layout::bucket_at(hash, self.word(INDEX_MASK).load(Ordering::Relaxed));
        for entry in &self.memory.words()[bucket..bucket + WAYS] {
            let Some(slot) = layout::slot_of(entry.load(Ordering::Acquire), hash) else { continue };
            let Some(copy) = self.copy::<{ DENTRY_WORDS - 1 }>(layout::dentry_at(slot)) else { continue };
            let dentry = layout::decode_dentry(&copy);
            if dentry.parent == parent && dentry.key.slot() == slot && layout::name_of(&copy) == Some((name.len(), words)) {
                return Some(dentry);
            }
        }
        None
    }

    /// The inode with this key.
    pub fn inode(&self, key: Key) -> Option<Inode> {
        if !key.is_some() || key.slot() >= SLOTS {
            return None;
        }
        let inode = layout::decode_inode(&self.copy::<{ INODE_WORDS - 1 }>(layout::inode_at(key.slot()))?)?;
        (inode.key == key).then_some(inode)
    }

    /// Appends to `path` where the symbolic link with this key points.
    pub fn target(&self, key: Key, path: &mut Vec<u8>) -> Option<()> {
        if !key.is_some() || key.slot() >= SLOTS {
            return None;
        }
        let words: [u64; TARGET_WORDS - 1] = self.copy(layout::target_at(key.slot()))?;
        let length = usize::try_from(words[1]).ok().filter(|length| *length <= TARGET_BYTES)?;
        if words[0] != key.0 || length == 0 {
            return None;
        }
        let end = path.len() + length;
        words[2..][..layout::words_of(length)].iter().for_each(|word| path.extend_from_slice(&word.to_le_bytes()));
        path.truncate(end);
        Some(())
    }

    /// Changes whenever the mount table does.
    pub fn mounts_version(&self) -> u64 {
        self.word(MOUNT_TABLE).load(Ordering::Acquire)
    }

    /// The mount table, with its version.
    pub fn mounts(&self) -> Option<(u64, Vec<Mount>)> {
        let version = self.mounts_version();
        let count = usize::try_from(self.word(MOUNT_TABLE + 1).load(Ordering::Relaxed)).ok().filter(|count| *count <= MOUNTS)?;
        let record = |n: usize| {
            let at = MOUNT_TABLE + MOUNT_HEADER + n * MOUNT_WORDS;
            layout::decode_mount(std::array::from_fn(|word| self.word(at + word).load(Ordering::Relaxed)))
        };
        let mounts = (0..count).map(record).collect();
        fence(Ordering::Acquire);
        (version & 1 == 0 && self.word(MOUNT_TABLE).load(Ordering::Relaxed) == version).then_some((version, mounts))
    }

    /// From now on.
    pub fn removals(&self) -> Removals {
        Removals { seen: self.word(REMOVED).load(Ordering::Acquire) }
    }

    /// Whether dentries were removed that `removals` has not said yet.
    pub fn has_removals(&self, removals: &Removals) -> bool {
        self.word(REMOVED).load(Ordering::Acquire) != removals.seen
    }

    /// Says which dentries were removed since the last time; `None` if there were too many to tell.
    pub fn removed(&self, removals: &mut Removals) -> Option<Vec<Key>> {
        let from = removals.seen;
        let to = self.word(REMOVED).load(Ordering::Acquire);
        removals.seen = to;
        let count = usize::try_from(to.wrapping_sub(from)).ok().filter(|count| *count < REMOVALS)?;
        let key = |n: usize| {
            let place = from.wrapping_add(n as u64) % REMOVALS as u64;
            Key(self.word(REMOVED_KEYS + place as usize).load(Ordering::Acquire))
        };
        let keys = (0..count).map(key).collect();
        fence(Ordering::Acquire);
        // What was overwritten meanwhile is not what was asked for.
        let now = self.word(REMOVED).load(Ordering::Relaxed);
        (now.wrapping_sub(from) < REMOVALS as u64).then_some(keys)
    }
}

/// How far the removed dentries were read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removals {
    seen: u64,
}
