//! Files whose contents are made when they are read.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::vfs::Attributes;
use parking_lot::Mutex;

use crate::{
    Errno,
    fs::{FileOps, Offset, OpenFile, UserBuffers, special::SpecialNode},
    task::Thread,
};

/// Makes the contents.
pub type Make = Arc<dyn Fn() -> Result<Vec<u8>, Errno> + Send + Sync>;
/// Takes what was written, from a writer with these effective capabilities.
pub type Store = Arc<dyn Fn(u64, &[u8]) -> Result<(), Errno> + Send + Sync>;

/// A file node with text.
pub struct Text {
    /// Inode number.
    pub inode: u64,
    /// Permission bits.
    pub permissions: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Its contents.
    pub make: Make,
    /// What a write does; `None` where nothing can be written.
    pub store: Option<Store>,
    /// Whether the container's configuration makes it read-only.
    pub readonly: bool,
}

impl SpecialNode for Text {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(Attributes {
            inode: self.inode,
            mode: libc::S_IFREG | self.permissions,
            uid: self.owner.0,
            gid: self.owner.1,
            ..Attributes::default()
        })
    }

    fn open(self: Arc<Self>, thread: &Thread, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        let writes = flags as i32 & libc::O_ACCMODE != libc::O_RDONLY;
        if writes && self.readonly {
            return Err(Errno::EROFS);
        }
        if writes && self.store.is_none() {
            return Err(Errno::EACCES);
        }
        let capabilities = thread.credentials().capabilities.effective;
        Ok(Arc::new(TextFile { node: self, capabilities, contents: Mutex::new(None) }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open text file.
struct TextFile {
    node: Arc<Text>,
    /// Of whoever opened it.
    capabilities: u64,
    /// As they were at the last read from offset 0.
    contents: Mutex<Option<Vec<u8>>>,
}

impl FileOps for TextFile {
    fn read(&self, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        let mut position = file.position.lock();
        let start = match offset {
            Offset::Current => *position,
            Offset::At(offset) => offset,
        };
        let mut contents = self.contents.lock();
        if start == 0 || contents.is_none() {
            *contents = Some((self.node.make)()?);
        }
        let bytes = contents.as_deref().unwrap_or_default();
        let rest = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
        if rest.is_empty() {
            return Ok(0);
        }
        let done = buffers.put(rest)?;
        if offset == Offset::Current {
            *position += done as u64;
        }
        Ok(done)
    }

    fn write(&self, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
        /// No setting is longer.
        const MOST: usize = 4096;
        let store = self.node.store.as_ref().ok_or(Errno::EACCES)?;
        let mut bytes = vec![0; buffers.remaining().min(MOST)];
        let length = buffers.take(&mut bytes)?;
        store(self.capabilities, bytes.get(..length).unwrap_or_default())?;
        if offset == Offset::Current {
            *file.position.lock() += length as u64;
        }
        Ok(length)
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: i32) -> Result<u64, Errno> {
        let mut position = file.position.lock();
        let target = match whence {
            libc::SEEK_SET => Some(offset),
            libc::SEEK_CUR => i64::try_from(*position).ok().and_then(|position| position.checked_add(offset)),
            _ => None,
        };
        *position = target.and_then(|target| u64::try_from(target).ok()).ok_or(Errno::EINVAL)?;
        Ok(*position)
    }

    fn attributes(&self, thread: &Thread) -> Result<Attributes, Errno> {
        self.node.attributes(thread)
    }

    fn truncate(&self, _: &OpenFile, _: u64) -> Result<(), Errno> {
        // `echo value >file` opens with O_TRUNC.
        Ok(())
    }

    fn describe(&self) -> Vec<u8> {
        b"/proc".to_vec()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
