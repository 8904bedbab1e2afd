//! The gofer on a directory of the host.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::*;

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("bulkhead-gofer-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn gofer(path: &Path, readonly: bool) -> (Gofer, Handle) {
    let fd = OwnedFd::from(fs::File::open(path).unwrap());
    let gofer = Gofer::new(vec![Root::new(fd, readonly).unwrap()], 4096);
    let root = walked(&gofer, Request::Attach { root: 0 }).0[0].handle;
    (gofer, root)
}

fn walked(gofer: &Gofer, request: Request) -> (Vec<Entry>, Option<Errno>) {
    match gofer.answer(request).0 {
        Reply::Walked { entries, stopped } => (entries, stopped),
        other => panic!("{other:?}"),
    }
}

fn names(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

#[test]
fn a_walk_stops_at_a_symbolic_link_and_tells_where_it_points() {
    let scratch = Scratch::new("walk");
    fs::create_dir_all(scratch.0.join("a/b")).unwrap();
    symlink("/etc", scratch.0.join("a/link")).unwrap();
    let (gofer, root) = gofer(&scratch.0, false);
    let (entries, stopped) = walked(&gofer, Request::Walk { base: root, names: names(&["a", "link", "passwd"]) });
    assert_eq!((entries.len(), stopped), (2, None));
    assert_eq!(entries[1].target, b"/etc");
    let (entries, stopped) = walked(&gofer, Request::Walk { base: root, names: names(&["a", "b", "c", "d"]) });
    assert_eq!((entries.len(), stopped), (2, Some(Errno::ENOENT)));
}

#[test]
fn nothing_outside_a_root_can_be_named() {
    let scratch = Scratch::new("outside");
    symlink("/etc/passwd", scratch.0.join("link")).unwrap();
    let (gofer, root) = gofer(&scratch.0, false);
    for name in ["..", ".", "a/b", "/etc/passwd", ""] {
        let (entries, stopped) = walked(&gofer, Request::Walk { base: root, names: names(&[name]) });
        assert_eq!((entries.len(), stopped), (0, Some(Errno::EINVAL)), "{name}");
    }
    let (reply, fd) = gofer.answer(Request::Open { directory: root, name: b"link".to_vec(), access: 0 });
    assert!(matches!(reply, Reply::Error(_)) && fd.is_none());
}

#[test]
fn a_created_file_has_its_mode_and_its_fd_writes() {
    let scratch = Scratch::new("create");
    let (gofer, root) = gofer(&scratch.0, false);
    let me = fs::metadata(&scratch.0).unwrap();
    let request = Request::Create {
        directory: root,
        name: b"f".to_vec(),
        mode: 0o640,
        uid: me.uid(),
        gid: me.gid(),
        access: libc::O_WRONLY as u32,
    };
    let (reply, fd) = gofer.answer(request.clone());
    assert!(matches!(reply, Reply::Opened(_)), "{reply:?}");
    fs::File::from(fd.unwrap()).write_all(b"hello").unwrap();
    assert_eq!(fs::read(scratch.0.join("f")).unwrap(), b"hello");
    assert_eq!(fs::metadata(scratch.0.join("f")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(gofer.answer(request).0, Reply::Error(Errno::EEXIST));
}

#[test]
fn a_readonly_root_stays_as_it_is() {
    let scratch = Scratch::new("readonly");
    fs::write(scratch.0.join("f"), "x").unwrap();
    let (gofer, root) = gofer(&scratch.0, true);
    let make = Request::Make {
        directory: root,
        name: b"d".to_vec(),
        mode: libc::S_IFDIR | 0o755,
        device: 0,
        uid: 0,
        gid: 0,
        target: Vec::new(),
    };
    let open = Request::Open { directory: root, name: b"f".to_vec(), access: libc::O_RDWR as u32 };
    let unlink = Request::Unlink { directory: root, name: b"f".to_vec(), is_directory: false };
    for request in [make, open, unlink, Request::Chmod { handle: root, mode: 0 }] {
        assert_eq!(gofer.answer(request).0, Reply::Error(Errno::EROFS));
    }
    assert!(gofer.answer(Request::Open { directory: root, name: b"f".to_vec(), access: 0 }).1.is_some());
}

#[test]
fn only_regular_files_are_opened() {
    let scratch = Scratch::new("kinds");
    fs::create_dir(scratch.0.join("d")).unwrap();
    let (gofer, root) = gofer(&scratch.0, false);
    let fifo = |name: &str, mode| Request::Make {
        directory: root,
        name: name.into(),
        mode,
        device: 0x103,
        uid: 0,
        gid: 0,
        target: Vec::new(),
    };
    walked(&gofer, fifo("p", libc::S_IFIFO | 0o600));
    assert_eq!(gofer.answer(fifo("null", libc::S_IFCHR | 0o666)).0, Reply::Error(Errno::EPERM));
    for name in ["d", "p"] {
        let (reply, fd) = gofer.answer(Request::Open { directory: root, name: name.into(), access: 0 });
        assert!(matches!(reply, Reply::Error(Errno::EINVAL)) && fd.is_none(), "{name}: {reply:?}");
    }
}

#[test]
fn a_closed_handle_is_bad_for_ever() {
    let scratch = Scratch::new("handles");
    let (gofer, root) = gofer(&scratch.0, false);
    gofer.answer(Request::Close { handles: vec![root, root, Handle(77)] });
    let again = walked(&gofer, Request::Attach { root: 0 }).0[0].handle;
    assert_ne!(again, root);
    assert_eq!(gofer.answer(Request::Attributes { handle: root }).0, Reply::Error(Errno::EBADF));
    assert_eq!(gofer.open_handles(), 1);
}

#[test]
fn attributes_change_through_a_handle() {
    let scratch = Scratch::new("attributes");
    fs::write(scratch.0.join("f"), "x").unwrap();
    let (gofer, root) = gofer(&scratch.0, false);
    let file = walked(&gofer, Request::Walk { base: root, names: names(&["f"]) }).0[0].handle;
    assert_eq!(gofer.answer(Request::Chmod { handle: file, mode: 0o604 }).0, Reply::Done);
    let time = bulkhead_ipc::vfs::Timestamp { seconds: 1_000_000_000, nanoseconds: 5 };
    use bulkhead_ipc::vfs::SetTime;
    let times = Request::SetTimes { handle: file, accessed: SetTime::Keep, modified: SetTime::To(time) };
    assert_eq!(gofer.answer(times).0, Reply::Done);
    let Reply::Attributes(attributes) = gofer.answer(Request::Attributes { handle: file }).0 else { panic!() };
    assert_eq!((attributes.mode & 0o7777, attributes.modified, attributes.size), (0o604, time, 1));
    assert_eq!(
        gofer.answer(Request::SetXattr { handle: file, name: b"trusted.x".to_vec(), value: vec![], flags: 0 }).0,
        Reply::Error(Errno::EPERM)
    );
    let set = gofer.answer(Request::SetXattr { handle: file, name: b"user.x".to_vec(), value: b"v".to_vec(), flags: 0 }).0;
    if set != Reply::Error(Errno::EOPNOTSUPP) {
        assert_eq!(set, Reply::Done);
        assert_eq!(gofer.answer(Request::GetXattr { handle: file, name: b"user.x".to_vec() }).0, Reply::Bytes(b"v".to_vec()));
        assert_eq!(gofer.answer(Request::ListXattr { handle: file }).0, Reply::Bytes(b"user.x\0".to_vec()));
    }
}

#[test]
fn a_directory_is_read_in_batches() {
    let scratch = Scratch::new("batches");
    for index in 0..500 {
        fs::write(scratch.0.join(format!("file-with-a-long-name-{index:04}")), "").unwrap();
    }
    let (gofer, root) = gofer(&scratch.0, false);
    let (mut cookie, mut seen) = (0, Vec::new());
    loop {
        let Reply::Entries(entries) = gofer.answer(Request::ReadDir { handle: root, cookie, space: 4096 }).0 else { panic!() };
        let Some(last) = entries.last() else { break };
        cookie = last.next;
        seen.extend(entries.into_iter().map(|entry| entry.name));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 500);
}
