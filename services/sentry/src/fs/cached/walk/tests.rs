//! What a walk through published names finds is what the host finds in the same tree.

use std::{
    ffi::CString,
    fs::{self, File},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use bulkhead_ipc::{
    published::{Change, Key, Mount, Writer},
    vfs::Attributes,
};
use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];
const ROOT_MOUNT: u32 = 1;

#[derive(Clone, Debug)]
enum Kind {
    Directory,
    File,
    Link(String),
}

/// A file of the tree: its name in an earlier directory. The first is the root.
#[derive(Clone, Debug)]
struct Node {
    parent: usize,
    name: &'static str,
    kind: Kind,
}

fn components() -> impl Strategy<Value = String> {
    let name = prop_oneof![4 => Just("a"), 3 => Just("b"), 2 => Just("c"), 1 => Just("."), 3 => Just(".."), 1 => Just("")];
    (any::<bool>(), proptest::collection::vec(name, 1..5), any::<bool>()).prop_map(|(absolute, parts, slash)| {
        let path = format!("{}{}{}", if absolute { "/" } else { "" }, parts.join("/"), if slash { "/" } else { "" });
        if path.is_empty() { ".".into() } else { path }
    })
}

fn trees() -> impl Strategy<Value = Vec<Node>> {
    let kind = prop_oneof![4 => Just(Kind::Directory), 2 => Just(Kind::File), 3 => components().prop_map(Kind::Link)];
    proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&NAMES[..]), kind), 0..12).prop_map(|wishes| {
        let mut nodes = vec![Node { parent: 0, name: "", kind: Kind::Directory }];
        for (parent, name, kind) in wishes {
            let directories: Vec<usize> = (0..nodes.len()).filter(|n| matches!(nodes[*n].kind, Kind::Directory)).collect();
            let parent = *parent.get(&directories);
            if nodes.iter().skip(1).all(|node| (node.parent, node.name) != (parent, name)) {
                nodes.push(Node { parent, name, kind });
            }
        }
        nodes
    })
}

/// The tree on the host.
struct Host {
    place: PathBuf,
    root: File,
    inodes: Vec<u64>,
}

impl Host {
    fn new(nodes: &[Node]) -> Host {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let place =
            std::env::temp_dir().join(format!("bulkhead-walk-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&place).unwrap();
        let mut paths = vec![place.clone()];
        for node in &nodes[1..] {
            let path = paths[node.parent].join(node.name);
            match &node.kind {
                Kind::Directory => fs::create_dir(&path).unwrap(),
                Kind::File => drop(File::create(&path).unwrap()),
                Kind::Link(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            }
            paths.push(path);
        }
        let inodes = paths.iter().map(|path| fs::symlink_metadata(path).unwrap().ino()).collect();
        Host { root: File::open(&place).unwrap(), place, inodes }
    }

    /// Which node a path leads to, with the tree's root as the root directory.
    fn find(&self, path: &Path, follow: bool) -> Result<usize, Errno> {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: plain data, for which all zeros is valid.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = (libc::O_PATH | libc::O_CLOEXEC | if follow { 0 } else { libc::O_NOFOLLOW }) as u64;
        how.resolve = libc::RESOLVE_IN_ROOT;
        loop {
            let fd = self.root.as_raw_fd();
            // SAFETY: path and `how` live through the call.
            let fd = unsafe { libc::syscall(libc::SYS_openat2, fd, path.as_ptr(), &raw const how, size_of_val(&how)) } as i32;
            if fd >= 0 {
                // SAFETY: a fresh fd that nobody else owns.
                let found = File::from(unsafe { OwnedFd::from_raw_fd(fd) }).metadata().unwrap().ino();
                return Ok(self.inodes.iter().position(|inode| *inode == found).expect("a file of the tree"));
            }
            match Errno::last() {
                // Somebody renamed something somewhere.
                Errno::EAGAIN => {}
                errno => return Err(errno),
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.place);
    }
}

fn dentry_key(slot: usize) -> Key {
    Key::new(slot, 1)
}

fn inode_key(node: usize) -> Key {
    Key::new(node, 2)
}

fn mode(kind: &Kind) -> u32 {
    match kind {
        Kind::Directory => libc::S_IFDIR | 0o755,
        Kind::File => libc::S_IFREG | 0o644,
        Kind::Link(_) => libc::S_IFLNK | 0o777,
    }
}

/// The tree as vfs publishes it, with every name that does not exist.
fn publish(nodes: &[Node]) -> Writer {
    let mut writer = Writer::new().unwrap();
    let mut next = nodes.len();
    for (n, node) in nodes.iter().enumerate() {
        let parent = if n == 0 { Key::NONE } else { dentry_key(node.parent) };
        let dentry = Dentry { key: dentry_key(n), parent, inode: inode_key(n), ..Dentry::default() };
        let attributes = Attributes { mode: mode(&node.kind), ..Attributes::default() };
        let inode = Inode { key: inode_key(n), attributes, ..Inode::default() };
        let target = if let Kind::Link(target) = &node.kind { Some(target.as_bytes()) } else { None };
        writer.apply([Change::Dentry { dentry, name: node.name.as_bytes() }, Change::Inode { inode, target }]);
        if !matches!(node.kind, Kind::Directory) {
            continue;
        }
        for name in NAMES.iter().filter(|name| nodes.iter().skip(1).all(|node| (node.parent, node.name) != (n, **name))) {
            let missing = Dentry { key: dentry_key(next), parent: dentry_key(n), ..Dentry::default() };
            writer.apply([Change::Dentry { dentry: missing, name: name.as_bytes() }]);
            next += 1;
        }
    }
    writer
}

fn root_mount() -> Mount {
    Mount { id: ROOT_MOUNT, root: dentry_key(0), ..Mount::default() }
}

/// Walks from a node; which node that led to.
fn walk(
    writer: &Writer,
    mounts: Vec<Mount>,
    caller: &Caller,
    base: (u32, usize),
    path: &str,
    follow: bool,
) -> Option<Result<usize, Errno>> {
    let reader = Reader::map(writer.file()).unwrap();
    let mounts = MountTable { version: 0, mounts };
    let root = Spot { mount: ROOT_MOUNT, dentry: dentry_key(0) };
    let ground = Ground { reader: &reader, mounts: &mounts, caller, root };
    let base = Spot { mount: base.0, dentry: dentry_key(base.1) };
    Some(ground.walk(base, path.as_bytes(), follow)?.map(|found| found.inode.key.slot()))
}

fn superuser() -> Caller {
    Caller { capabilities: u64::MAX, ..Caller::default() }
}

fn path_of(nodes: &[Node], node: usize) -> PathBuf {
    if node == 0 { PathBuf::from("/") } else { path_of(nodes, nodes[node].parent).join(nodes[node].name) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_finds_what_the_host_finds(nodes in trees(), paths in proptest::collection::vec((any::<prop::sample::Index>(), components(), any::<bool>()), 8)) {
        let (host, writer) = (Host::new(&nodes), publish(&nodes));
        let directories: Vec<usize> = (0..nodes.len()).filter(|n| matches!(nodes[*n].kind, Kind::Directory)).collect();
        for (base, path, follow) in paths {
            let base = *base.get(&directories);
            let found = walk(&writer, vec![root_mount()], &superuser(), (ROOT_MOUNT, base), &path, follow);
            let expected = host.find(&if path.starts_with('/') { PathBuf::from(&path) } else {
                // Not `join`, which would tidy the path up.
                PathBuf::from(format!("{}/{path}", path_of(&nodes, base).display()))
            }, follow);
            prop_assert_eq!(found, Some(expected), "{} from {:?}, follow {}", path, path_of(&nodes, base), follow);
        }
    }

    #[test]
    fn a_walk_through_less_than_all_says_the_same_or_nothing(nodes in trees(), gone in any::<prop::sample::Index>(), path in components(), follow: bool) {
        let mut writer = publish(&nodes);
        let whole = walk(&writer, vec![root_mount()], &superuser(), (ROOT_MOUNT, 0), &path, follow);
        writer.apply([Change::NoDentry { slot: gone.index(nodes.len()) }]);
        let part = walk(&writer, vec![root_mount()], &superuser(), (ROOT_MOUNT, 0), &path, follow);
        prop_assert!(part.is_none() || part == whole, "{:?} instead of {:?}", part, whole);
    }
}

fn directory(parent: usize, name: &'static str) -> Node {
    Node { parent, name, kind: Kind::Directory }
}

#[test]
fn a_mount_is_entered_by_its_name_and_left_by_dot_dot() {
    // a and a/b in the root file system; c is the root of another, with c/a in it, and mounted on a/b.
    let mut nodes = vec![directory(0, ""), directory(0, "a"), directory(1, "b"), directory(0, "c"), directory(3, "a")];
    nodes[3].name = "";
    let mut writer = publish(&nodes);
    let mountpoint =
        Dentry { key: dentry_key(2), parent: dentry_key(1), inode: inode_key(2), is_mountpoint: true, ..Dentry::default() };
    let root = Dentry { key: dentry_key(3), inode: inode_key(3), ..Dentry::default() };
    writer.apply([Change::Dentry { dentry: mountpoint, name: b"b" }, Change::Dentry { dentry: root, name: b"" }]);
    let mount = Mount { id: 2, parent: ROOT_MOUNT, mountpoint: dentry_key(2), root: dentry_key(3), ..Mount::default() };
    let found = |base, path| walk(&writer, vec![root_mount(), mount], &superuser(), base, path, true);
    assert_eq!(found((ROOT_MOUNT, 0), "a/b"), Some(Ok(3)));
    assert_eq!(found((ROOT_MOUNT, 0), "a/b/a"), Some(Ok(4)));
    assert_eq!(found((2, 4), "../.."), Some(Ok(1)));
    assert_eq!(found((2, 4), "../../b/a"), Some(Ok(4)));
    assert_eq!(found((2, 4), "../../../.."), Some(Ok(0)));
    // Without the mount the directory beneath it is seen.
    assert_eq!(walk(&writer, vec![root_mount()], &superuser(), (ROOT_MOUNT, 0), "a/b", true), Some(Ok(2)));
    // A mount whose root is not published is the business of vfs.
    let foreign = Mount { root: Key::NONE, ..mount };
    assert_eq!(walk(&writer, vec![root_mount(), foreign], &superuser(), (ROOT_MOUNT, 0), "a/b", true), None);
}

#[test]
fn every_directory_on_the_way_must_be_searchable() {
    let nodes = vec![directory(0, ""), directory(0, "a"), directory(1, "b")];
    let mut writer = publish(&nodes);
    let closed = Attributes { mode: libc::S_IFDIR | 0o700, uid: 7, ..Attributes::default() };
    let inode = Inode { key: inode_key(1), attributes: closed, ..Inode::default() };
    writer.apply([Change::Inode { inode, target: None }]);
    let find = |uid, path| {
        let caller = Caller { uid, ..Caller::default() };
        walk(&writer, vec![root_mount()], &caller, (ROOT_MOUNT, 0), path, true)
    };
    assert_eq!(find(7, "a/b"), Some(Ok(2)));
    assert_eq!(find(8, "a"), Some(Ok(1)), "the directory itself is not searched");
    assert_eq!(find(8, "a/b"), Some(Err(Errno::EACCES)));
    assert_eq!(find(8, "a/.."), Some(Err(Errno::EACCES)));
    assert_eq!(find(8, "a/c"), Some(Err(Errno::EACCES)), "nor is it told what is not there");
}

#[test]
fn what_linux_refuses_is_refused() {
    let ring = Node { parent: 0, name: "a", kind: Kind::Link("a".into()) };
    let nodes = vec![directory(0, ""), ring, Node { parent: 0, name: "b", kind: Kind::File }];
    let writer = publish(&nodes);
    let long = "x".repeat(256);
    let find = |path, follow| walk(&writer, vec![root_mount()], &superuser(), (ROOT_MOUNT, 0), path, follow);
    assert_eq!(find("a", true), Some(Err(Errno::ELOOP)));
    assert_eq!(find("a", false), Some(Ok(1)));
    assert_eq!(find("a/", false), Some(Err(Errno::ELOOP)));
    assert_eq!(find("b/", true), Some(Err(Errno::ENOTDIR)));
    assert_eq!(find("b/.", true), Some(Err(Errno::ENOTDIR)));
    assert_eq!(find(&long, true), Some(Err(Errno::ENAMETOOLONG)));
    assert_eq!(find("unknown", true), None, "what is not published is asked of vfs");
}
