//! The HOME of a program whose configuration gives it none: its user's in the container's /etc/passwd, or `/`.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use bulkhead_ipc::vfs::{Reply, Request};

use super::init::{at, root};
use crate::fs::vfs::VfsClient;

/// As much of /etc/passwd as is read.
const MOST: usize = 1 << 20;

/// Sees to it that the environment has a HOME that is not empty.
pub(super) fn provide(vfs: &Arc<VfsClient>, uid: u32, environment: &mut Vec<Vec<u8>>) {
    const NAME: &[u8] = b"HOME=";
    if environment.iter().any(|entry| entry.strip_prefix(NAME).is_some_and(|home| !home.is_empty())) {
        return;
    }
    let home = user_file(vfs).and_then(|text| find(&text, uid)).unwrap_or_else(|| b"/".to_vec());
    let home = [NAME, &home].concat();
    match environment.iter_mut().find(|entry| entry.starts_with(NAME)) {
        Some(empty) => *empty = home,
        None => environment.push(home),
    }
}

/// /etc/passwd, read as the container's root; `None` when it is not there or no regular file.
fn user_file(vfs: &Arc<VfsClient>) -> Option<Vec<u8>> {
    let request = Request::Open { at: at(&root(), b"/etc/passwd"), flags: libc::O_RDONLY as u32, mode: 0, execute: false };
    let (reply, fd) = vfs.call(&request).ok()?;
    let Reply::Opened { node, .. } = reply else { return None };
    // Gives the reference back at the end.
    let _node = vfs.handle(node);
    read(&fd?)
}

fn read(file: &OwnedFd) -> Option<Vec<u8>> {
    let mut text = vec![0; MOST];
    let mut length = 0;
    while length < MOST {
        match nix::sys::uio::pread(file.as_fd(), &mut text[length..], length as i64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
    text.truncate(length);
    Some(text)
}

/// The sixth field of the first line of that user (passwd(5)).
fn find(text: &[u8], uid: u32) -> Option<Vec<u8>> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [_, _, number, _, _, home, ..] = fields.as_slice() else { return None };
        let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
        (number == uid).then(|| home.to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_first_line_of_the_user_counts_and_bad_lines_do_not() {
        let text = b"root:x:0:0:root:/root:/bin/sh\nbad:line\nx:y:7\nu:x:7:7::/home/u:/bin/sh\nv:x:7:7::/v:\n\xff:x:8:8::/\xfe:";
        assert_eq!(find(text, 0), Some(b"/root".to_vec()));
        assert_eq!(find(text, 7), Some(b"/home/u".to_vec()));
        assert_eq!(find(text, 8), Some(b"/\xfe".to_vec()));
        assert_eq!(find(text, 9), None);
    }
}
