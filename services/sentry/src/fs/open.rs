//! open(2): from a path to an open file description.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
};

use bulkhead_ipc::{
    Errno,
    vfs::{
        Attributes, Reply, Request,
        permissions::{READ, permit, permit_execution},
    },
};

use super::{
    FileOps, Location, OpenFile, device,
    directory::DirectoryFile,
    path::{Answer, Target, Walk, locate},
    path_file::PathFile,
    pipe,
    regular::RegularFile,
    vfs::{NodeHandle, unexpected},
};
use crate::{abi::FdNumber, task::Thread};

/// What to open and how.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// Directory fd.
    pub directory: FdNumber,
    /// Path.
    pub path: Vec<u8>,
    /// O_*, checked by [`checked_flags`].
    pub flags: u32,
    /// Permission bits of a new file, before the umask.
    pub mode: u32,
}

/// O_* flags that open(2) knows.
const KNOWN: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | O_LARGEFILE
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_PATH
    | libc::O_TMPFILE;

/// What O_LARGEFILE is to the kernel (libc has 0 on x86-64).
pub const O_LARGEFILE: i32 = 0o100000;

/// The bit of O_TMPFILE that is not O_DIRECTORY.
const TMPFILE_BIT: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// Filters and checks flags as open(2) does; `strict` (openat2) refuses unknown ones.
pub fn checked_flags(flags: u64, strict: bool) -> Result<u32, Errno> {
    if strict && flags & !(KNOWN as u32 as u64) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = flags as i32 & KNOWN | O_LARGEFILE;
    if flags & TMPFILE_BIT != 0 {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        if flags & libc::O_TMPFILE != libc::O_TMPFILE || !writes || flags & libc::O_CREAT != 0 {
            return Err(Errno::EINVAL);
        }
    }
    if flags & (libc::O_CREAT | libc::O_DIRECTORY) == libc::O_CREAT | libc::O_DIRECTORY {
        return Err(Errno::EINVAL);
    }
    if flags & libc::O_PATH != 0 {
        let allowed = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_PATH | libc::O_CLOEXEC;
        if strict && flags & !(allowed | O_LARGEFILE) != 0 {
            return Err(Errno::EINVAL);
        }
        flags &= allowed;
    }
    Ok(flags as u32)
}

/// What is left to do after vfs answered: FIFOs may have to wait for their other end.
enum Opening {
    Done(Arc<OpenFile>),
    Fifo(Arc<NodeHandle>, Attributes),
}

/// Opens; waits for the other end of a FIFO.
pub async fn open(thread: &Thread, request: &OpenRequest) -> Result<Arc<OpenFile>, Errno> {
    open_with(thread, Walk::new(thread), request).await
}

/// As [`open`], with a walk that was set up by the caller (openat2).
pub fn open_with<'f>(
    thread: &Thread,
    mut walk: Walk<'_>,
    request: &'f OpenRequest,
) -> impl Future<Output = Result<Arc<OpenFile>, Errno>> + Send + 'f {
    // All that needs the thread is done at once; only its task goes into the future.
    let opening = start(thread, &mut walk, request);
    let task = thread.task.clone();
    async move {
        match opening? {
            Opening::Done(file) => Ok(file),
            Opening::Fifo(handle, attributes) => pipe::open_fifo(&task, handle, &attributes, request.flags).await,
        }
    }
}

fn start(thread: &Thread, walk: &mut Walk<'_>, request: &OpenRequest) -> Result<Opening, Errno> {
    let has = |flag: i32| request.flags & flag as u32 == flag as u32;
    let follow = !has(libc::O_NOFOLLOW) && !has(libc::O_CREAT | libc::O_EXCL);
    let target = walk.resolve(request.directory, &request.path, follow, false)?;
    if has(libc::O_PATH) {
        let (location, _) = locate(walk, target, has(libc::O_DIRECTORY))?;
        let ops = Arc::new(PathFile::new(location.clone()));
        return Ok(Opening::Done(OpenFile::new(ops, request.flags, Some(location))));
    }
    if let Some(opened) = open_known(walk, &target, request.flags, false) {
        return opened.map(Opening::Done);
    }
    let umask = thread.fs().umask.load(Ordering::Relaxed);
    let mode = match has(libc::O_CREAT) || has(libc::O_TMPFILE) {
        true => request.mode & 0o7777 & !umask,
        false => 0,
    };
    match walk.ask(target, |at| Request::Open { at, flags: request.flags, mode, execute: false })? {
        Answer::Vfs(Reply::Opened { node, attributes, published, in_memory, .. }, fd) => {
            let handle = thread.kernel.vfs.handle_at(node, published, attributes.mount);
            let fd = keep(&handle, fd, in_memory, request.flags);
            opened(thread, handle, attributes, fd, request.flags)
        }
        Answer::Vfs(other, _) => Err(unexpected(&other)),
        Answer::Special(place) => {
            if has(libc::O_CREAT | libc::O_EXCL) {
                return Err(Errno::EEXIST);
            }
            if has(libc::O_TMPFILE) {
                return Err(Errno::EOPNOTSUPP);
            }
            if place.node.mode(thread)? & libc::S_IFMT == libc::S_IFLNK {
                return Err(Errno::ELOOP);
            }
            place.open(thread, request.flags).map(Opening::Done)
        }
        Answer::File(file) => {
            if has(libc::O_CREAT | libc::O_EXCL) {
                return Err(Errno::EEXIST);
            }
            if has(libc::O_DIRECTORY) {
                return Err(Errno::ENOTDIR);
            }
            file.ops.reopen(thread, &file, request.flags).map(Opening::Done)
        }
    }
}

/// Keeps a node that vfs opened for the next time, with its fd if that is good for another open; the fd, and whether it is a memory
/// file.
fn keep(handle: &Arc<NodeHandle>, fd: Option<OwnedFd>, in_memory: bool, flags: u32) -> Option<(Arc<OwnedFd>, bool)> {
    let fd = fd.map(|fd| (Arc::new(fd), in_memory));
    let reads = flags as i32 & libc::O_ACCMODE == libc::O_RDONLY;
    let file = fd.as_ref().filter(|_| in_memory || reads);
    if fd.is_none() || file.is_some() {
        handle.client().cache.keep(handle, file.map(|(fd, in_memory)| (fd, *in_memory)));
    }
    fd
}

/// Opens for reading what was opened lately, without asking vfs; `None` if vfs has to be asked.
fn open_known(walk: &Walk<'_>, target: &Target, flags: u32, execute: bool) -> Option<Result<Arc<OpenFile>, Errno>> {
    let needs_vfs = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_NOATIME | TMPFILE_BIT;
    if flags as i32 & needs_vfs != libc::O_RDONLY {
        return None;
    }
    let found = match walk.look(target)? {
        Ok(found) => found,
        Err(errno) => return Some(Err(errno)),
    };
    let attributes = &found.inode.attributes;
    let kind = attributes.mode & libc::S_IFMT;
    if kind != libc::S_IFDIR && kind != libc::S_IFREG {
        return None;
    }
    if kind == libc::S_IFREG && flags as i32 & libc::O_DIRECTORY != 0 {
        return Some(Err(Errno::ENOTDIR));
    }
    let permitted = match execute {
        true => permit_execution(&walk.caller, attributes, found.mount_flags),
        false => permit(&walk.caller, attributes, READ),
    };
    if let Err(errno) = permitted {
        return Some(Err(errno));
    }
    let (handle, ops): (_, Arc<dyn FileOps>) = if kind == libc::S_IFDIR {
        let handle = walk.cache().node(found.spot)?;
        (handle.clone(), Arc::new(DirectoryFile::new(handle, attributes)))
    } else {
        let (handle, fd, in_memory) = walk.cache().file(&found)?;
        (handle.clone(), Arc::new(RegularFile::new(handle, fd, in_memory, attributes, flags)))
    };
    Some(Ok(OpenFile::new(ops, flags, Some(Location::Vfs(handle)))))
}

/// What stands behind a node that vfs opened.
fn opened(
    thread: &Thread,
    handle: Arc<NodeHandle>,
    attributes: Attributes,
    fd: Option<(Arc<OwnedFd>, bool)>,
    flags: u32,
) -> Result<Opening, Errno> {
    let nodev = attributes.mount_flags & libc::ST_NODEV as u32 != 0;
    let location = Some(Location::Vfs(handle.clone()));
    let file = match attributes.mode & libc::S_IFMT {
        libc::S_IFREG => {
            let (fd, in_memory) = fd.ok_or(Errno::EIO)?;
            OpenFile::new(Arc::new(RegularFile::new(handle, fd, in_memory, &attributes, flags)), flags, location)
        }
        libc::S_IFDIR => OpenFile::new(Arc::new(DirectoryFile::new(handle, &attributes)), flags, location),
        libc::S_IFIFO => return Ok(Opening::Fifo(handle, attributes)),
        libc::S_IFCHR if nodev => return Err(Errno::EACCES),
        libc::S_IFCHR => device::open(thread, handle, &attributes, flags)?,
        libc::S_IFLNK => return Err(Errno::ELOOP),
        _ => return Err(Errno::ENXIO),
    };
    Ok(Opening::Done(file))
}

/// Opens a path for execution (execve): follows links, checks x permission and that it is a regular file. `flags` are AT_EMPTY_PATH and
/// AT_SYMLINK_NOFOLLOW.
pub fn open_executable(thread: &Thread, directory: FdNumber, path: &[u8], flags: i32) -> Result<Arc<OpenFile>, Errno> {
    let mut walk = Walk::new(thread);
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let target = walk.resolve(directory, path, follow, flags & libc::AT_EMPTY_PATH != 0)?;
    let read_only = libc::O_RDONLY as u32;
    if let Some(opened) = open_known(&walk, &target, read_only, true) {
        return opened;
    }
    let answer = walk.ask(target, |at| Request::Open { at, flags: read_only, mode: 0, execute: true })?;
    match answer {
        Answer::Vfs(Reply::Opened { node, attributes, published, in_memory, .. }, fd) => {
            let handle = thread.kernel.vfs.handle_at(node, published, attributes.mount);
            let fd = keep(&handle, fd, in_memory, read_only);
            match attributes.mode & libc::S_IFMT {
                libc::S_IFREG => {}
                libc::S_IFLNK => return Err(Errno::ELOOP),
                _ => return Err(Errno::EACCES),
            }
            match opened(thread, handle, attributes, fd, read_only)? {
                Opening::Done(file) => Ok(file),
                Opening::Fifo(..) => Err(Errno::EACCES),
            }
        }
        Answer::Vfs(other, _) => Err(unexpected(&other)),
        Answer::Special(_) => Err(Errno::EACCES),
        Answer::File(file) => match file.downcast::<RegularFile>() {
            Some(_) => file.ops.reopen(thread, &file, read_only),
            None => Err(Errno::EACCES),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_filtered_as_linux_does() {
        let flags = |flags: i32| checked_flags(flags as u32 as u64, false).map(|f| f as i32 & !O_LARGEFILE);
        assert_eq!(flags(libc::O_PATH | libc::O_RDWR | libc::O_CREAT), Ok(libc::O_PATH));
        assert_eq!(flags(libc::O_TMPFILE | libc::O_RDONLY), Err(Errno::EINVAL));
        assert_eq!(flags(libc::O_TMPFILE | libc::O_RDWR), Ok(libc::O_TMPFILE | libc::O_RDWR));
        assert_eq!(flags(libc::O_CREAT | libc::O_DIRECTORY), Err(Errno::EINVAL));
        assert_eq!(flags(1 << 30), Ok(0));
        assert_eq!(checked_flags(1 << 40, true), Err(Errno::EINVAL));
    }
}
