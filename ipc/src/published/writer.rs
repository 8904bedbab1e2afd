//! vfs's side.

use std::{
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use super::{
    Dentry, Inode, Key, Mount,
    layout::{
        self, BUCKETS, BYTES, DENTRY_WORDS, DentryWords, INDEX_MASK, INODE_WORDS, MOUNT_HEADER, MOUNT_TABLE, MOUNT_WORDS, MOUNTS,
        REMOVALS, REMOVED, REMOVED_KEYS, SLOTS, TARGET_BYTES, TARGET_WORDS, TOO_MANY, WAYS,
    },
};
use crate::{
    Errno,
    mapping::{self, Memory},
};

/// Buckets of the index at first.
const FIRST_BUCKETS: usize = 64;
/// The index grows when more than so many of a bucket's entries are taken on average.
const FULL: usize = 4;

/// A change of one record.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Change<'a> {
    /// A dentry and its name.
    Dentry { dentry: Dentry, name: &'a [u8] },
    /// The slot of a dentry that is published no more.
    NoDentry { slot: usize },
    /// An inode, and where it points if it is a symbolic link.
    Inode { inode: Inode, target: Option<&'a [u8]> },
    /// The slot of an inode that is published no more.
    NoInode { slot: usize },
}

/// New words of a record, behind its sequence number.
struct Draft {
    at: usize,
    length: usize,
    words: [u64; INODE_WORDS - 1],
}

/// The region, to be written to. What is read from it is what this writer wrote: nobody else can.
pub struct Writer {
    memory: Memory,
    file: OwnedFd,
    buckets: usize,
    indexed: usize,
    /// No dentry's slot is above.
    slots: usize,
    drafts: Vec<Draft>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("buckets", &self.buckets).field("indexed", &self.indexed).finish_non_exhaustive()
    }
}

impl Writer {
    /// An empty region. EINVAL on hosts that cannot seal it.
    pub fn new() -> Result<Writer, (&'static str, Errno)> {
        let (file, memory) = mapping::create_published(c"bulkhead-published", BYTES)?;
        let writer = Writer { memory, file, buckets: FIRST_BUCKETS, indexed: 0, slots: 0, drafts: Vec::new() };
        writer.word(INDEX_MASK).store(FIRST_BUCKETS as u64 - 1, Ordering::Relaxed);
        Ok(writer)
    }

    /// The file, which others can only read.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Names that can be found.
    pub fn names(&self) -> usize {
        self.indexed
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.words()[at]
    }

    fn read<const N: usize>(&self, at: usize) -> [u64; N] {
        std::array::from_fn(|n| self.word(at + n).load(Ordering::Relaxed))
    }

    /// Makes changes, all at once; at most one to a record. What a change says that stands there already costs no more than a look.
    pub fn apply<'a>(&mut self, changes: impl IntoIterator<Item = Change<'a>>) {
        let mut index = Vec::new();
        for change in changes {
            self.draft(&change, &mut index);
        }
        let drafts = std::mem::take(&mut self.drafts);
        for draft in &drafts {
            let sequence = self.word(draft.at);
            sequence.store(sequence.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        }
        // Whoever sees one of the stores below sees those above.
        fence(Ordering::Release);
        for draft in &drafts {
            for (n, word) in draft.words[..draft.length].iter().enumerate() {
                self.word(draft.at + 1 + n).store(*word, Ordering::Relaxed);
            }
        }
        for (slot, old, new) in index {
            self.reindex(slot, old, new);
        }
        for draft in &drafts {
            let sequence = self.word(draft.at);
            sequence.store((sequence.load(Ordering::Relaxed) | 1).wrapping_add(1), Ordering::Release);
        }
        self.drafts = drafts;
        self.drafts.clear();
    }

    fn draft(&mut self, change: &Change<'_>, index: &mut Vec<(usize, Option<u64>, Option<u64>)>) {
        match change {
            Change::Dentry { dentry, name } => {
                self.draft_dentry(dentry.key.slot(), layout::encode_dentry(dentry, name), index);
            }
            Change::NoDentry { slot } => self.draft_dentry(*slot, [0; DENTRY_WORDS - 1], index),
            Change::Inode { inode, target } => {
                let slot = inode.key.slot();
                if slot >= SLOTS {
                    return;
                }
                if let Some(target) = target {
                    self.draft_target(slot, inode.key, target);
                }
                self.draft_words(layout::inode_at(slot), &layout::encode_inode(inode));
            }
            Change::NoInode { slot } if *slot < SLOTS => self.draft_words(layout::inode_at(*slot), &[0; INODE_WORDS - 1]),
            Change::NoInode { .. } => {}
        }
    }

    fn draft_dentry(&mut self, slot: usize, new: DentryWords, index: &mut Vec<(usize, Option<u64>, Option<u64>)>) {
        if slot >= SLOTS {
            return;
        }
        let at = layout::dentry_at(slot);
        let old: DentryWords = self.read(at + 1);
        let (old_hash, new_hash) = (hash_of(&old), hash_of(&new));
        // One that was there may have lost its place in the index.
        if old_hash != new_hash || new_hash.is_some_and(|hash| !self.is_indexed(hash, slot)) {
            index.push((slot, old_hash, new_hash));
        }
        self.slots = self.slots.max(slot + 1);
        self.draft_words(at, &new);
    }

    fn draft_target(&mut self, slot: usize, key: Key, target: &[u8]) {
        let mut words = [0; TARGET_WORDS - 1];
        words[0] = key.0;
        if target.len() <= TARGET_BYTES {
            words[1] = target.len() as u64;
            for (chunk, word) in target.chunks(8).zip(&mut words[2..]) {
                let mut bytes = [0; 8];
                bytes[..chunk.len()].copy_from_slice(chunk);
                *word = u64::from_le_bytes(bytes);
            }
        }
        self.draft_words(layout::target_at(slot), &words);
    }

    fn draft_words(&mut self, at: usize, new: &[u64]) {
        if new.iter().enumerate().all(|(n, word)| self.word(at + 1 + n).load(Ordering::Relaxed) == *word) {
            return;
        }
        let mut words = [0; INODE_WORDS - 1];
        words[..new.len()].copy_from_slice(new);
        self.drafts.push(Draft { at, length: new.len(), words });
    }

    fn bucket(&self, hash: u64) -> &[AtomicU64] {
        let bucket = layout::bucket_at(hash, self.buckets as u64 - 1);
        &self.memory.words()[bucket..bucket + WAYS]
    }

    fn is_indexed(&self, hash: u64, slot: usize) -> bool {
        let entry = layout::index_entry(hash, slot);
        self.bucket(hash).iter().any(|word| word.load(Ordering::Relaxed) == entry)
    }

    /// Moves a dentry in the index from one hash to another.
    fn reindex(&mut self, slot: usize, old: Option<u64>, new: Option<u64>) {
        if let Some(old) = old {
            let entry = layout::index_entry(old, slot);
            let found = self.bucket(old).iter().find(|word| word.load(Ordering::Relaxed) == entry);
            if let Some(word) = found {
                word.store(0, Ordering::Relaxed);
                self.indexed -= 1;
            }
        }
        if let Some(new) = new {
            if self.indexed >= self.buckets * FULL && self.buckets < BUCKETS {
                self.grow();
            }
            self.enter(new, slot);
        }
    }

    /// Puts a dentry into its bucket, in the place of another if there is no room: that one is not found any more.
    fn enter(&mut self, hash: u64, slot: usize) {
        if self.is_indexed(hash, slot) {
            return;
        }
        let bucket = self.bucket(hash);
        let free = bucket.iter().find(|word| word.load(Ordering::Relaxed) == 0);
        let added = usize::from(free.is_some());
        free.unwrap_or(&bucket[slot % WAYS]).store(layout::index_entry(hash, slot), Ordering::Release);
        self.indexed += added;
    }

    /// Makes the index four times as large. Who looks meanwhile may not find what is there.
    fn grow(&mut self) {
        self.memory.words()[layout::INDEX..][..self.buckets * WAYS].iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.buckets = (self.buckets * 4).min(BUCKETS);
        self.indexed = 0;
        self.word(INDEX_MASK).store(self.buckets as u64 - 1, Ordering::Release);
        for slot in 0..self.slots {
            if let Some(hash) = hash_of(&self.read(layout::dentry_at(slot) + 1)) {
                self.enter(hash, slot);
            }
        }
    }

    /// Notes that dentries were removed, so that whoever keeps their files lets go of them.
    pub fn note_removals(&self, keys: impl IntoIterator<Item = Key>) {
        let mut count = self.word(REMOVED).load(Ordering::Relaxed);
        for key in keys {
            self.word(REMOVED_KEYS + (count % REMOVALS as u64) as usize).store(key.0, Ordering::Relaxed);
            count = count.wrapping_add(1);
            self.word(REMOVED).store(count, Ordering::Release);
        }
    }

    /// Replaces the mount table; with too many mounts there is none.
    pub fn set_mounts(&self, mounts: &[Mount]) {
        let sequence = self.word(MOUNT_TABLE);
        let version = sequence.load(Ordering::Relaxed);
        sequence.store(version | 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let count = if mounts.len() > MOUNTS { TOO_MANY } else { mounts.len() as u64 };
        self.word(MOUNT_TABLE + 1).store(count, Ordering::Relaxed);
        for (n, mount) in mounts.iter().take(MOUNTS).enumerate() {
            let at = MOUNT_TABLE + MOUNT_HEADER + n * MOUNT_WORDS;
            for (word, value) in layout::encode_mount(mount).into_iter().enumerate() {
                self.word(at + word).store(value, Ordering::Relaxed);
            }
        }
        sequence.store(version.wrapping_add(2), Ordering::Release);
    }
}

/// The hash that a dentry is found by.
fn hash_of(words: &DentryWords) -> Option<u64> {
    let (length, name) = layout::name_of(words)?;
    Some(layout::hash(layout::decode_dentry(words).parent, length, &name))
}
