//! What is encoded is what is decoded, and no bytes make the decoder panic.

use proptest::{collection::vec, option, prelude::*};

use super::*;

fn caller() -> impl Strategy<Value = Caller> {
    (any::<u32>(), any::<u32>(), vec(any::<u32>(), 0..5), any::<u64>()).prop_map(|(uid, gid, groups, capabilities)| Caller {
        uid,
        gid,
        groups,
        capabilities,
    })
}

fn at() -> impl Strategy<Value = At> {
    (caller(), any::<u64>(), any::<u64>(), vec(1u8.., 0..100), any::<bool>()).prop_map(|(caller, root, base, path, follow)| At {
        caller,
        root: NodeId(root),
        base: NodeId(base),
        path,
        follow,
    })
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds })
}

pub(crate) fn set_time() -> impl Strategy<Value = SetTime> {
    prop_oneof![Just(SetTime::Keep), Just(SetTime::Now), timestamp().prop_map(SetTime::To)]
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<u64>().prop_map(NodeId)
}

fn published() -> impl Strategy<Value = Published> {
    any::<(u64, u64)>()
        .prop_map(|(dentry, inode)| Published { dentry: crate::published::Key(dentry), inode: crate::published::Key(inode) })
}

fn family() -> impl Strategy<Value = LockFamily> {
    prop_oneof![Just(LockFamily::Record), Just(LockFamily::Flock)]
}

fn lock() -> impl Strategy<Value = Lock> {
    let kind = prop_oneof![Just(LockKind::Read), Just(LockKind::Write), Just(LockKind::Unlock)];
    (family(), kind, any::<u64>(), any::<i32>(), any::<u64>(), any::<u64>())
        .prop_map(|(family, kind, owner, pid, start, end)| Lock { family, kind, owner, pid, start, end })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..60)
}

fn request() -> impl Strategy<Value = Request> {
    let walks = prop_oneof![
        (at(), any::<bool>()).prop_map(|(at, directory)| Request::Lookup { at, directory }),
        (at(), any::<u32>(), any::<u32>(), any::<bool>()).prop_map(|(at, flags, mode, execute)| Request::Open {
            at,
            flags,
            mode,
            execute
        }),
        at().prop_map(|at| Request::Stat { at }),
        (at(), any::<u32>()).prop_map(|(at, mode)| Request::Access { at, mode }),
        at().prop_map(|at| Request::Readlink { at }),
        at().prop_map(|at| Request::ListXattr { at }),
        at().prop_map(|at| Request::Statfs { at }),
        (at(), bytes()).prop_map(|(at, name)| Request::GetXattr { at, name }),
        (at(), bytes()).prop_map(|(at, name)| Request::RemoveXattr { at, name }),
    ];
    let changes = prop_oneof![
        (at(), any::<u32>()).prop_map(|(at, mode)| Request::Mkdir { at, mode }),
        (at(), any::<u32>(), any::<u64>()).prop_map(|(at, mode, device)| Request::Mknod { at, mode, device }),
        (at(), bytes()).prop_map(|(at, target)| Request::Symlink { at, target }),
        (at(), at()).prop_map(|(from, to)| Request::Link { from, to }),
        (at(), any::<bool>()).prop_map(|(at, directory)| Request::Unlink { at, directory }),
        (at(), at(), any::<u32>()).prop_map(|(from, to, flags)| Request::Rename { from, to, flags }),
        (at(), any::<u32>()).prop_map(|(at, mode)| Request::Chmod { at, mode }),
        (at(), option::of(any::<u32>()), option::of(any::<u32>())).prop_map(|(at, uid, gid)| Request::Chown { at, uid, gid }),
        (at(), set_time(), set_time()).prop_map(|(at, accessed, modified)| Request::SetTimes { at, accessed, modified }),
        (at(), any::<u64>()).prop_map(|(at, size)| Request::Truncate { at, size }),
        (at(), bytes(), bytes(), any::<u32>()).prop_map(|(at, name, value, flags)| Request::SetXattr { at, name, value, flags }),
        (option::of(at()), at(), bytes(), any::<u64>(), bytes())
            .prop_map(|(source, at, fstype, flags, options)| { Request::Mount { source, at, fstype, flags, options } }),
        (at(), any::<u32>()).prop_map(|(at, flags)| Request::Unmount { at, flags }),
    ];
    let nodes = prop_oneof![
        (node(), any::<u32>()).prop_map(|(node, flags)| Request::Reopen { node, flags }),
        (node(), any::<u64>(), any::<u32>()).prop_map(|(node, cookie, space)| Request::ReadDir { node, cookie, space }),
        (node(), node()).prop_map(|(node, root)| Request::PathOf { node, root }),
        node().prop_map(|node| Request::Remember { node }),
        vec(node(), 0..20).prop_map(|nodes| Request::Forget { nodes }),
        (node(), lock()).prop_map(|(node, lock)| Request::SetLock { node, lock }),
        (node(), lock()).prop_map(|(node, lock)| Request::GetLock { node, lock }),
        (node(), family(), any::<u64>()).prop_map(|(node, family, owner)| Request::DropLocks { node, family, owner }),
        node().prop_map(|root| Request::Mounts { root }),
        option::of(node()).prop_map(|node| Request::Sync { node }),
        Just(Request::Publication),
    ];
    prop_oneof![walks, changes, nodes]
}

pub(crate) fn attributes() -> impl Strategy<Value = Attributes> {
    let numbers = (any::<[u64; 5]>(), any::<[u32; 7]>());
    (numbers, timestamp(), timestamp(), timestamp(), timestamp()).prop_map(
        |((wide, narrow), accessed, modified, changed, created)| Attributes {
            device: wide[0],
            inode: wide[1],
            special_device: wide[2],
            size: wide[3],
            blocks: wide[4],
            mode: narrow[0],
            links: narrow[1],
            uid: narrow[2],
            gid: narrow[3],
            block_size: narrow[4],
            mount: narrow[5],
            mount_flags: narrow[6],
            accessed,
            modified,
            changed,
            created,
        },
    )
}

fn foreign() -> impl Strategy<Value = Foreign> {
    let fs = prop_oneof![
        Just(ForeignFs::Proc),
        Just(ForeignFs::Sysfs),
        Just(ForeignFs::Devpts),
        Just(ForeignFs::Mqueue),
        Just(ForeignFs::Cgroup)
    ];
    (fs, any::<u32>(), any::<u32>(), bytes(), node(), bytes())
        .prop_map(|(fs, mount, mount_flags, inner, mountpoint, rest)| Foreign { fs, mount, mount_flags, inner, mountpoint, rest })
}

pub(crate) fn entry() -> impl Strategy<Value = DirEntry> {
    (any::<u64>(), any::<u64>(), any::<u8>(), bytes()).prop_map(|(inode, next, kind, name)| DirEntry { inode, next, kind, name })
}

pub(crate) fn statistics() -> impl Strategy<Value = FsStatistics> {
    any::<[u64; 9]>().prop_map(|n| FsStatistics {
        magic: n[0],
        block_size: n[1],
        blocks: n[2],
        blocks_free: n[3],
        blocks_available: n[4],
        files: n[5],
        files_free: n[6],
        name_length: n[7],
        flags: n[8],
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    let mount = (any::<[u32; 3]>(), any::<u64>(), bytes(), bytes(), "\\PC*", "[a-z]*", "[a-z,=]*").prop_map(
        |(numbers, device, root, mountpoint, source, fstype, options)| MountInfo {
            id: numbers[0],
            parent: numbers[1],
            flags: numbers[2],
            device,
            root,
            mountpoint,
            fstype,
            source,
            options,
        },
    );
    prop_oneof![
        any::<i32>().prop_map(|number| Reply::Error(Errno::new(number))),
        Just(Reply::Done),
        (node(), attributes(), published()).prop_map(|(node, attributes, published)| Reply::Node { node, attributes, published }),
        (node(), attributes(), published(), any::<[bool; 3]>()).prop_map(|(node, attributes, published, flags)| Reply::Opened {
            node,
            attributes,
            created: flags[0],
            has_fd: flags[1],
            published,
            in_memory: flags[2],
        }),
        attributes().prop_map(Reply::Attributes),
        bytes().prop_map(Reply::Bytes),
        vec(entry(), 0..10).prop_map(Reply::Entries),
        statistics().prop_map(Reply::Statistics),
        option::of(lock()).prop_map(Reply::Lock),
        vec(mount, 0..5).prop_map(Reply::Mounts),
        (foreign(), any::<bool>()).prop_map(|(place, second)| Reply::Foreign { place, second }),
        (published(), any::<u32>()).prop_map(|(root, mount)| Reply::Publication { root, mount }),
    ]
}

proptest! {
    #[test]
    fn a_request_is_decoded_to_what_was_encoded(request in request()) {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        prop_assert_eq!(Request::decode(&bytes).unwrap(), request);
    }

    #[test]
    fn a_reply_is_decoded_to_what_was_encoded(reply in reply()) {
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        prop_assert_eq!(Reply::decode(&bytes).unwrap(), reply);
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Request::decode(&bytes);
        let _ = Reply::decode(&bytes);
    }

    #[test]
    fn no_change_of_a_message_makes_the_decoders_panic(
        request in request(), reply in reply(), changes in vec((any::<usize>(), any::<u8>()), 1..8)
    ) {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        for &(index, value) in &changes {
            let index = index % bytes.len();
            bytes[index] = value;
        }
        let _ = Request::decode(&bytes);
        reply.encode(&mut bytes);
        for &(index, value) in &changes {
            let index = index % bytes.len();
            bytes[index] = value;
        }
        let _ = Reply::decode(&bytes);
    }
}

#[test]
fn a_path_of_more_than_4095_bytes_is_too_long() {
    let at = At { caller: Caller::default(), root: NodeId::ROOT, base: NodeId::ROOT, path: vec![b'a'; 4096], follow: true };
    let mut bytes = Vec::new();
    Request::Stat { at }.encode(&mut bytes);
    assert_eq!(Request::decode(&bytes).unwrap_err().errno(), Errno::ENAMETOOLONG);
}
