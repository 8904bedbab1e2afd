//! vfs with a gofer in the same process, over a real connection, on a directory of the host.

use std::{
    fs,
    io::{Read, Seek, Write},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU32},
};

use bulkhead_gofer::{files::Gofer as FileServer, roots::Root};
use bulkhead_ipc::{
    Errno,
    rpc::{self, Client, Server},
    setup::{MountKind, MountSpec, NodeSpec, VfsSetup},
    vfs::{At, Attributes, Caller, DirEntry, ForeignFs, Lock, LockFamily, LockKind, NodeId, Reply, Request, SetTime, Timestamp},
};
use bulkhead_vfs::{gofer::Gofer, world::World};

const ALL: u64 = u64::MAX;

struct Sandbox {
    world: World,
    gofer: Gofer,
    path: PathBuf,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn mount(destination: &str, kind: MountKind, flags: u32) -> MountSpec {
    let (fstype, options) = ("x".into(), "mode=1777".into());
    MountSpec { destination: destination.into(), kind, flags, fstype, source: "none".into(), options }
}

/// A root of the given kind over a directory that `fill` fills, with /tmp in memory and /proc and /sys foreign.
fn sandbox(kind: MountKind, fill: impl FnOnce(&Path)) -> Sandbox {
    sandbox_with(vec![mount("/", kind, 0)], fill)
}

fn overlay(fill: impl FnOnce(&Path)) -> Sandbox {
    sandbox(MountKind::Overlay { lower: 0 }, fill)
}

fn direct(fill: impl FnOnce(&Path)) -> Sandbox {
    sandbox(MountKind::Gofer { root: 0 }, fill)
}

fn sandbox_with(mut mounts: Vec<MountSpec>, fill: impl FnOnce(&Path)) -> Sandbox {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("bulkhead-vfs-{}-{number}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    fill(&path);
    mounts.push(mount("/tmp", MountKind::Tmpfs, 0));
    mounts.push(mount("/proc", MountKind::Foreign(ForeignFs::Proc), 0));
    mounts.push(mount("/sys", MountKind::Foreign(ForeignFs::Sysfs), 0));
    mounts.push(mount("/sys/fs/cgroup", MountKind::Foreign(ForeignFs::Cgroup), 0));
    let readonly = matches!(mounts[0].kind, MountKind::Overlay { .. });
    let fd = OwnedFd::from(fs::File::open(&path).unwrap());
    let files = Arc::new(FileServer::new(vec![Root::new(fd, readonly).unwrap()], 4096));
    let (client, server_end) = rpc::pair().unwrap();
    std::thread::spawn(move || Server::new(server_end).unwrap().serve(|request| files.answer(request)));
    let mut gofer = Gofer::new(Client::new(client).unwrap(), Default::default());
    let world = World::new(&VfsSetup { cpus: vec![0], mounts, nodes: Vec::new() }, &mut gofer).unwrap();
    Sandbox { world, gofer, path }
}

fn me() -> Caller {
    let here = fs::metadata("/proc/self").unwrap();
    Caller { uid: here.uid(), gid: here.gid(), groups: Vec::new(), capabilities: ALL }
}

fn at(path: &str) -> At {
    At { caller: me(), root: NodeId::ROOT, base: NodeId::ROOT, path: path.into(), follow: true }
}

fn at_link(path: &str) -> At {
    At { follow: false, ..at(path) }
}

fn at_node(node: NodeId) -> At {
    At { base: node, ..at("") }
}

fn nobody(path: &str) -> At {
    At { caller: Caller { uid: 77, gid: 77, ..Caller::default() }, ..at(path) }
}

impl Sandbox {
    fn ask(&mut self, request: Request) -> Reply {
        self.world.answer(&mut self.gofer, &request).0
    }
    fn open(&mut self, path: &str, flags: i32) -> Result<(NodeId, Option<fs::File>), Errno> {
        let request = Request::Open { at: at(path), flags: flags as u32, mode: 0o644, execute: false };
        match self.world.answer(&mut self.gofer, &request) {
            (Reply::Opened { node, has_fd, .. }, fd) => {
                assert_eq!(has_fd, fd.is_some());
                Ok((node, fd.map(|fd| fs::File::from(fd.try_clone().unwrap()))))
            }
            (Reply::Error(errno), None) => Err(errno),
            other => panic!("{other:?}"),
        }
    }
    fn write(&mut self, path: &str, text: &str) -> NodeId {
        let (node, file) = self.open(path, libc::O_CREAT | libc::O_TRUNC | libc::O_RDWR).unwrap();
        file.unwrap().write_all(text.as_bytes()).unwrap();
        node
    }
    fn read(&mut self, path: &str) -> Result<String, Errno> {
        let mut file = self.open(path, libc::O_RDONLY)?.1.unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        Ok(text)
    }
    fn stat(&mut self, at: At) -> Result<Attributes, Errno> {
        match self.ask(Request::Stat { at }) {
            Reply::Attributes(attributes) => Ok(attributes),
            Reply::Error(errno) => Err(errno),
            other => panic!("{other:?}"),
        }
    }
    fn done(&mut self, request: Request) {
        assert_eq!(self.ask(request.clone()), Reply::Done, "{request:?}");
    }
    fn fails(&mut self, request: Request, errno: Errno) {
        assert_eq!(self.ask(request.clone()), Reply::Error(errno), "{request:?}");
    }
    fn mkdir(&mut self, path: &str) {
        self.done(Request::Mkdir { at: at(path), mode: 0o755 });
    }
    fn unlink(&mut self, path: &str) {
        self.done(Request::Unlink { at: at_link(path), directory: false });
    }
    fn rename(&mut self, from: &str, to: &str) -> Reply {
        self.ask(Request::Rename { from: at_link(from), to: at_link(to), flags: 0 })
    }
    fn symlink(&mut self, target: &str, path: &str) {
        self.done(Request::Symlink { at: at(path), target: target.into() });
    }
    fn batch(&mut self, node: NodeId, cookie: u64, space: u32) -> Vec<DirEntry> {
        match self.ask(Request::ReadDir { node, cookie, space }) {
            Reply::Entries(entries) => entries,
            other => panic!("{other:?}"),
        }
    }
    fn list(&mut self, path: &str) -> Vec<String> {
        let node = self.open(path, libc::O_RDONLY | libc::O_DIRECTORY).unwrap().0;
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let entries = self.batch(node, cookie, 512);
            let Some(last) = entries.last() else { break };
            cookie = last.next;
            names.extend(entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
        }
        self.done(Request::Forget { nodes: vec![node] });
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }
}

fn some_files(path: &Path) {
    fs::create_dir_all(path.join("usr/bin")).unwrap();
    fs::write(path.join("usr/bin/tool"), "tool").unwrap();
    fs::create_dir_all(path.join("etc")).unwrap();
    fs::write(path.join("etc/passwd"), "root").unwrap();
    std::os::unix::fs::symlink("usr/bin", path.join("bin")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path.join("etc/link")).unwrap();
}

#[test]
fn a_path_is_walked_through_links_and_dots() {
    let mut s = overlay(some_files);
    assert_eq!(s.read("/bin/tool").unwrap(), "tool");
    assert_eq!(s.read("/bin/../../etc/link").unwrap(), "root", "a relative link, then .. of where it points");
    assert_eq!(s.read("../../../etc/./link").unwrap(), "root");
    assert_eq!(s.stat(at("/etc/passwd/")), Err(Errno::ENOTDIR));
    assert_eq!(s.stat(at("/etc/passwd/x")), Err(Errno::ENOTDIR));
    assert_eq!(s.stat(at("/nowhere/x")), Err(Errno::ENOENT));
    assert_eq!(s.stat(at(&"n".repeat(256))), Err(Errno::ENAMETOOLONG));
    assert_eq!(s.stat(at_link("/bin")).unwrap().mode & libc::S_IFMT, libc::S_IFLNK);
    assert_eq!(s.stat(at_link("/bin/")).unwrap().mode & libc::S_IFMT, libc::S_IFDIR);
    s.symlink("loop2", "/loop1");
    s.symlink("loop1", "/loop2");
    assert_eq!(s.stat(at("/loop1")), Err(Errno::ELOOP));
}

#[test]
fn a_walk_into_a_foreign_file_system_ends_there() {
    let mut s = overlay(some_files);
    s.symlink("/proc/self/fd", "/fd");
    let Reply::Foreign { place, second: false } = s.ask(Request::Stat { at: at("/fd/3") }) else { panic!() };
    assert_eq!((place.fs, &place.rest[..]), (ForeignFs::Proc, &b"self/fd/3"[..]));
    let up = At { base: place.mountpoint, ..at("../etc/passwd") };
    assert_eq!(s.stat(up).unwrap().size, 4);
    let Reply::Foreign { place, .. } = s.ask(Request::Stat { at: at("/sys/fs/cgroup/cpu.max") }) else { panic!() };
    assert_eq!((place.fs, &place.rest[..]), (ForeignFs::Cgroup, &b"cpu.max"[..]));
    let path = s.ask(Request::PathOf { node: place.mountpoint, root: NodeId::ROOT });
    assert_eq!(path, Reply::Bytes(b"/sys/fs/cgroup".to_vec()));
    let Reply::Foreign { place, .. } = s.ask(Request::Stat { at: at("/sys/fs") }) else { panic!() };
    assert_eq!((place.fs, &place.rest[..]), (ForeignFs::Sysfs, &b"fs"[..]));
    let reply = s.ask(Request::Rename { from: at("/etc/passwd"), to: at("/proc/x"), flags: 0 });
    assert!(matches!(reply, Reply::Foreign { second: true, .. }), "{reply:?}");
}

#[test]
fn writing_a_lower_file_copies_it_up_and_its_inode_stays() {
    let mut s = overlay(some_files);
    let before = s.stat(at("/etc/passwd")).unwrap();
    let (_, mut old) = s.open("/etc/passwd", libc::O_RDONLY).unwrap();
    let (_, file) = s.open("/etc/passwd", libc::O_RDWR).unwrap();
    let mut file = file.unwrap();
    file.seek(std::io::SeekFrom::End(0)).unwrap();
    file.write_all(b"+more").unwrap();
    assert_eq!(s.read("/etc/passwd").unwrap(), "root+more");
    let mut text = String::new();
    old.as_mut().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "root", "who opened it before keeps the old data");
    let after = s.stat(at("/etc/passwd")).unwrap();
    assert_eq!((after.inode, after.device, after.size), (before.inode, before.device, 9));
    assert_eq!(fs::read(s.path.join("etc/passwd")).unwrap(), b"root", "the lower layer is as it was");
}

#[test]
fn changing_attributes_copies_up_no_data() {
    let mut s = overlay(some_files);
    s.done(Request::Chmod { at: at("/etc/passwd"), mode: 0o600 });
    s.done(Request::Chown { at: at("/etc/passwd"), uid: Some(5), gid: None });
    let time = Timestamp { seconds: 12345, nanoseconds: 678 };
    s.done(Request::SetTimes { at: at("/etc/passwd"), accessed: SetTime::Keep, modified: SetTime::To(time) });
    let now = s.stat(at("/etc/passwd")).unwrap();
    assert_eq!((now.mode & 0o7777, now.uid, now.modified, now.size), (0o600, 5, time, 4));
    s.open("/etc/passwd", libc::O_RDWR).unwrap();
    assert_eq!(s.stat(at("/etc/passwd")).unwrap().modified, time, "copy-up keeps the time");
}

#[test]
fn a_deleted_lower_name_stays_deleted_and_can_be_made_again() {
    let mut s = overlay(some_files);
    s.unlink("/etc/passwd");
    assert_eq!(s.read("/etc/passwd"), Err(Errno::ENOENT));
    assert_eq!(s.list("/etc"), ["link"]);
    s.write("/etc/passwd", "new");
    assert_eq!(s.read("/etc/passwd").unwrap(), "new");
    s.unlink("/etc/passwd");
    s.unlink("/etc/link");
    s.done(Request::Unlink { at: at("/etc"), directory: true });
    s.mkdir("/etc");
    assert_eq!(s.list("/etc"), Vec::<String>::new(), "a new directory does not show the old one's names");
    s.fails(Request::Unlink { at: at("/usr"), directory: true }, Errno::ENOTEMPTY);
}

#[test]
fn a_lower_directory_is_renamed_with_all_that_is_in_it() {
    let mut s = overlay(some_files);
    assert_eq!(s.rename("/usr", "/new"), Reply::Done);
    assert_eq!(s.read("/new/bin/tool").unwrap(), "tool");
    assert_eq!(s.stat(at("/usr")), Err(Errno::ENOENT));
    assert!(!s.list("/").contains(&"usr".to_owned()));
    assert_eq!(s.rename("/new", "/new/bin/x"), Reply::Error(Errno::EINVAL));
    assert_eq!(s.rename("/etc/passwd", "/new/bin/tool"), Reply::Done);
    assert_eq!(s.read("/new/bin/tool").unwrap(), "root");
    assert_eq!(s.rename("/new", "/etc"), Reply::Error(Errno::ENOTEMPTY));
    assert_eq!(s.rename("/new", "/tmp/new"), Reply::Error(Errno::EXDEV));
    let exchange = Request::Rename { from: at("/new/bin/tool"), to: at_link("/bin"), flags: libc::RENAME_EXCHANGE };
    s.done(exchange);
    assert_eq!(s.read("/bin").unwrap(), "root");
    assert_eq!(s.stat(at_link("/new/bin/tool")).unwrap().mode & libc::S_IFMT, libc::S_IFLNK);
}

#[test]
fn a_directory_can_be_emptied_while_it_is_read() {
    for mut s in [
        overlay(|path| {
            fs::create_dir(path.join("d")).unwrap();
            (0..200).for_each(|n| fs::write(path.join(format!("d/lower-{n}")), "").unwrap());
        }),
        direct(|path| {
            fs::create_dir(path.join("d")).unwrap();
            (0..200).for_each(|n| fs::write(path.join(format!("d/lower-{n}")), "").unwrap());
        }),
    ] {
        for n in 0..100 {
            s.write(&format!("/d/upper-{n}"), "");
        }
        let node = s.open("/d", libc::O_RDONLY).unwrap().0;
        let (mut cookie, mut seen) = (0, 0);
        loop {
            let entries = s.batch(node, cookie, 600);
            let Some(last) = entries.last() else { break };
            cookie = last.next;
            for entry in entries.iter().filter(|entry| entry.name != b"." && entry.name != b"..") {
                s.unlink(&format!("/d/{}", String::from_utf8_lossy(&entry.name)));
                seen += 1;
            }
        }
        assert_eq!(seen, 300);
        s.done(Request::Unlink { at: at("/d"), directory: true });
    }
}

#[test]
fn an_unlinked_file_lives_while_it_is_open() {
    let mut s = overlay(some_files);
    let node = s.write("/tmp/f", "data");
    s.unlink("/tmp/f");
    let attributes = s.stat(at_node(node)).unwrap();
    assert_eq!((attributes.links, attributes.size), (0, 4));
    assert_eq!(s.ask(Request::PathOf { node, root: NodeId::ROOT }), Reply::Bytes(b"/tmp/f (deleted)".to_vec()));
    assert!(matches!(s.ask(Request::Reopen { node, flags: libc::O_RDONLY as u32 }), Reply::Opened { .. }));
    s.done(Request::Forget { nodes: vec![node, node] });
    assert_eq!(s.stat(at_node(node)), Err(Errno::EBADF));
}

#[test]
fn hard_links_share_a_file() {
    let mut s = overlay(some_files);
    s.done(Request::Link { from: at("/etc/passwd"), to: at("/etc/other") });
    s.write("/etc/other", "shared");
    assert_eq!(s.read("/etc/passwd").unwrap(), "shared");
    assert_eq!(s.stat(at("/etc/passwd")).unwrap().links, 2);
    assert_eq!(s.rename("/etc/passwd", "/etc/other"), Reply::Done);
    s.unlink("/etc/passwd");
    assert_eq!(s.stat(at("/etc/other")).unwrap().links, 1);
    s.fails(Request::Link { from: at("/etc"), to: at("/etc2") }, Errno::EPERM);
    s.fails(Request::Link { from: at("/etc/other"), to: at("/tmp/x") }, Errno::EXDEV);
}

#[test]
fn permissions_are_those_of_the_caller() {
    let mut s = overlay(some_files);
    s.mkdir("/private");
    s.write("/private/f", "x");
    s.done(Request::Chmod { at: at("/private"), mode: 0o700 });
    assert_eq!(s.stat(nobody("/private/f")), Err(Errno::EACCES));
    s.fails(Request::Mkdir { at: nobody("/private/x"), mode: 0o755 }, Errno::EACCES);
    s.fails(Request::Chmod { at: nobody("/private"), mode: 0o777 }, Errno::EPERM);
    s.fails(Request::Chown { at: nobody("/private"), uid: Some(77), gid: None }, Errno::EPERM);
    let open = Request::Open { at: nobody("/etc/passwd"), flags: libc::O_RDWR as u32, mode: 0, execute: false };
    s.fails(open, Errno::EACCES);
    s.write("/tmp/mine", "x");
    s.fails(Request::Unlink { at: nobody("/tmp/mine"), directory: false }, Errno::EPERM);
    s.done(Request::Mkdir { at: nobody("/tmp/theirs"), mode: 0o755 });
    assert_eq!(s.stat(at("/tmp/theirs")).unwrap().uid, 77);
    let run = Request::Open { at: at("/etc/passwd"), flags: 0, mode: 0, execute: true };
    s.fails(run, Errno::EACCES);
}

#[test]
fn a_readonly_mount_refuses_changes_but_has_its_mount_points() {
    let root = mount("/", MountKind::Overlay { lower: 0 }, libc::ST_RDONLY as u32);
    let mut s = sandbox_with(vec![root], some_files);
    s.fails(Request::Mkdir { at: at("/x"), mode: 0o755 }, Errno::EROFS);
    s.fails(Request::Unlink { at: at("/etc/passwd"), directory: false }, Errno::EROFS);
    assert_eq!(s.open("/etc/passwd", libc::O_RDWR).unwrap_err(), Errno::EROFS);
    assert_eq!(s.open("/new", libc::O_RDWR | libc::O_CREAT).unwrap_err(), Errno::EROFS);
    s.write("/tmp/x", "fine");
    assert_eq!(s.stat(at("/etc")).unwrap().mount_flags, libc::ST_RDONLY as u32);
}

#[test]
fn a_directly_served_root_works_through_the_gofer() {
    let mut s = direct(some_files);
    assert_eq!(s.list("/"), ["bin", "etc", "proc", "sys", "tmp", "usr"], "mount points are there, virtually");
    assert!(!s.path.join("proc").exists());
    s.write("/etc/new", "hello");
    assert_eq!(fs::read(s.path.join("etc/new")).unwrap(), b"hello");
    fs::write(s.path.join("etc/fromhost"), "host").unwrap();
    assert_eq!(s.read("/etc/fromhost").unwrap(), "host");
    fs::remove_file(s.path.join("etc/fromhost")).unwrap();
    assert_eq!(s.stat(at("/etc/fromhost")), Err(Errno::ENOENT));
    s.mkdir("/etc/dir");
    assert_eq!(s.rename("/etc/new", "/etc/dir/moved"), Reply::Done);
    assert_eq!(s.read("/etc/dir/moved").unwrap(), "hello");
    s.done(Request::Chmod { at: at("/etc/dir/moved"), mode: 0o600 });
    s.done(Request::Link { from: at("/etc/dir/moved"), to: at("/etc/hard") });
    assert_eq!(s.stat(at("/etc/hard")).unwrap().links, 2);
    assert_eq!(s.stat(at("/etc/hard")).unwrap().inode, s.stat(at("/etc/dir/moved")).unwrap().inode);
    s.done(Request::Truncate { at: at("/etc/hard"), size: 2 });
    assert_eq!(s.read("/etc/dir/moved").unwrap(), "he");
    s.symlink("dir/moved", "/etc/soft");
    assert_eq!(s.read("/etc/soft").unwrap(), "he");
    s.unlink("/etc/soft");
    s.unlink("/etc/hard");
    let node = s.open("/etc/dir/moved", libc::O_RDONLY).unwrap().0;
    s.unlink("/etc/dir/moved");
    assert_eq!(s.stat(at_node(node)).unwrap().links, 0);
    s.done(Request::Unlink { at: at("/etc/dir"), directory: true });
    assert!(!s.path.join("etc/dir").exists());
}

#[test]
fn locks_conflict_across_hard_links() {
    let mut s = overlay(some_files);
    let one = s.write("/tmp/f", "");
    s.done(Request::Link { from: at("/tmp/f"), to: at("/tmp/g") });
    let other = s.open("/tmp/g", libc::O_RDONLY).unwrap().0;
    let lock = |owner, kind| Lock { family: LockFamily::Record, kind, owner, pid: owner as i32, start: 0, end: 9 };
    s.done(Request::SetLock { node: one, lock: lock(1, LockKind::Write) });
    s.fails(Request::SetLock { node: other, lock: lock(2, LockKind::Read) }, Errno::EAGAIN);
    let reply = s.ask(Request::GetLock { node: other, lock: lock(2, LockKind::Read) });
    assert_eq!(reply, Reply::Lock(Some(lock(1, LockKind::Write))));
    s.done(Request::DropLocks { node: one, family: LockFamily::Record, owner: 1 });
    s.done(Request::SetLock { node: other, lock: lock(2, LockKind::Read) });
}

#[test]
fn extended_attributes_are_kept_in_memory() {
    let mut s = overlay(some_files);
    let set = |path: &str, flags| Request::SetXattr { at: at(path), name: b"user.a".to_vec(), value: b"1".to_vec(), flags };
    s.done(set("/etc/passwd", 0));
    s.fails(set("/etc/passwd", libc::XATTR_CREATE as u32), Errno::EEXIST);
    s.fails(set("/tmp", libc::XATTR_REPLACE as u32), Errno::ENODATA);
    assert_eq!(s.ask(Request::ListXattr { at: at("/etc/passwd") }), Reply::Bytes(b"user.a\0".to_vec()));
    s.done(Request::RemoveXattr { at: at("/etc/passwd"), name: b"user.a".to_vec() });
    s.fails(Request::GetXattr { at: at("/etc/passwd"), name: b"user.a".to_vec() }, Errno::ENODATA);
}

#[test]
fn the_guest_can_mount_and_unmount() {
    let mut s = overlay(some_files);
    let mount = |source: Option<&str>, path: &str, fstype: &str, flags| Request::Mount {
        source: source.map(at),
        at: at(path),
        fstype: fstype.into(),
        flags,
        options: Vec::new(),
    };
    s.mkdir("/mnt");
    s.done(mount(Some("/etc"), "/mnt", "", libc::MS_BIND));
    assert_eq!(s.read("/mnt/passwd").unwrap(), "root");
    s.done(mount(None, "/mnt", "", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY));
    s.fails(Request::Unlink { at: at("/mnt/passwd"), directory: false }, Errno::EROFS);
    s.unlink("/etc/link");
    s.fails(Request::Unlink { at: at("/mnt"), directory: true }, Errno::EBUSY);
    let Reply::Mounts(table) = s.ask(Request::Mounts { root: NodeId::ROOT }) else { panic!() };
    assert!(table.iter().any(|mount| mount.mountpoint == b"/mnt" && mount.root == b"/etc"));
    s.done(mount(None, "/mnt", "tmpfs", 0));
    assert_eq!(s.list("/mnt"), Vec::<String>::new());
    s.done(Request::Unmount { at: at("/mnt"), flags: 0 });
    let node = s.open("/mnt/passwd", libc::O_RDONLY).unwrap().0;
    s.fails(Request::Unmount { at: at("/mnt"), flags: 0 }, Errno::EBUSY);
    s.done(Request::Forget { nodes: vec![node] });
    // The reads above left references behind, as a program's open files would.
    s.fails(mount(None, "/mnt", "ext4", 0), Errno::ENODEV);
    s.fails(Request::Mount { source: None, at: nobody("/mnt"), fstype: "tmpfs".into(), flags: 0, options: vec![] }, Errno::EPERM);
}

#[test]
fn open_creates_excludes_and_follows() {
    let mut s = overlay(some_files);
    let create = libc::O_CREAT | libc::O_RDWR;
    assert_eq!(s.open("/etc/passwd", create | libc::O_EXCL).unwrap_err(), Errno::EEXIST);
    assert_eq!(s.open("/etc/link", create | libc::O_EXCL).unwrap_err(), Errno::EEXIST);
    assert_eq!(s.open("/etc", create).unwrap_err(), Errno::EISDIR);
    assert_eq!(s.open("/etc/", libc::O_RDWR).unwrap_err(), Errno::EISDIR);
    assert_eq!(s.open("/etc/x/", create).unwrap_err(), Errno::EISDIR);
    assert_eq!(s.open("/etc/passwd", libc::O_DIRECTORY).unwrap_err(), Errno::ENOTDIR);
    s.symlink("/tmp/target", "/dangling");
    s.write("/dangling", "through the link");
    assert_eq!(s.read("/tmp/target").unwrap(), "through the link");
    let nofollow = Request::Open { at: at_link("/dangling"), flags: 0, mode: 0, execute: false };
    s.fails(nofollow, Errno::ELOOP);
    let (node, _) = s.open("/tmp", libc::O_TMPFILE | libc::O_RDWR).unwrap();
    s.done(Request::Link { from: at_node(node), to: at("/tmp/named") });
    assert_eq!(s.stat(at("/tmp/named")).unwrap().links, 1);
}

#[test]
fn nodes_are_made_after_the_mounts() {
    let mut s = overlay(some_files);
    let node = |path: &str, mode, target: &str| NodeSpec {
        path: path.into(),
        mode,
        device: libc::makedev(1, 3),
        uid: 0,
        gid: 0,
        target: target.into(),
    };
    let mounts = vec![mount("/", MountKind::Overlay { lower: 0 }, 0), mount("/dev", MountKind::Tmpfs, 0)];
    let nodes = vec![node("/dev/null", libc::S_IFCHR | 0o666, ""), node("/dev/deep/fd", libc::S_IFLNK, "/proc/self/fd")];
    s.world = World::new(&VfsSetup { cpus: vec![0], mounts, nodes }, &mut s.gofer).unwrap();
    let null = s.stat(at("/dev/null")).unwrap();
    assert_eq!((null.mode, null.special_device), (libc::S_IFCHR | 0o666, libc::makedev(1, 3)));
    assert_eq!(s.ask(Request::Readlink { at: at_link("/dev/deep/fd") }), Reply::Bytes(b"/proc/self/fd".to_vec()));
    let (_, fd) = s.open("/dev/null", libc::O_RDWR).unwrap();
    assert!(fd.is_none(), "devices are the sentry's");
}

#[test]
fn what_the_sentry_makes_up_is_refused() {
    let mut s = overlay(some_files);
    let wild = NodeId(u64::MAX);
    s.fails(Request::Stat { at: At { base: wild, ..at("x") } }, Errno::EBADF);
    s.fails(Request::Stat { at: At { root: wild, ..at("/x") } }, Errno::EBADF);
    s.fails(Request::ReadDir { node: wild, cookie: 0, space: 0 }, Errno::EBADF);
    s.fails(Request::Reopen { node: NodeId(0), flags: u32::MAX }, Errno::EBADF);
    s.done(Request::Forget { nodes: vec![wild, NodeId::ROOT, NodeId::ROOT, NodeId(0)] });
    assert!(s.stat(at("/")).is_ok(), "the root is not forgotten");
    let file = s.write("/tmp/f", "");
    s.fails(Request::ReadDir { node: file, cookie: 7, space: u32::MAX }, Errno::ENOTDIR);
    s.fails(Request::Stat { at: At { base: file, ..at("x") } }, Errno::ENOTDIR);
    s.batch(NodeId::ROOT, u64::MAX, u32::MAX);
    s.fails(Request::Truncate { at: at("/tmp/f"), size: u64::MAX }, Errno::EFBIG);
}

#[test]
fn files_that_are_looked_at_again_and_again_do_not_use_up_the_gofers_handles() {
    // More than the gofer of these tests has handles, each looked at twice, so that all seem to be in use.
    const FILES: usize = 5000;
    let fill = |path: &Path| (0..FILES).for_each(|i| fs::write(path.join(format!("f{i}")), "x").unwrap());
    for mut sandbox in [overlay(fill), direct(fill)] {
        for _ in 0..2 {
            for i in 0..FILES {
                for _ in 0..2 {
                    assert_eq!(sandbox.stat(at(&format!("/f{i}"))).map(|attributes| attributes.size), Ok(1), "f{i}");
                }
            }
        }
    }
    let mut sandbox = direct(|_| ());
    for i in 0..FILES {
        let node = sandbox.write(&format!("/new{i}"), "y");
        sandbox.done(Request::Forget { nodes: vec![node] });
        assert!(sandbox.stat(at(&format!("/new{i}"))).is_ok(), "new{i}");
    }
}
