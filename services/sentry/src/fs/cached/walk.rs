//! Paths through published names: the walk of vfs (path_resolution(7)), step by step, as far as what is published leads.
//!
//! Each step is right at the moment at which it is made, as on Linux. What is not published, or changes while it is read, ends the
//! walk without an answer.

use bulkhead_ipc::{
    Errno,
    published::{Dentry, Inode, Reader},
    vfs::{
        Caller,
        permissions::{EXECUTE, permit},
    },
};

use super::{Found, MountTable, Spot};

/// Symbolic links in one walk at most.
const LINK_LIMIT: u32 = 40;
/// NAME_MAX.
const NAME_LIMIT: usize = 255;
/// A path that symbolic links made longer than this is given up.
const PATH_LIMIT: usize = 4095;

/// What a walk goes through, and on whose behalf.
pub(super) struct Ground<'a> {
    pub reader: &'a Reader,
    pub mounts: &'a MountTable,
    pub caller: &'a Caller,
    pub root: Spot,
}

/// The name at the beginning of a path, and what follows it; `None` at the end.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|byte| *byte != b'/')?;
    let path = &path[start..];
    Some(path.split_at(path.iter().position(|byte| *byte == b'/').unwrap_or(path.len())))
}

impl Ground<'_> {
    /// Where a path leads.
    pub fn walk(&self, base: Spot, path: &[u8], follow: bool) -> Option<Result<Found, Errno>> {
        let mut here = if path.first() == Some(&b'/') { self.root } else { base };
        // The path as symbolic links made it, if there were any.
        let mut made: Vec<u8>;
        let mut rest = path;
        let mut links = 0;
        loop {
            let Some((name, behind)) = split(rest) else { return self.found(here) };
            let directory = self.reader.dentry(here.dentry)?;
            let inode = self.reader.inode(directory.inode)?;
            if inode.attributes.mode & libc::S_IFMT != libc::S_IFDIR {
                return Some(Err(Errno::ENOTDIR));
            }
            if let Err(errno) = permit(self.caller, &inode.attributes, EXECUTE) {
                return Some(Err(errno));
            }
            if name.len() > NAME_LIMIT {
                return Some(Err(Errno::ENAMETOOLONG));
            }
            if name == b"." || name == b".." {
                if name == b".." {
                    here = self.above(here)?;
                }
                rest = behind;
                continue;
            }
            // What has no name any more is the business of vfs.
            if directory.is_deleted {
                return None;
            }
            let child = self.reader.child(here.dentry, name)?;
            if !child.inode.is_some() {
                return Some(Err(Errno::ENOENT));
            }
            let (spot, child) = self.enter(here.mount, child)?;
            let inode = self.reader.inode(child.inode)?;
            let is_last = behind.iter().all(|byte| *byte == b'/');
            let slash = is_last && !behind.is_empty();
            let kind = inode.attributes.mode & libc::S_IFMT;
            if kind == libc::S_IFLNK && (!is_last || follow || slash) {
                links += 1;
                if links > LINK_LIMIT {
                    return Some(Err(Errno::ELOOP));
                }
                let mut next = Vec::with_capacity(128);
                self.reader.target(child.inode, &mut next)?;
                if next.len() + behind.len() > PATH_LIMIT {
                    return Some(Err(Errno::ENAMETOOLONG));
                }
                if next[0] == b'/' {
                    here = self.root;
                }
                next.extend_from_slice(behind);
                made = next;
                rest = &made;
                continue;
            }
            if is_last {
                if slash && kind != libc::S_IFDIR {
                    return Some(Err(Errno::ENOTDIR));
                }
                return Some(Ok(self.seen(spot, inode)?));
            }
            here = spot;
            rest = behind;
        }
    }

    fn found(&self, spot: Spot) -> Option<Result<Found, Errno>> {
        let dentry = self.reader.dentry(spot.dentry)?;
        Some(Ok(self.seen(spot, self.reader.inode(dentry.inode)?)?))
    }

    fn seen(&self, spot: Spot, inode: Inode) -> Option<Found> {
        Some(Found { spot, inode, mount_flags: self.mounts.get(spot.mount)?.flags })
    }

    /// Enters what is mounted on a dentry, to the topmost mount.
    fn enter(&self, mount: u32, mut dentry: Dentry) -> Option<(Spot, Dentry)> {
        let mut spot = Spot { mount, dentry: dentry.key };
        // Each round enters another mount.
        for _ in 0..=self.mounts.mounts.len() {
            if !dentry.is_mountpoint {
                return Some((spot, dentry));
            }
            let Some(mount) = self.mounts.on(spot) else { return Some((spot, dentry)) };
            // One without a root is a file system of the sentry's.
            spot = Spot { mount: mount.id, dentry: mount.root };
            dentry = self.reader.dentry(mount.root)?;
        }
        None
    }

    /// The directory above, which ends at the root and steps out of mounts.
    fn above(&self, mut here: Spot) -> Option<Spot> {
        for _ in 0..=self.mounts.mounts.len() {
            if here == self.root {
                return Some(here);
            }
            let mount = self.mounts.get(here.mount)?;
            if mount.root == here.dentry {
                if mount.parent == 0 {
                    return Some(here);
                }
                here = Spot { mount: mount.parent, dentry: mount.mountpoint };
                continue;
            }
            let dentry = self.reader.dentry(here.dentry)?;
            if !dentry.parent.is_some() {
                return Some(here);
            }
            return self.enter(here.mount, self.reader.dentry(dentry.parent)?).map(|(spot, _)| spot);
        }
        None
    }
}

#[cfg(test)]
mod tests;
