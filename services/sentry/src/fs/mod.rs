//! Files as the guest holds them: fd tables, open file descriptions and what stands behind them.
//!
//! Files on mounts belong to vfs: the sentry asks it for every path ([`path`]) and works on the host fds that it donates
//! ([`regular`]); what vfs publishes it need not ask for ([`cached`]). Everything without a path on a mount (pipes, anonymous files, [`special`] file systems) is the sentry's own.
//!
//! Invariants: no call into another service is made while an fd table is locked; an [`OpenFile`] is released by the call that
//! drops its last reference; data never goes through vfs.

mod anonymous;
pub mod buffers;
pub mod cached;
pub mod context;
pub mod device;
pub mod directory;
pub mod epoll;
pub mod eventfd;
pub mod host;
pub mod host_io;
pub mod io;
pub mod locks;
pub mod memfd;
pub mod open;
mod open_file;
pub mod ownership;
pub mod path;
pub mod path_file;
pub mod pipe;
pub mod regular;
pub(crate) mod ring;
pub mod signalfd;
pub mod special;
pub mod splice;
pub mod table;
pub mod timerfd;
pub mod vfs;
mod walk;

use std::{any::Any, sync::Arc};

use bulkhead_ipc::{Errno, vfs::Attributes};
use parking_lot::Mutex;

pub use buffers::UserBuffers;
pub use context::FsContext;
pub use open::open_executable;
pub use open_file::{AsyncOwner, F_OWNER_PGRP, OpenFile};
pub use table::FdTable;

use crate::{
    abi::UserAddress,
    executor::{Readiness, WaitQueue},
    memory::MappableFile,
    task::{Task, Thread},
};
use ownership::Ownership;

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
    /// read(2) and its kin. One that needs more than there is takes what there is, says EAGAIN, and is called again with the same
    /// buffers; it returns all that the call has got then.
    fn read(&self, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        let _ = (file, buffers, offset);
        Err(Errno::EINVAL)
    }
    /// write(2) and its kin.
    fn write(&self, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        let _ = (file, buffers, offset);
        Err(Errno::EINVAL)
    }
    /// As `read`, into memory of the sentry (sendfile, splice, copy_file_range).
    fn read_bytes(&self, file: &OpenFile, into: &mut [u8], offset: Offset) -> Result<usize, Errno> {
        let _ = (file, into, offset);
        Err(Errno::EINVAL)
    }
    /// As `write`, from memory of the sentry.
    fn write_bytes(&self, file: &OpenFile, from: &[u8], offset: Offset) -> Result<usize, Errno> {
        let _ = (file, from, offset);
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
    /// How long, in nanoseconds, a read that would block and has got `done` bytes so far waits for more before it returns with
    /// those (a terminal's VTIME); `None` waits for ever.
    fn patience(&self, done: usize) -> Option<u64> {
        let _ = done;
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
    /// Mode and owner of a file that is not on a mount, for fchmod(2) and fchown(2); `None` for those that have none to change.
    fn ownership(&self) -> Option<&Mutex<Ownership>> {
        None
    }
    /// A second open file description of the same object, for an open through /proc/self/fd of a file without a location.
    fn reopen(&self, thread: &Thread, file: &OpenFile, flags: u32) -> Result<Arc<OpenFile>, Errno> {
        let _ = (thread, file, flags);
        Err(Errno::ENXIO)
    }
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
    Special(Arc<special::SpecialPlace>),
}

/// Closes a file that was taken out of a table of `task`'s process: every close (close, dup2, execve, exit) goes through
/// here, because it drops the process's record locks on the inode.
pub fn close(task: &Task, file: Arc<OpenFile>) {
    if file.location.is_some() {
        locks::closed_by(task.process.pid as u64, &file);
    }
}
