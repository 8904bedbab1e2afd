//! Requests that change nothing.

use std::sync::Arc;

use bulkhead_ipc::{
    Errno,
    vfs::{At, FsStatistics, NodeId, Reply},
};

use super::{Answer, kind};
use crate::{
    gofer::Gofer,
    locks::Locks,
    permissions::{EXECUTE, READ, WRITE, permit_access},
    tree::{Body, FsId, FsKind},
    walk::Walked,
    world::World,
};

const TMPFS_MAGIC: u64 = 0x0102_1994;
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;
/// Set in statfs's flags when they are valid.
const ST_VALID: u64 = 0x20;

impl World {
    pub(super) fn look_up(&mut self, gofer: &mut Gofer, at: &At, directory: bool) -> Walked<Reply> {
        let place = self.resolve(gofer, at)?;
        let attributes = self.attributes(gofer, place)?;
        if directory && kind(&attributes) != libc::S_IFDIR {
            return Err(Errno::ENOTDIR.into());
        }
        let published = self.published.show(&mut self.tree, place.dentry);
        Ok(Reply::Node { node: self.nodes.refer(&mut self.tree, place), attributes, published })
    }

    /// Where what is published is.
    pub(super) fn publication(&mut self) -> Result<Answer, Errno> {
        let place = self.nodes.place(NodeId::ROOT)?;
        let root = self.published.show(&mut self.tree, place.dentry);
        let fd = self.published.file().transpose()?.map(Arc::new);
        Ok((Reply::Publication { root, mount: place.mount }, fd))
    }

    pub(super) fn stat(&mut self, gofer: &mut Gofer, at: &At) -> Walked<Reply> {
        let place = self.resolve(gofer, at)?;
        Ok(Reply::Attributes(self.attributes(gofer, place)?))
    }

    pub(super) fn access(&mut self, gofer: &mut Gofer, at: &At, mode: u32) -> Walked<()> {
        if mode & !(READ | WRITE | EXECUTE) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let place = self.resolve(gofer, at)?;
        let (_, attributes) = self.inode(place)?;
        Ok(permit_access(&at.caller, &attributes, self.mounts.get(place.mount)?.flags, mode)?)
    }

    pub(super) fn read_link(&mut self, gofer: &mut Gofer, at: &At) -> Walked<Reply> {
        let place = self.resolve(gofer, at)?;
        let (inode, _) = self.inode(place)?;
        match &self.tree.inodes[inode].body {
            Body::Symlink(target) => Ok(Reply::Bytes(target.clone())),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) fn read_directory(&mut self, gofer: &mut Gofer, node: NodeId, cookie: u64, space: u32) -> Result<Reply, Errno> {
        let place = self.nodes.place(node)?;
        let above = self.above(place, self.nodes.place(NodeId::ROOT)?)?;
        let above = self.inode(above)?.1.inode;
        Ok(Reply::Entries(self.tree.read_directory(gofer, place.dentry, above, cookie, space)?))
    }

    pub(super) fn locks(&mut self, node: NodeId) -> Result<&mut Locks, Errno> {
        let (inode, _) = self.inode(self.nodes.place(node)?)?;
        Ok(&mut self.tree.inodes[inode].locks)
    }

    pub(super) fn statistics(&mut self, gofer: &mut Gofer, at: &At) -> Walked<Reply> {
        let place = self.resolve(gofer, at)?;
        let (inode, _) = self.inode(place)?;
        let flags = u64::from(self.mounts.get(place.mount)?.flags) | ST_VALID;
        let mut statistics = match &self.tree.inodes[inode].origin {
            Some(origin) if self.tree.is_direct(inode) => {
                let held = origin.held.clone();
                gofer.statistics(&held)?
            }
            _ => self.memory_statistics(self.tree.inodes[inode].fs),
        };
        statistics.flags = flags;
        Ok(Reply::Statistics(statistics))
    }

    fn memory_statistics(&self, fs: FsId) -> FsStatistics {
        let filesystem = self.tree.filesystem(fs);
        let bytes = filesystem.bytes.min(self.memory);
        let used = self.tree.bytes_used(fs);
        let files = filesystem.inodes.min(self.memory / 4096);
        let free = bytes.saturating_sub(used) / 4096;
        FsStatistics {
            magic: if filesystem.kind == FsKind::Memory { TMPFS_MAGIC } else { OVERLAYFS_MAGIC },
            block_size: 4096,
            blocks: bytes / 4096,
            blocks_free: free,
            blocks_available: free,
            files,
            files_free: files.saturating_sub(filesystem.inodes_used),
            name_length: 255,
            flags: 0,
        }
    }
}
