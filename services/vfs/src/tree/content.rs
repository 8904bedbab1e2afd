//! Contents of regular files: which fd is donated, and copy-up.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use bulkhead_ipc::Errno;

use super::{Body, Content, DentryId, FsId, InodeId, Tree};
use crate::{gofer::Gofer, host};

impl Tree {
    fn content(&mut self, inode: InodeId) -> Result<&mut Content, Errno> {
        match &mut self.inodes[inode].body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// An fd for reading or (`access`) writing a regular file. A file of the lower layer is copied up before it is written;
    /// whoever has it open for reading keeps the old data, as with Linux's overlayfs.
    pub fn open_content(
        &mut self,
        gofer: &mut Gofer,
        inode: InodeId,
        access: u32,
        truncate: bool,
    ) -> Result<Arc<OwnedFd>, Errno> {
        let writes = access != libc::O_RDONLY.cast_unsigned() || truncate;
        if self.is_direct(inode) {
            let fd = self.open_on_host(gofer, inode, access)?;
            if truncate {
                self.truncate_direct(gofer, inode, 0)?;
            }
            return Ok(Arc::new(fd));
        }
        if !writes && let Content::Host(known) = self.content(inode)? {
            if let Some(fd) = known {
                return Ok(fd.clone());
            }
            let fd = Arc::new(self.open_on_host(gofer, inode, access)?);
            *self.content(inode)? = Content::Host(Some(fd.clone()));
            return Ok(fd);
        }
        if writes {
            self.check_space(self.inodes[inode].fs)?;
        }
        let fd = self.memory_content(gofer, inode, !truncate)?;
        if truncate {
            host::truncate(fd.as_fd(), 0)?;
        }
        Ok(fd)
    }

    fn open_on_host(&mut self, gofer: &mut Gofer, inode: InodeId, access: u32) -> Result<OwnedFd, Errno> {
        let origin = self.inodes[inode].origin.as_ref().ok_or(Errno::EIO)?;
        gofer.open(&origin.directory, &origin.name, access)
    }

    /// truncate(2).
    pub fn truncate(&mut self, gofer: &mut Gofer, inode: InodeId, size: u64) -> Result<(), Errno> {
        if self.is_direct(inode) {
            return self.truncate_direct(gofer, inode, size);
        }
        let fd = self.memory_content(gofer, inode, size > 0)?;
        host::truncate(fd.as_fd(), size)
    }

    fn truncate_direct(&mut self, gofer: &mut Gofer, inode: InodeId, size: u64) -> Result<(), Errno> {
        let fd = self.open_on_host(gofer, inode, libc::O_WRONLY.cast_unsigned())?;
        self.inodes[inode].fresh = false;
        host::truncate(fd.as_fd(), size)
    }

    /// The memfd of a file, made (and filled from the lower layer, if `data`) on first use.
    fn memory_content(&mut self, gofer: &mut Gofer, inode: InodeId, data: bool) -> Result<Arc<OwnedFd>, Errno> {
        let lower = match self.content(inode)? {
            Content::Memory(fd) => return Ok(fd.clone()),
            Content::Empty => None,
            Content::Host(_) if !data => None,
            Content::Host(Some(fd)) => Some(fd.clone()),
            Content::Host(None) => Some(Arc::new(self.open_on_host(gofer, inode, libc::O_RDONLY.cast_unsigned())?)),
        };
        let fd = Arc::new(host::memory_file()?);
        if let Some(lower) = lower {
            host::copy(lower.as_fd(), fd.as_fd())?;
        }
        let attributes = self.inodes[inode].attributes;
        host::set_times(fd.as_fd(), Some(attributes.accessed), Some(attributes.modified))?;
        *self.content(inode)? = Content::Memory(fd.clone());
        self.inodes[inode].upper = true;
        Ok(fd)
    }

    /// Whether the contents are in a memory file.
    pub fn is_in_memory(&self, inode: InodeId) -> bool {
        matches!(self.inodes[inode].body, Body::File(Content::Memory(_)))
    }

    /// Whether the sentry may have the memory file.
    pub fn is_lent(&self, inode: InodeId) -> bool {
        self.inodes[inode].lent
    }

    /// The sentry is given the memory file: it has it as long as it has a node of the file.
    pub fn lend(&mut self, inode: InodeId) {
        self.inodes[inode].lent = true;
    }

    /// The sentry got a node of the file, or (`false`) gave one back.
    pub fn count_node(&mut self, dentry: DentryId, given: bool) {
        let Ok(inode) = self.inode_of(dentry) else { return };
        let inode = &mut self.inodes[inode];
        inode.nodes = if given { inode.nodes + 1 } else { inode.nodes.saturating_sub(1) };
        inode.lent &= inode.nodes > 0;
    }

    /// Bytes of memory that the files of a file system have.
    pub fn bytes_used(&self, fs: FsId) -> u64 {
        let files = self.inodes.iter().filter(|(_, inode)| inode.fs == fs);
        files
            .filter_map(|(_, inode)| match &inode.body {
                Body::File(Content::Memory(fd)) => Some(host::status(fd.as_fd()).ok()?.blocks * 512),
                _ => None,
            })
            .sum()
    }

    /// ENOSPC when a file system with a limit is full. The sentry writes to memory files directly, so this is all the enforcement
    /// there is: a full file system opens nothing more for writing. All its files have to be asked for that, so one that had room is
    /// believed to have it for a moment.
    fn check_space(&mut self, fs: FsId) -> Result<(), Errno> {
        const MOMENT: Duration = Duration::from_millis(20);
        let filesystem = self.filesystem(fs);
        let limit = filesystem.bytes;
        if limit == u64::MAX || filesystem.had_room.is_some_and(|then| then.elapsed() < MOMENT) {
            return Ok(());
        }
        if self.bytes_used(fs) >= limit {
            return Err(Errno::ENOSPC);
        }
        self.filesystem_mut(fs).had_room = Some(Instant::now());
        Ok(())
    }
}
