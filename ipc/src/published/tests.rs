//! What is published is what is read; nonsense is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use proptest::{collection::vec, prelude::*};

use super::{layout::BYTES, *};
use crate::mapping::{self, Access, Memory};

fn region() -> (Writer, Reader) {
    let writer = Writer::new().unwrap();
    let reader = Reader::map(writer.file()).unwrap();
    (writer, reader)
}

fn dentry(slot: usize, parent: Key, inode: Key) -> Dentry {
    Dentry { key: Key::new(slot, slot as u64 + 1), parent, inode, ..Dentry::default() }
}

fn inode(slot: usize, size: u64) -> Inode {
    let attributes = Attributes { size, blocks: size, mode: libc::S_IFREG | 0o640, uid: 7, links: 3, ..Attributes::default() };
    Inode { key: Key::new(slot, slot as u64 + 1), attributes, ..Inode::default() }
}

#[test]
fn a_name_is_found_in_its_directory_until_it_is_moved_or_removed() {
    let (mut writer, reader) = region();
    let root = dentry(0, Key::NONE, Key::new(0, 1));
    let file = dentry(5, root.key, Key::new(9, 3));
    writer.apply([Change::Dentry { dentry: root, name: b"" }, Change::Dentry { dentry: file, name: b"passwd" }]);
    assert_eq!(reader.child(root.key, b"passwd"), Some(file));
    assert_eq!(reader.child(file.key, b"passwd"), None);
    assert_eq!(reader.dentry(root.key), Some(root));
    assert_eq!(reader.dentry(Key::new(0, 2)), None, "another one in the same slot");

    writer.apply([Change::Dentry { dentry: file, name: b"shadow" }]);
    assert_eq!(reader.child(root.key, b"passwd"), None);
    assert_eq!(reader.child(root.key, b"shadow"), Some(file));

    let deleted = Dentry { is_deleted: true, ..file };
    writer.apply([Change::Dentry { dentry: deleted, name: b"shadow" }]);
    assert_eq!(reader.child(root.key, b"shadow"), None);
    assert_eq!(reader.dentry(file.key), Some(deleted), "who holds it still sees it");
    writer.apply([Change::NoDentry { slot: 5 }]);
    assert_eq!(reader.dentry(file.key), None);
    assert_eq!(writer.names(), 0);
}

#[test]
fn names_that_are_too_long_are_not_found() {
    let (mut writer, reader) = region();
    let root = Key::new(0, 1);
    let long = [b'x'; 57];
    writer.apply([Change::Dentry { dentry: dentry(1, root, Key::NONE), name: &long }]);
    writer.apply([Change::Dentry { dentry: dentry(2, root, Key::NONE), name: &long[..56] }]);
    assert_eq!(reader.child(root, &long), None);
    assert_eq!(reader.child(root, &long[..56]).map(|found| found.key.slot()), Some(2));
    assert_eq!(reader.child(root, &long[..55]), None);
    assert!(reader.dentry(Key::new(1, 2)).is_some(), "it can still be walked from");
}

#[test]
fn attributes_and_targets_come_back_as_they_were() {
    let (mut writer, reader) = region();
    let time = |seconds, nanoseconds| crate::vfs::Timestamp { seconds, nanoseconds };
    let file = Inode {
        key: Key::new(77, 1 << 39),
        attributes: Attributes {
            device: 1,
            inode: u64::MAX,
            mode: libc::S_IFLNK | 0o777,
            links: 2,
            uid: 3,
            gid: u32::MAX,
            special_device: 5,
            size: 6,
            blocks: 7,
            block_size: 4096,
            accessed: time(-1, 999_999_999),
            modified: time(2, 0),
            changed: time(3, 1),
            created: time(4, 2),
            mount: 0,
            mount_flags: 0,
        },
        in_memory: true,
        is_lent: false,
    };
    writer.apply([Change::Inode { inode: file, target: Some(b"../lib/libc.so.6") }]);
    assert_eq!(reader.inode(file.key), Some(file));
    let mut path = b"/x/".to_vec();
    assert_eq!(reader.target(file.key, &mut path), Some(()));
    assert_eq!(path, b"/x/../lib/libc.so.6");
    assert_eq!(reader.target(Key::new(77, 5), &mut path), None);
    writer.apply([Change::Inode { inode: file, target: Some(&[b'a'; 105]) }]);
    assert_eq!(reader.target(file.key, &mut path), None);
}

#[test]
fn the_index_grows_with_the_names() {
    let (mut writer, reader) = region();
    let root = Key::new(0, 1);
    let names: Vec<String> = (1..20_000).map(|n| format!("name-{n}")).collect();
    for (slot, name) in (1..).zip(&names) {
        writer.apply([Change::Dentry { dentry: dentry(slot, root, Key::NONE), name: name.as_bytes() }]);
    }
    let found = names.iter().filter(|name| reader.child(root, name.as_bytes()).is_some()).count();
    assert!(found > 19_900, "{found} of {} names are found", names.len());
    for (slot, name) in (1..).zip(&names) {
        writer.apply([Change::NoDentry { slot }]);
        assert_eq!(reader.child(root, name.as_bytes()), None);
    }
    assert_eq!(writer.names(), 0);
}

#[test]
fn a_name_that_lost_its_place_gets_it_back_when_it_is_published_anew() {
    let (mut writer, reader) = region();
    let root = Key::new(0, 1);
    let publish = |writer: &mut Writer, n: usize| {
        writer.apply([Change::Dentry { dentry: dentry(n, root, Key::NONE), name: n.to_string().as_bytes() }]);
    };
    (1..100_000).for_each(|n| publish(&mut writer, n));
    let lost = (1..100_000).find(|n| reader.child(root, n.to_string().as_bytes()).is_none());
    if let Some(lost) = lost {
        publish(&mut writer, lost);
        assert!(reader.child(root, lost.to_string().as_bytes()).is_some());
    }
}

#[test]
fn removals_are_told_once_and_in_order() {
    let (writer, reader) = region();
    let mut removals = reader.removals();
    assert!(!reader.has_removals(&removals));
    let keys: Vec<Key> = (1..=40).map(|n| Key::new(n, 1)).collect();
    for _ in 0..5 {
        writer.note_removals(keys.iter().copied());
        assert!(reader.has_removals(&removals));
        assert_eq!(reader.removed(&mut removals), Some(keys.clone()));
    }
    writer.note_removals(keys.iter().chain(&keys).copied());
    assert_eq!(reader.removed(&mut removals), None);
    assert_eq!(reader.removed(&mut removals), Some(Vec::new()));
}

#[test]
fn the_mount_table_is_whole_or_not_there() {
    let (writer, reader) = region();
    let mount = |id| Mount { id, flags: 1, parent: 1, mountpoint: Key::new(3, 4), root: Key::NONE, is_hidden: true };
    writer.set_mounts(&[mount(1), mount(2)]);
    let (version, mounts) = reader.mounts().unwrap();
    assert_eq!((version, mounts), (reader.mounts_version(), vec![mount(1), mount(2)]));
    writer.set_mounts(&vec![mount(1); 256]);
    assert_ne!(reader.mounts_version(), version);
    assert_eq!(reader.mounts(), None);
}

#[test]
fn nobody_but_the_writer_can_write() {
    let (writer, _reader) = region();
    use std::os::fd::AsFd;
    assert!(Memory::map(writer.file().as_fd(), BYTES, Access::ReadWrite).is_err());
    assert!(nix::unistd::write(writer.file(), b"x").is_err());
    assert!(nix::unistd::ftruncate(writer.file(), 0).is_err());
}

/// Two records change together, over and over, while others read: nobody sees a mixed record, or the second one older than the
/// first.
#[test]
fn changes_of_several_records_are_seen_at_once_and_whole() {
    let (mut writer, reader) = region();
    let reader = Arc::new(reader);
    let over = Arc::new(AtomicBool::new(false));
    writer.apply([1, 2].map(|slot| Change::Inode { inode: inode(slot, 0), target: None }));
    let watchers: Vec<_> = (0..2)
        .map(|_| {
            let (reader, over) = (reader.clone(), over.clone());
            thread::spawn(move || {
                let mut seen = 0u64;
                while !over.load(Ordering::Relaxed) {
                    let Some(first) = reader.inode(Key::new(1, 2)) else { continue };
                    assert_eq!(first.attributes.size, first.attributes.blocks);
                    let Some(second) = reader.inode(Key::new(2, 3)) else { continue };
                    assert!(second.attributes.size >= first.attributes.size);
                    seen += 1;
                }
                seen
            })
        })
        .collect();
    for size in 1..200_000 {
        writer.apply([2, 1].map(|slot| Change::Inode { inode: inode(slot, size), target: None }));
    }
    over.store(true, Ordering::Relaxed);
    let seen: u64 = watchers.into_iter().map(|watcher| watcher.join().unwrap()).sum();
    assert!(seen > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A region full of nonsense, where it hurts: in the header, the index and the records that the index names.
    #[test]
    fn nonsense_is_read_without_harm(
        header in vec(any::<u64>(), 600),
        words in vec(any::<u64>(), 256),
        near in vec(0..64u64, 64),
        key in any::<u64>(),
    ) {
        let file = mapping::create(c"nonsense", BYTES).unwrap();
        use std::os::fd::AsFd;
        let memory = Memory::map(file.as_fd(), BYTES, Access::ReadWrite).unwrap();
        let put = |at: usize, word: u64| memory.words()[at].store(word, Ordering::Relaxed);
        header.iter().enumerate().for_each(|(at, word)| put(at, *word));
        for (n, word) in words.iter().enumerate() {
            put(layout::dentry_at(0) + n, *word);
            put(layout::inode_at(0) + n, *word);
            put(layout::target_at(0) + n, *word);
        }
        let reader = Reader::map(&file).unwrap();
        let name = b"some-name";
        let hash = layout::hash(Key(key), name.len(), &layout::name_words(name).unwrap());
        for (n, slot) in near.iter().enumerate() {
            put(layout::bucket_at(hash, header[0]) + n % layout::WAYS, layout::index_entry(hash, *slot as usize));
        }
        let mut path = Vec::new();
        for key in [key, key & 0xffff, u64::MAX, 1 << 24].map(Key) {
            reader.dentry(key);
            reader.child(key, name);
            reader.inode(key);
            reader.target(key, &mut path);
        }
        prop_assert!(path.len() <= 4 * layout::TARGET_BYTES);
        reader.mounts();
        let mut removals = reader.removals();
        reader.removed(&mut removals);
        reader.removed(&mut Removals::default());
    }
}
