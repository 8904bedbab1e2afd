//! Files as the guest holds them: fd tables, open file descriptions and what stands behind them.

pub mod vfs;

use std::{
    any::Any,
    sync::{Arc, atomic::AtomicU32},
};

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, NodeId},
};
use parking_lot::Mutex;

use crate::{
    abi::{FdNumber, UserAddress},
    executor::{Readiness, WaitQueue},
    memory::{AddressSpace, MappableFile},
    task::Thread,
};

/// Guest memory for one I/O call: a list of buffers in an address space with a cursor. The copies are checked; a fault after
/// some bytes gives a short count, as Linux does.
pub struct UserBuffers<'a> {
    /// Whose memory.
    pub memory: &'a AddressSpace,
    /// (address, length) of each buffer.
    pub parts: Vec<(UserAddress, usize)>,
    /// Bytes done.
    pub done: usize,
}

impl<'a> UserBuffers<'a> {
    /// One buffer.
    pub fn one(memory: &'a AddressSpace, address: UserAddress, length: usize) -> Self {
        UserBuffers { memory, parts: vec![(address, length)], done: 0 }
    }
    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.parts.iter().map(|p| p.1).sum::<usize>() - self.done
    }
    /// Kernel → guest: copies `from` to the cursor and advances; bytes copied (short only at the end of the buffers or a
    /// fault); EFAULT if nothing could be copied.
    pub fn put(&mut self, from: &[u8]) -> Result<usize, Errno> {
        let _ = from;
        todo!()
    }
    /// Guest → kernel.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let _ = into;
        todo!()
    }
    /// Lets a host call work on guest memory directly: `f` gets host iovecs from the cursor on (`write` = the host call writes
    /// into them) and returns how many bytes it did; the cursor advances.
    pub fn direct(&mut self, write: bool, f: impl FnMut(&mut [libc::iovec]) -> Result<usize, Errno>) -> Result<usize, Errno> {
        let _ = (write, f);
        todo!()
    }
}

/// Where an operation works in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offset {
    /// At the open file's position, which advances (read, write).
    Current,
    /// At a given offset (pread, pwrite).
    At(u64),
}

/// What stands behind an open file description. All methods return at once: EAGAIN says "not now", and the generic code
/// waits on [`FileOps::wait_queue`] unless O_NONBLOCK is set. A method that is not there fails as Linux does for such a file.
pub trait FileOps: Any + Send + Sync {
    /// read(2) and its kin.
    fn read(&self, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        let _ = (file, buffers, offset);
        Err(Errno::EINVAL)
    }
    /// write(2) and its kin.
    fn write(&self, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        let _ = (file, buffers, offset);
        Err(Errno::EINVAL)
    }
    /// lseek(2).
    fn seek(&self, file: &OpenFile, offset: i64, whence: i32) -> Result<u64, Errno> {
        let _ = (file, offset, whence);
        Err(Errno::ESPIPE)
    }
    /// What poll(2) reports now.
    fn poll(&self, file: &OpenFile) -> Readiness {
        let _ = file;
        Readiness::IN | Readiness::OUT | Readiness::RDNORM | Readiness::WRNORM
    }
    /// Woken when `poll` may have changed; `None` for files that are always ready.
    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        None
    }
    /// Called before a waiter sleeps on the queue: gives files that watch a host fd the chance to arm it.
    fn prepare_wait(&self, interest: Readiness) {
        let _ = interest;
    }
    /// ioctl(2); generic ones (FIONBIO, FIOCLEX) are handled before.
    fn ioctl(&self, thread: &Thread, file: &OpenFile, command: u32, argument: UserAddress) -> Result<u64, Errno> {
        let _ = (thread, file, command, argument);
        Err(Errno::ENOTTY)
    }
    /// fstat(2).
    fn attributes(&self, thread: &Thread) -> Result<Attributes, Errno>;
    /// getdents64(2): calls `emit` with entries from the file's position on until it returns false; the position is left at
    /// the first entry not taken.
    fn read_directory(
        &self,
        thread: &Thread,
        file: &OpenFile,
        emit: &mut dyn FnMut(&bulkhead_ipc::vfs::DirEntry) -> bool,
    ) -> Result<(), Errno> {
        let _ = (thread, file, emit);
        Err(Errno::ENOTDIR)
    }
    /// mmap(2).
    fn mappable(&self) -> Result<MappableFile, Errno> {
        Err(Errno::ENODEV)
    }
    /// ftruncate(2).
    fn truncate(&self, file: &OpenFile, size: u64) -> Result<(), Errno> {
        let _ = (file, size);
        Err(Errno::EINVAL)
    }
    /// fallocate(2).
    fn allocate(&self, file: &OpenFile, mode: i32, offset: u64, length: u64) -> Result<(), Errno> {
        let _ = (file, mode, offset, length);
        Err(Errno::ENODEV)
    }
    /// fsync(2), fdatasync(2).
    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        let _ = data_only;
        Err(Errno::EINVAL)
    }
    /// The last reference to the open file description went away.
    fn release(&self, file: &OpenFile) {
        let _ = file;
    }
    /// What /proc/self/fd/N reads as ("pipe:[12]", "anon_inode:[eventfd]"); for files of vfs the location says it.
    fn describe(&self) -> Vec<u8>;
    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
}

/// Where a file or directory is.
#[derive(Clone)]
pub enum Location {
    /// In vfs (one reference is held; dropped with it).
    Vfs(Arc<vfs::NodeHandle>),
    /// In a file system of the sentry's own.
    Special(Arc<crate::procfs::SpecialPlace>),
}

/// An open file description.
pub struct OpenFile {
    /// O_* status flags and access mode (no O_CLOEXEC, O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC).
    pub flags: AtomicU32,
    /// File position.
    pub position: Mutex<u64>,
    /// What stands behind it.
    pub ops: Arc<dyn FileOps>,
    /// Where it was opened, for files that have a path.
    pub location: Option<Location>,
    /// Unique number, the owner of flock and OFD locks.
    pub id: u64,
}

impl OpenFile {
    /// A new one with `flags` O_*.
    pub fn new(ops: Arc<dyn FileOps>, flags: u32, location: Option<Location>) -> Arc<OpenFile> {
        let _ = (ops, flags, location);
        todo!()
    }
    /// Whether it may be read.
    pub fn readable(&self) -> bool {
        todo!()
    }
    /// Whether it may be written.
    pub fn writable(&self) -> bool {
        todo!()
    }
    /// O_NONBLOCK.
    pub fn nonblocking(&self) -> bool {
        todo!()
    }
    /// Its ops as a concrete type.
    pub fn downcast<T: FileOps>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }
}

/// A table of file descriptors.
pub struct FdTable {}

impl FdTable {
    /// Empty.
    pub fn new() -> Arc<FdTable> {
        todo!()
    }
    /// EBADF when it is not open.
    pub fn get(&self, fd: FdNumber) -> Result<Arc<OpenFile>, Errno> {
        let _ = fd;
        todo!()
    }
    /// Lowest free number from `from` on and below `limit`; EMFILE.
    pub fn install(&self, file: Arc<OpenFile>, close_on_exec: bool, from: i32, limit: u64) -> Result<FdNumber, Errno> {
        let _ = (file, close_on_exec, from, limit);
        todo!()
    }
    /// dup2: puts `file` at `fd`; what was there is returned to be closed.
    pub fn replace(&self, fd: FdNumber, file: Arc<OpenFile>, close_on_exec: bool) -> Option<Arc<OpenFile>> {
        let _ = (fd, file, close_on_exec);
        todo!()
    }
    /// Takes it out; EBADF.
    pub fn remove(&self, fd: FdNumber) -> Result<Arc<OpenFile>, Errno> {
        let _ = fd;
        todo!()
    }
    /// (close_on_exec, file) of every open number, ascending.
    pub fn list(&self) -> Vec<(FdNumber, bool, Arc<OpenFile>)> {
        todo!()
    }
    /// A copy (fork).
    pub fn fork(&self) -> Arc<FdTable> {
        todo!()
    }
    /// Closes what is close-on-exec (execve); returns the files.
    pub fn take_close_on_exec(&self) -> Vec<Arc<OpenFile>> {
        todo!()
    }
    /// Closes everything (exit).
    pub fn take_all(&self) -> Vec<Arc<OpenFile>> {
        todo!()
    }
    /// FD_CLOEXEC.
    pub fn close_on_exec(&self, fd: FdNumber) -> Result<bool, Errno> {
        let _ = fd;
        todo!()
    }
    /// FD_CLOEXEC.
    pub fn set_close_on_exec(&self, fd: FdNumber, on: bool) -> Result<(), Errno> {
        let _ = (fd, on);
        todo!()
    }
}

/// Root, working directory and umask.
pub struct FsContext {
    /// chroot(2).
    pub root: parking_lot::RwLock<Location>,
    /// chdir(2).
    pub directory: parking_lot::RwLock<Location>,
    /// umask(2).
    pub umask: AtomicU32,
}

impl FsContext {
    /// A copy (fork without CLONE_FS).
    pub fn fork(&self) -> Arc<FsContext> {
        todo!()
    }
    /// The root as vfs knows it (a root in a special file system falls back to vfs's root).
    pub fn root_node(&self) -> NodeId {
        todo!()
    }
}

/// Opens a path for execution (execve): follows links, checks x permission and that it is a regular file.
pub fn open_executable(thread: &Thread, directory: FdNumber, path: &[u8], flags: i32) -> Result<Arc<OpenFile>, Errno> {
    let _ = (thread, directory, path, flags);
    todo!()
}
