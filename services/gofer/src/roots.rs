//! The roots: what of the host is served at all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_ipc::Errno;

use crate::host;

/// A directory or single file of the host that is served.
#[derive(Debug)]
pub struct Root {
    /// `O_PATH` fd of it.
    pub fd: OwnedFd,
    /// Nothing beneath it may be changed.
    pub readonly: bool,
    /// Of a root that is a regular file: its open files for reading, writing and both, as far as it may be opened so. An
    /// `O_PATH` fd cannot be opened by itself, and its directory is not served.
    files: Option<[Option<OwnedFd>; 3]>,
}

impl Root {
    /// A root from the fd of a detached mount. Only before the process is locked down: a single file is opened by `/proc`, which
    /// is not there later.
    pub fn new(fd: OwnedFd, readonly: bool) -> Result<Root, Errno> {
        let attributes = host::attributes(fd.as_fd())?;
        if attributes.mode & libc::S_IFMT != libc::S_IFREG {
            return Ok(Root { fd, readonly, files: None });
        }
        let open = |access| {
            let allowed = access == libc::O_RDONLY || !readonly;
            allowed.then(|| host::reopen_by_proc(fd.as_fd(), access).ok()).flatten()
        };
        let files = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR].map(open);
        Ok(Root { fd, readonly, files: Some(files) })
    }

    /// Whether it is a single file.
    pub fn is_file(&self) -> bool {
        self.files.is_some()
    }

    /// The open file of a root that is one.
    pub fn file(&self, access: i32) -> Result<BorrowedFd<'_>, Errno> {
        let files = self.files.as_ref().ok_or(Errno::EISDIR)?;
        let index = usize::try_from(access).map_err(|_| Errno::EINVAL)?;
        files.get(index).ok_or(Errno::EINVAL)?.as_ref().map(AsFd::as_fd).ok_or(Errno::EACCES)
    }
}
