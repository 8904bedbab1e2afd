//! Regular files: a host fd that vfs donated, or a memfd.
//!
//! The position is the open file's own; the host fd's is never used. Bytes go straight between the host file and guest memory.

use std::{
    any::Any,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bulkhead_ipc::{
    Errno,
    vfs::{At, Attributes, Caller, NodeId, Reply, Request},
};
use parking_lot::Mutex;

use super::{
    FileOps, Offset, OpenFile, UserBuffers, host_io,
    ownership::{LocalInode, Ownership},
    vfs::{NodeHandle, unexpected},
};
use crate::{
    abi::UserAddress,
    memory::MappableFile,
    task::{Task, Thread},
};

/// What a regular file is apart from its bytes.
enum Origin {
    /// A file on a mount.
    Node {
        handle: Arc<NodeHandle>,
        inode: (u64, u64),
        /// The fd is a memory file of vfs, and with it the authority for size and times.
        in_memory: bool,
    },
    /// memfd_create(2).
    Memory { inode: LocalInode, name: Vec<u8> },
}

/// A regular file.
pub struct RegularFile {
    fd: Arc<OwnedFd>,
    /// Whether the host fd allows writing.
    writable: bool,
    origin: Arc<Origin>,
    /// It had set-user-id or set-group-id bits when it was opened: a write by who may not keep them clears them.
    set_id: AtomicBool,
}

/// Host flags of pwritev2(2) that guests may ask for.
const WRITE_FLAGS: i32 = libc::RWF_DSYNC | libc::RWF_SYNC | libc::RWF_HIPRI;

impl RegularFile {
    /// A file on a mount, opened with `flags`.
    pub fn new(handle: Arc<NodeHandle>, fd: Arc<OwnedFd>, in_memory: bool, attributes: &Attributes, flags: u32) -> RegularFile {
        let set_gid = libc::S_ISGID | libc::S_IXGRP;
        RegularFile {
            fd,
            writable: flags as i32 & libc::O_ACCMODE != libc::O_RDONLY,
            origin: Arc::new(Origin::Node { handle, inode: (attributes.device, attributes.inode), in_memory }),
            set_id: AtomicBool::new(attributes.mode & libc::S_ISUID != 0 || attributes.mode & set_gid == set_gid),
        }
    }

    /// A file of memory without a name in the tree.
    pub(super) fn memory(fd: OwnedFd, inode: LocalInode, name: Vec<u8>) -> RegularFile {
        RegularFile {
            fd: Arc::new(fd),
            writable: true,
            origin: Arc::new(Origin::Memory { inode, name }),
            set_id: AtomicBool::new(false),
        }
    }

    /// (device, inode).
    pub fn inode(&self) -> (u64, u64) {
        match &*self.origin {
            Origin::Node { inode, .. } => *inode,
            Origin::Memory { inode, .. } => (super::ownership::ANONYMOUS_DEVICE, inode.number),
        }
    }

    /// Whether memfd_create(2) made it.
    pub fn is_memory(&self) -> bool {
        matches!(&*self.origin, Origin::Memory { .. })
    }

    /// The host fd.
    pub fn host_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Bytes.
    pub fn size(&self) -> Result<u64, Errno> {
        Ok(host_io::stat(self.host_fd())?.st_size as u64)
    }

    /// Clears set-user-id and set-group-id bits before a write or truncation by `task`, if it may not keep them.
    pub fn strip_set_id(&self, task: &Task) -> Result<(), Errno> {
        const CAP_FSETID: u32 = 4;
        let Origin::Node { handle, .. } = &*self.origin else { return Ok(()) };
        if !self.set_id.load(Ordering::Relaxed) || task.credentials().has(CAP_FSETID) {
            return Ok(());
        }
        self.set_id.store(false, Ordering::Relaxed);
        let mode = stat_node(handle)?.mode & 0o7777;
        let mut kept = mode & !libc::S_ISUID;
        if mode & libc::S_IXGRP != 0 {
            kept &= !libc::S_ISGID;
        }
        handle.client().order(&Request::Chmod { at: node_itself(handle), mode: kept })
    }

    /// Runs one I/O step at the right place: `step` gets the host offset and says how many bytes it did.
    fn at(&self, file: &OpenFile, offset: Offset, step: impl FnOnce(u64) -> Result<usize, Errno>) -> Result<usize, Errno> {
        match offset {
            Offset::At(at) => step(at),
            Offset::Current => {
                let mut position = file.position.lock();
                let done = step(*position)?;
                *position += done as u64;
                Ok(done)
            }
        }
    }

    /// As `at`, for writes: those that append go to the end wherever that is, and the position follows them.
    fn at_for_writing(
        &self,
        file: &OpenFile,
        asked: i32,
        offset: Offset,
        step: impl FnOnce(u64, i32) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut flags = asked & WRITE_FLAGS;
        if file.has(libc::O_DSYNC) {
            flags |= if file.status() as i32 & libc::O_SYNC == libc::O_SYNC { libc::RWF_SYNC } else { libc::RWF_DSYNC };
        }
        if !file.has(libc::O_APPEND) && asked & libc::RWF_APPEND == 0 {
            return self.at(file, offset, |at| step(at, flags));
        }
        match offset {
            Offset::At(at) => step(at, flags | libc::RWF_APPEND),
            Offset::Current => {
                let mut position = file.position.lock();
                let done = step(*position, flags | libc::RWF_APPEND)?;
                *position = self.size()?;
                Ok(done)
            }
        }
    }
}

impl FileOps for RegularFile {
    fn read(&self, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        self.at(file, offset, |start| {
            let mut at = start;
            buffers.direct(true, |iovecs| {
                let n = host_io::read_vectors(self.host_fd(), iovecs, host_io::offset(at)?, 0)?;
                at += n as u64;
                Ok(n)
            })
        })
    }

    fn write(&self, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        self.at_for_writing(file, buffers.flags, offset, |start, flags| {
            let mut at = start;
            buffers.direct(false, |iovecs| {
                let n = host_io::write_vectors(self.host_fd(), iovecs, host_io::offset(at)?, flags)?;
                at += n as u64;
                Ok(n)
            })
        })
    }

    fn read_bytes(&self, file: &OpenFile, into: &mut [u8], offset: Offset) -> Result<usize, Errno> {
        self.at(file, offset, |at| host_io::read(self.host_fd(), into, host_io::offset(at)?, 0))
    }

    fn write_bytes(&self, file: &OpenFile, from: &[u8], offset: Offset) -> Result<usize, Errno> {
        self.at_for_writing(file, 0, offset, |at, flags| host_io::write(self.host_fd(), from, host_io::offset(at)?, flags))
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: i32) -> Result<u64, Errno> {
        let mut position = file.position.lock();
        let target = match whence {
            libc::SEEK_SET => Some(offset),
            libc::SEEK_CUR => i64::try_from(*position).ok().and_then(|at| at.checked_add(offset)),
            libc::SEEK_END => i64::try_from(self.size()?).ok().and_then(|end| end.checked_add(offset)),
            libc::SEEK_DATA | libc::SEEK_HOLE => Some(host_io::seek(self.host_fd(), offset, whence)? as i64),
            _ => return Err(Errno::EINVAL),
        };
        *position = u64::try_from(target.ok_or(Errno::EOVERFLOW)?).map_err(|_| Errno::EINVAL)?;
        Ok(*position)
    }

    fn ioctl(&self, thread: &Thread, file: &OpenFile, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        if command != libc::FIONREAD as u32 {
            return Err(Errno::ENOTTY);
        }
        let left = self.size()?.saturating_sub(*file.position.lock());
        thread.memory().write_value(argument, &(left.min(i32::MAX as u64) as i32))?;
        Ok(0)
    }

    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        match &*self.origin {
            Origin::Node { handle, in_memory, .. } => {
                let memory = in_memory.then(|| self.host_fd());
                handle.published_attributes(memory).map_or_else(|| ask_for_attributes(handle), Ok)
            }
            Origin::Memory { inode, .. } => {
                let stat = host_io::stat(self.host_fd())?;
                let mut attributes = inode.attributes(libc::S_IFREG, stat.st_size as u64);
                attributes.blocks = stat.st_blocks as u64;
                attributes.links = 0;
                Ok(attributes)
            }
        }
    }

    fn ownership(&self) -> Option<&Mutex<Ownership>> {
        match &*self.origin {
            Origin::Memory { inode, .. } => Some(&inode.ownership),
            Origin::Node { .. } => None,
        }
    }

    fn reopen(&self, _: &Thread, _: &OpenFile, flags: u32) -> Result<Arc<OpenFile>, Errno> {
        let again = RegularFile {
            fd: self.fd.clone(),
            writable: self.writable,
            origin: self.origin.clone(),
            set_id: AtomicBool::new(false),
        };
        if flags & libc::O_TRUNC as u32 != 0 {
            host_io::truncate(self.host_fd(), 0)?;
        }
        Ok(OpenFile::new(Arc::new(again), flags, None))
    }

    fn mappable(&self) -> Result<MappableFile, Errno> {
        let (device, inode) = self.inode();
        let origin = self.origin.clone();
        let name = move || match &*origin {
            Origin::Node { handle, .. } => path_of(handle, NodeId::ROOT).unwrap_or_default(),
            Origin::Memory { name, .. } => memory_name(name),
        };
        Ok(MappableFile { fd: self.fd.clone(), writable: self.writable, device, inode, name: Arc::new(name) })
    }

    fn truncate(&self, _: &OpenFile, size: u64) -> Result<(), Errno> {
        host_io::truncate(self.host_fd(), host_io::offset(size)?)
    }

    fn allocate(&self, _: &OpenFile, mode: i32, offset: u64, length: u64) -> Result<(), Errno> {
        host_io::allocate(self.host_fd(), mode, host_io::offset(offset)?, host_io::offset(length)?)
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        host_io::sync(self.host_fd(), data_only)
    }

    fn describe(&self) -> Vec<u8> {
        match &*self.origin {
            Origin::Node { handle, .. } => path_of(handle, NodeId::ROOT).unwrap_or_default(),
            Origin::Memory { name, .. } => memory_name(name),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn memory_name(name: &[u8]) -> Vec<u8> {
    [b"/memfd:", name, b" (deleted)"].concat()
}

/// A node itself, asked for by the sentry and not by a guest: no permission is checked on the way.
pub(super) fn node_itself(handle: &NodeHandle) -> At {
    let caller = Caller { capabilities: u64::MAX, ..Caller::default() };
    At { caller, root: NodeId::ROOT, base: handle.node, path: Vec::new(), follow: false }
}

/// fstat(2) of a node.
pub fn stat_node(handle: &NodeHandle) -> Result<Attributes, Errno> {
    handle.published_attributes(None).map_or_else(|| ask_for_attributes(handle), Ok)
}

fn ask_for_attributes(handle: &NodeHandle) -> Result<Attributes, Errno> {
    match handle.client().call(&Request::Stat { at: node_itself(handle) })?.0 {
        Reply::Attributes(attributes) => Ok(attributes),
        other => Err(unexpected(&other)),
    }
}

/// A node's path as seen from `root`.
pub fn path_of(handle: &NodeHandle, root: NodeId) -> Result<Vec<u8>, Errno> {
    match handle.client().call(&Request::PathOf { node: handle.node, root })?.0 {
        Reply::Bytes(path) => Ok(path),
        other => Err(unexpected(&other)),
    }
}
