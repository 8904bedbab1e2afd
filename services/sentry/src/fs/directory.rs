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
/// Bytes of an entry without its name, as vfs counts them, at most.
const RECORD: usize = 19 + 1 + 7;
/// Bytes of the largest entry.
const LARGEST_RECORD: usize = RECORD + 255;

/// An open directory.
pub struct DirectoryFile {
    handle: Arc<NodeHandle>,
    inode: (u64, u64),
    ahead: Mutex<Ahead>,
}

/// What vfs gave and no getdents has taken yet.
#[derive(Default)]
struct Ahead {
    /// Last first.
    entries: Vec<DirEntry>,
    /// The position of the first of them.
    position: u64,
    /// Where the directory ended; who reads on from there is told so, once, before vfs is asked again.
    end: Option<u64>,
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

    fn fetch(&self, cookie: u64, ahead: &mut Ahead) -> Result<(), Errno> {
        let request = Request::ReadDir { node: self.handle.node, cookie, space: BATCH };
        let entries = match self.handle.client().call(&request)?.0 {
            Reply::Entries(entries) => entries,
            other => return Err(unexpected(&other)),
        };
        // What vfs keeps itself comes in batches that are full but for the last. What it passes on from a host need not.
        let bytes: usize = entries.iter().map(|entry| RECORD + entry.name.len()).sum();
        let is_last = self.handle.is_published() && bytes + LARGEST_RECORD < BATCH as usize;
        ahead.end = entries.last().filter(|_| is_last).map(|entry| entry.next);
        ahead.entries = entries;
        ahead.entries.reverse();
        Ok(())
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
        if ahead.position != *position || *position == 0 {
            *ahead = Ahead::default();
        }
        let mut emitted = false;
        loop {
            if ahead.entries.is_empty() {
                if ahead.end == Some(*position) {
                    if !emitted {
                        ahead.end = None;
                    }
                    return Ok(());
                }
                self.fetch(*position, &mut ahead)?;
                if ahead.entries.is_empty() {
                    return Ok(());
                }
            }
            while let Some(entry) = ahead.entries.last() {
                if !emit(entry) {
                    ahead.position = *position;
                    return Ok(());
                }
                emitted = true;
                *position = entry.next;
                ahead.position = entry.next;
                ahead.entries.pop();
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
