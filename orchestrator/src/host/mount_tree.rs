//! Detached copies of mount trees: what the gofer is handed instead of paths. They are in no mount namespace and vanish with
//! the last fd.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use crate::{
    error::{Error, Result},
    oci::mounts::HostRoot,
};

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const MOUNT_ATTR_RDONLY: u64 = 1;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// An O_PATH fd of a private detached copy of the mount at `root.path`, with the mounts beneath it if it is `recursive`, and
/// read-only on the host's side too if it is `readonly`.
pub fn open_mount_tree(root: &HostRoot) -> Result<OwnedFd> {
    let recursive = if root.recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    let path = CString::new(root.path.as_os_str().as_bytes()).map_err(|_| Error::File {
        doing: "open",
        path: root.path.clone(),
        why: "a NUL byte".into(),
    })?;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive;
    // SAFETY: `path` is a NUL-terminated string that outlives the call; the call writes no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(Error::file("copy the mount tree of", &root.path)(io::Error::last_os_error()));
    }
    // SAFETY: the call succeeded, so this is a new fd that nobody else owns.
    let tree = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attributes = MountAttributes {
        set: if root.readonly { MOUNT_ATTR_RDONLY } else { 0 },
        clear: 0,
        propagation: libc::MS_PRIVATE,
        user_namespace: 0,
    };
    // SAFETY: the path is a NUL-terminated constant, `attributes` is live and of the size that is passed, and only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH as libc::c_uint | recursive,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if done < 0 {
        return Err(Error::file("set up the mount tree of", &root.path)(io::Error::last_os_error()));
    }
    Ok(tree)
}
