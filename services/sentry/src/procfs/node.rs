//! The kinds of nodes that the trees are made of.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::vfs::{Attributes, ForeignFs};

use crate::{
    Errno,
    fs::special::{Link, SpecialEntry, SpecialNode},
    task::Thread,
};

/// The inode number of a path within a special file system: the same path has the same number (FNV-1a).
pub fn inode(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)) >> 16
}

/// An entry for a directory listing.
pub fn entry(name: impl Into<Vec<u8>>, path: &str, kind: u8) -> SpecialEntry {
    SpecialEntry { name: name.into(), inode: inode(path), kind }
}

/// Attributes of a directory or link.
pub fn plain(path: &str, mode: u32, owner: (u32, u32)) -> Attributes {
    Attributes { inode: inode(path), mode, uid: owner.0, gid: owner.1, ..Attributes::default() }
}

/// A symbolic link with a text.
pub struct TextLink {
    /// Its own path, for the inode number.
    pub path: String,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Where it leads.
    pub target: Vec<u8>,
}

impl SpecialNode for TextLink {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(plain(&self.path, libc::S_IFLNK | 0o777, self.owner))
    }
    fn readlink(&self, _: &Thread) -> Result<Vec<u8>, Errno> {
        Ok(self.target.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Finds what a [`MagicLink`] leads to, and how it reads.
pub type Resolve = Box<dyn Fn(&Thread) -> Result<(Link, Vec<u8>), Errno> + Send + Sync>;

/// A link to a place or an open file, whatever it reads as.
pub struct MagicLink {
    /// Its own path, for the inode number.
    pub path: String,
    /// Permission bits (those of /proc/PID/fd/N tell the access mode).
    pub permissions: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Where it leads.
    pub resolve: Resolve,
}

impl SpecialNode for MagicLink {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(Attributes { size: 64, ..plain(&self.path, libc::S_IFLNK | self.permissions, self.owner) })
    }
    fn readlink(&self, thread: &Thread) -> Result<Vec<u8>, Errno> {
        Ok((self.resolve)(thread)?.1)
    }
    fn follow(&self, thread: &Thread) -> Result<Link, Errno> {
        Ok((self.resolve)(thread)?.0)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An empty directory that is the root of a file system.
struct Empty {
    fs: ForeignFs,
    permissions: u32,
}

/// The root of a file system that has no entries (yet).
pub fn directory(fs: ForeignFs, permissions: u32) -> Arc<dyn SpecialNode> {
    Arc::new(Empty { fs, permissions })
}

impl SpecialNode for Empty {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(Attributes { links: 2, ..plain(&format!("{:?}", self.fs), libc::S_IFDIR | self.permissions, (0, 0)) })
    }
    fn lookup(&self, _: &Thread, _: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        Err(Errno::ENOENT)
    }
    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        Ok(Vec::new())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
