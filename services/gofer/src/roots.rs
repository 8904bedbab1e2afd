//! The roots: what of the host is served at all.

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
};

use bulkhead_ipc::Errno;

use crate::host;

/// A directory or single file of the host that is served.
#[derive(Debug)]
pub struct Root {
    /// `O_PATH` fd of it.
    pub fd: OwnedFd,
    /// Nothing beneath it may be changed.
    pub readonly: bool,
    /// Where a root that is a single file can be opened from: an `O_PATH` fd cannot be opened by itself.
    pub file: Option<Place>,
}

/// A name in a directory.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub directory: OwnedFd,
    /// The name in it.
    pub name: CString,
}

impl Root {
    /// A root from the fd of a detached mount. A single file is attached in `scratch`, an empty directory of the gofer's own, so
    /// that it can be opened from there. Only before the process is locked down.
    pub fn new(fd: OwnedFd, readonly: bool, index: usize, scratch: Option<&OwnedFd>) -> Result<Root, Errno> {
        let attributes = host::attributes(fd.as_fd())?;
        if attributes.mode & libc::S_IFMT == libc::S_IFDIR {
            return Ok(Root { fd, readonly, file: None });
        }
        let file = match scratch {
            Some(scratch) => {
                let name = CString::new(format!("file-{index}")).map_err(|_| Errno::EINVAL)?;
                host::attach_mount(fd.as_fd(), scratch.as_fd(), &name)?;
                Some(Place { directory: scratch.try_clone()?, name })
            }
            None => None,
        };
        Ok(Root { fd, readonly, file })
    }
}
