//! Open directories of vfs.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, DirEntry, NodeId, Reply, Request},
};
use parking_lot::Mutex;

use super::{
    FileOps, Offset, OpenFile, UserBuffers,
    regular::{path_of, stat_node},
    vfs::{NodeHandle, unexpected},
};
use crate::task::Thread;

/// How much vfs is asked for at a time, in bytes of entries.
const BATCH: u32 = 32 * 1024;

/// An open directory.
pub struct DirectoryFile {
    handle: Arc<NodeHandle>,
    inode: (u64, u64),
    /// Entries that vfs gave and no getdents has taken yet, last first, and the position of the first of them.
    ahead: Mutex<(u64, Vec<DirEntry>)>,
}

impl DirectoryFile {
    /// The directory `handle`.
    pub fn new(handle: Arc<NodeHandle>, attributes: &Attributes) -> DirectoryFile {
        DirectoryFile { handle, inode: (attributes.device, attributes.inode), ahead: Mutex::default() }
    }

    /// (device, inode).
    pub fn inode(&self) -> (u64, u64) {
        self.inode
    }

    fn fetch(&self, cookie: u64) -> Result<Vec<DirEntry>, Errno> {
        let request = Request::ReadDir { node: self.handle.node, cookie, space: BATCH };
        match self.handle.client().call(&request)?.0 {
            Reply::Entries(mut entries) => {
                entries.reverse();
                Ok(entries)
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl FileOps for DirectoryFile {
    fn read(&self, _: &OpenFile, _: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: i32) -> Result<u64, Errno> {
        seek_directory(file, offset, whence)
    }

    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        stat_node(&self.handle)
    }

    fn read_directory(&self, _: &Thread, file: &OpenFile, emit: &mut dyn FnMut(&DirEntry) -> bool) -> Result<(), Errno> {
        let mut position = file.position.lock();
        let mut ahead = self.ahead.lock();
        let (at, entries) = &mut *ahead;
        if *at != *position || *position == 0 {
            entries.clear();
        }
        loop {
            if entries.is_empty() {
                *entries = self.fetch(*position)?;
                if entries.is_empty() {
                    return Ok(());
                }
            }
            while let Some(entry) = entries.last() {
                if !emit(entry) {
                    *at = *position;
                    return Ok(());
                }
                *position = entry.next;
                *at = entry.next;
                entries.pop();
            }
        }
    }

    fn sync(&self, _: bool) -> Result<(), Errno> {
        self.handle.client().order(&Request::Sync { node: Some(self.handle.node) })
    }

    fn describe(&self) -> Vec<u8> {
        path_of(&self.handle, NodeId::ROOT).unwrap_or_default()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// lseek(2) of a directory: positions are cookies, which only 0 and what getdents gave are.
pub(super) fn seek_directory(file: &OpenFile, offset: i64, whence: i32) -> Result<u64, Errno> {
    let mut position = file.position.lock();
    *position = match whence {
        libc::SEEK_SET => u64::try_from(offset).map_err(|_| Errno::EINVAL)?,
        libc::SEEK_CUR if offset == 0 => *position,
        _ => return Err(Errno::EINVAL),
    };
    Ok(*position)
}
