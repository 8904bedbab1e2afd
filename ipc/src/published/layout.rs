//! Where everything is in the region, in 64-bit words, and how records are written as words.

use super::{Dentry, Inode, Key, Mount};
use crate::vfs::{Attributes, Timestamp};

/// Slots of each table: what is beyond is not published.
pub(super) const SLOTS: usize = 1 << 17;
/// Buckets of the index at most.
pub(super) const BUCKETS: usize = 1 << 15;
/// Entries of a bucket: a cache line.
pub(super) const WAYS: usize = 8;
/// Mounts at most.
pub(super) const MOUNTS: usize = 255;
/// Keys of removed dentries that are kept.
pub(super) const REMOVALS: usize = 64;

/// Header: buckets of the index in use, less one.
pub(super) const INDEX_MASK: usize = 0;
/// Header: how many dentries were removed so far.
pub(super) const REMOVED: usize = 8;
/// Header: the last of them, in a circle.
pub(super) const REMOVED_KEYS: usize = 16;

/// The mount table: sequence, count, records.
pub(super) const MOUNT_TABLE: usize = 512;
/// Words of a mount.
pub(super) const MOUNT_WORDS: usize = 4;
/// Its header: sequence and count.
pub(super) const MOUNT_HEADER: usize = 4;
/// What the count says when there are too many mounts.
pub(super) const TOO_MANY: u64 = u64::MAX;

/// The index.
pub(super) const INDEX: usize = MOUNT_TABLE + 1024;
/// The dentries.
pub(super) const DENTRIES: usize = INDEX + BUCKETS * WAYS;
/// Words of a dentry.
pub(super) const DENTRY_WORDS: usize = 12;
/// Words of a dentry's name.
pub(super) const NAME_WORDS: usize = 7;
/// The inodes.
pub(super) const INODES: usize = DENTRIES + SLOTS * DENTRY_WORDS;
/// Words of an inode.
pub(super) const INODE_WORDS: usize = 16;
/// The targets of symbolic links, each in the slot of its inode.
pub(super) const TARGETS: usize = INODES + SLOTS * INODE_WORDS;
/// Words of a target's record.
pub(super) const TARGET_WORDS: usize = 16;
/// Bytes of a target at most.
pub(super) const TARGET_BYTES: usize = (TARGET_WORDS - 3) * 8;
/// Bytes of the region.
pub(super) const BYTES: usize = (TARGETS + SLOTS * TARGET_WORDS) * 8;

/// Bytes of a published name at most.
pub(super) const NAME_BYTES: usize = NAME_WORDS * 8;

const _: () = assert!(REMOVED_KEYS + REMOVALS <= MOUNT_TABLE);
const _: () = assert!(MOUNT_HEADER + MOUNTS * MOUNT_WORDS <= INDEX - MOUNT_TABLE);

/// The word of a dentry that describes it, after sequence, key, parent and inode.
pub(super) const DESCRIPTION: usize = 4;
/// Where the name begins.
pub(super) const NAME: usize = 5;

const IS_MOUNTPOINT: u64 = 1 << 8;
const IS_DELETED: u64 = 1 << 9;
/// The length of a name that is too long to be here.
const NOT_HERE: u64 = 255;

pub(super) fn dentry_at(slot: usize) -> usize {
    DENTRIES + slot * DENTRY_WORDS
}

pub(super) fn inode_at(slot: usize) -> usize {
    INODES + slot * INODE_WORDS
}

pub(super) fn target_at(slot: usize) -> usize {
    TARGETS + slot * TARGET_WORDS
}

/// The words of a name, filled up with zeros; `None` if it is too long.
pub(super) fn name_words(name: &[u8]) -> Option<[u64; NAME_WORDS]> {
    if name.len() > NAME_BYTES {
        return None;
    }
    let mut words = [0; NAME_WORDS];
    for (chunk, word) in name.chunks(8).zip(&mut words) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_le_bytes(bytes);
    }
    Some(words)
}

/// Words of a name that are not all zero by their length.
pub(super) fn words_of(length: usize) -> usize {
    length.div_ceil(8)
}

/// The hash of a name in a directory. Who finds names that collide makes only their own lookups slow.
pub(super) fn hash(parent: Key, length: usize, words: &[u64; NAME_WORDS]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64| {
        let product = u128::from(hash) * u128::from(FACTOR);
        product as u64 ^ (product >> 64) as u64
    };
    let words = &words[..words_of(length).min(NAME_WORDS)];
    words.iter().fold(mix(parent.0 ^ (length as u64) << 56), |hash, word| mix(hash ^ word))
}

/// What stands in the index for the dentry of a slot: half of the hash, and the slot.
pub(super) fn index_entry(hash: u64, slot: usize) -> u64 {
    (hash & 0xffff_ffff_0000_0000) | (slot as u64 + 1)
}

/// The slot of an index entry that may be what a hash asks for.
pub(super) fn slot_of(entry: u64, hash: u64) -> Option<usize> {
    if (entry ^ hash) >> 32 != 0 {
        return None;
    }
    (entry as u32).checked_sub(1).map(|slot| slot as usize).filter(|slot| *slot < SLOTS)
}

/// The first word of a hash's bucket.
pub(super) fn bucket_at(hash: u64, mask: u64) -> usize {
    INDEX + (hash & mask) as usize % BUCKETS * WAYS
}

/// All words of a dentry but the sequence.
pub(super) type DentryWords = [u64; DENTRY_WORDS - 1];
/// All words of an inode but the sequence.
pub(super) type InodeWords = [u64; INODE_WORDS - 1];

pub(super) fn encode_dentry(dentry: &Dentry, name: &[u8]) -> DentryWords {
    let mut words = [0; DENTRY_WORDS - 1];
    words[..3].copy_from_slice(&[dentry.key.0, dentry.parent.0, dentry.inode.0]);
    let length = match name_words(name) {
        Some(name_words) => {
            words[NAME - 1..].copy_from_slice(&name_words);
            name.len() as u64
        }
        None => NOT_HERE,
    };
    let flag = |set, flag| if set { flag } else { 0 };
    words[DESCRIPTION - 1] = length | flag(dentry.is_mountpoint, IS_MOUNTPOINT) | flag(dentry.is_deleted, IS_DELETED);
    words
}

/// The dentry of some words.
pub(super) fn decode_dentry(words: &DentryWords) -> Dentry {
    Dentry {
        key: Key(words[0]),
        parent: Key(words[1]),
        inode: Key(words[2]),
        is_mountpoint: words[DESCRIPTION - 1] & IS_MOUNTPOINT != 0,
        is_deleted: words[DESCRIPTION - 1] & IS_DELETED != 0,
    }
}

/// Length and words of the name that a dentry can be found by; `None` if it cannot.
pub(super) fn name_of(words: &DentryWords) -> Option<(usize, [u64; NAME_WORDS])> {
    let description = words[DESCRIPTION - 1];
    let length = (description & 0xff) as usize;
    let dentry = decode_dentry(words);
    if length == 0 || length > NAME_BYTES || dentry.is_deleted || !dentry.key.is_some() || !dentry.parent.is_some() {
        return None;
    }
    let mut name = [0; NAME_WORDS];
    name.copy_from_slice(&words[NAME - 1..]);
    Some((length, name))
}

const IN_MEMORY: u64 = 1;
const IS_LENT: u64 = 2;

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

pub(super) fn encode_inode(inode: &Inode) -> InodeWords {
    let a = &inode.attributes;
    let flags = if inode.in_memory { IN_MEMORY } else { 0 } | if inode.is_lent { IS_LENT } else { 0 };
    [
        inode.key.0,
        a.device,
        a.inode,
        pair(a.mode, a.links),
        pair(a.uid, a.gid),
        a.special_device,
        a.size,
        a.blocks,
        u64::from(a.block_size) | flags << 32,
        a.accessed.seconds.cast_unsigned(),
        a.modified.seconds.cast_unsigned(),
        a.changed.seconds.cast_unsigned(),
        a.created.seconds.cast_unsigned(),
        pair(a.accessed.nanoseconds, a.modified.nanoseconds),
        pair(a.changed.nanoseconds, a.created.nanoseconds),
    ]
}

/// The inode of some words; `None` if they cannot be one.
pub(super) fn decode_inode(words: &InodeWords) -> Option<Inode> {
    let time = |seconds: u64, nanoseconds: u32| {
        (nanoseconds < 1_000_000_000).then_some(Timestamp { seconds: seconds.cast_signed(), nanoseconds })
    };
    let ((mode, links), (uid, gid)) = (halves(words[3]), halves(words[4]));
    let (block_size, flags) = halves(words[8]);
    let ((accessed, modified), (changed, created)) = (halves(words[13]), halves(words[14]));
    Some(Inode {
        key: Key(words[0]),
        attributes: Attributes {
            device: words[1],
            inode: words[2],
            mode,
            links,
            uid,
            gid,
            special_device: words[5],
            size: words[6],
            blocks: words[7],
            block_size,
            accessed: time(words[9], accessed)?,
            modified: time(words[10], modified)?,
            changed: time(words[11], changed)?,
            created: time(words[12], created)?,
            mount: 0,
            mount_flags: 0,
        },
        in_memory: u64::from(flags) & IN_MEMORY != 0,
        is_lent: u64::from(flags) & IS_LENT != 0,
    })
}

const IS_HIDDEN: u32 = 1 << 31;

pub(super) fn encode_mount(mount: &Mount) -> [u64; MOUNT_WORDS] {
    let parent = mount.parent | if mount.is_hidden { IS_HIDDEN } else { 0 };
    [pair(mount.id, mount.flags), u64::from(parent), mount.mountpoint.0, mount.root.0]
}

pub(super) fn decode_mount(words: [u64; MOUNT_WORDS]) -> Mount {
    let (id, flags) = halves(words[0]);
    let parent = words[1] as u32;
    Mount {
        id,
        flags,
        parent: parent & !IS_HIDDEN,
        mountpoint: Key(words[2]),
        root: Key(words[3]),
        is_hidden: parent & IS_HIDDEN != 0,
    }
}
