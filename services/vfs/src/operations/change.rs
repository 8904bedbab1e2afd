//! Requests that change a file's attributes.

use bulkhead_ipc::{
    Errno,
    vfs::{At, Attributes, Caller, NodeId, Reply, SetTime},
};

use super::kind;
use crate::{
    gofer::Gofer,
    mounts::Place,
    permissions::{Capability, READ, WRITE, has, in_group, owns},
    tree::FsKind,
    walk::Walked,
    world::World,
};

impl World {
    pub(super) fn chmod(&mut self, gofer: &mut Gofer, at: &At, mode: u32) -> Walked<()> {
        let (_, inode, attributes) = self.resolve_to_change(gofer, at)?;
        if kind(&attributes) == libc::S_IFLNK {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if !owns(&at.caller, &attributes) {
            return Err(Errno::EPERM.into());
        }
        let mut mode = mode & 0o7777;
        if !in_group(&at.caller, attributes.gid) && !has(&at.caller, Capability::Fsetid) {
            mode &= !libc::S_ISGID;
        }
        Ok(self.tree.set_mode(gofer, inode, mode)?)
    }

    pub(super) fn chown(&mut self, gofer: &mut Gofer, at: &At, uid: Option<u32>, gid: Option<u32>) -> Walked<()> {
        let (_, inode, attributes) = self.resolve_to_change(gofer, at)?;
        let caller = &at.caller;
        if !has(caller, Capability::Chown) {
            let keeps_owner = uid.is_none_or(|uid| uid == attributes.uid && caller.uid == uid);
            let may_group =
                gid.is_none_or(|gid| caller.uid == attributes.uid && (gid == attributes.gid || in_group(caller, gid)));
            if !keeps_owner || !may_group {
                return Err(Errno::EPERM.into());
            }
        }
        let mut mode = attributes.mode;
        if kind(&attributes) != libc::S_IFDIR && (uid.is_some() || gid.is_some()) {
            mode &= !libc::S_ISUID;
            if mode & libc::S_IXGRP != 0 {
                mode &= !libc::S_ISGID;
            }
        }
        Ok(self.tree.set_owner(gofer, inode, uid, gid, mode)?)
    }

    pub(super) fn set_times(&mut self, gofer: &mut Gofer, at: &At, accessed: SetTime, modified: SetTime) -> Walked<()> {
        let (place, inode, attributes) = self.resolve_to_change(gofer, at)?;
        if accessed == SetTime::Keep && modified == SetTime::Keep {
            return Ok(());
        }
        let only_now = accessed == SetTime::Now && modified == SetTime::Now;
        if !owns(&at.caller, &attributes) {
            if !only_now {
                return Err(Errno::EPERM.into());
            }
            self.permit(&at.caller, place, WRITE)?;
        }
        Ok(self.tree.set_times(gofer, inode, accessed, modified)?)
    }

    pub(super) fn truncate(&mut self, gofer: &mut Gofer, at: &At, size: u64) -> Walked<()> {
        let place = self.resolve(gofer, at)?;
        let (inode, attributes) = self.inode(place)?;
        match kind(&attributes) {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        self.permit(&at.caller, place, WRITE)?;
        self.check_writable(place)?;
        Ok(self.tree.truncate(gofer, inode, size)?)
    }

    /// Whether the caller may read or write an extended attribute of this name (xattr(7)).
    fn permit_xattr(
        &self,
        caller: &Caller,
        place: Place,
        attributes: &Attributes,
        name: &[u8],
        write: bool,
    ) -> Result<(), Errno> {
        let refused = if write { Errno::EPERM } else { Errno::ENODATA };
        if name.starts_with(b"user.") && name.len() > 5 {
            if ![libc::S_IFREG, libc::S_IFDIR].contains(&kind(attributes)) {
                return Err(refused);
            }
            let sticky = kind(attributes) == libc::S_IFDIR && attributes.mode & libc::S_ISVTX != 0;
            if write && sticky && !owns(caller, attributes) {
                return Err(Errno::EPERM);
            }
            return self.permit(caller, place, if write { WRITE } else { READ });
        }
        if name.starts_with(b"trusted.") {
            return if has(caller, Capability::SysAdmin) { Ok(()) } else { Err(refused) };
        }
        if name.starts_with(b"security.") {
            let capability = if name == b"security.capability" { Capability::Setfcap } else { Capability::SysAdmin };
            return if !write || has(caller, capability) { Ok(()) } else { Err(Errno::EPERM) };
        }
        Err(Errno::EOPNOTSUPP)
    }

    pub(super) fn get_xattr(&mut self, gofer: &mut Gofer, at: &At, name: &[u8]) -> Walked<Reply> {
        let place = self.resolve(gofer, at)?;
        let (inode, attributes) = self.inode(place)?;
        self.permit_xattr(&at.caller, place, &attributes, name, false)?;
        Ok(Reply::Bytes(self.tree.get_xattr(gofer, inode, name)?))
    }

    pub(super) fn list_xattrs(&mut self, gofer: &mut Gofer, at: &At) -> Walked<Reply> {
        let place = self.resolve(gofer, at)?;
        let (inode, _) = self.inode(place)?;
        let mut list = Vec::new();
        for name in self.tree.list_xattrs(gofer, inode)? {
            if !name.starts_with(b"trusted.") || has(&at.caller, Capability::SysAdmin) {
                list.extend_from_slice(&name);
                list.push(0);
            }
        }
        Ok(Reply::Bytes(list))
    }

    pub(super) fn set_xattr(&mut self, gofer: &mut Gofer, at: &At, name: &[u8], value: Option<&[u8]>, flags: u32) -> Walked<()> {
        if name.is_empty() || name.len() > 255 {
            return Err(Errno::ERANGE.into());
        }
        if flags & !(libc::XATTR_CREATE | libc::XATTR_REPLACE).cast_unsigned() != 0 {
            return Err(Errno::EINVAL.into());
        }
        let (place, inode, attributes) = self.resolve_to_change(gofer, at)?;
        self.permit_xattr(&at.caller, place, &attributes, name, true)?;
        Ok(self.tree.set_xattr(gofer, inode, name, value, flags)?)
    }

    /// syncfs(2) of what is on the host; memory has nowhere to go.
    pub(super) fn sync(&mut self, gofer: &mut Gofer, node: Option<NodeId>) -> Result<Reply, Errno> {
        let only = match node {
            Some(node) => Some(self.tree.dentries[self.nodes.place(node)?.dentry].fs),
            None => None,
        };
        let roots = self.mounts.all().filter_map(|mount| match mount.target {
            crate::mounts::Target::Tree { fs, root } => Some((fs, root)),
            crate::mounts::Target::Foreign { .. } => None,
        });
        for (fs, root) in roots {
            if self.tree.filesystem(fs).kind != FsKind::Gofer || only.is_some_and(|only| only != fs) {
                continue;
            }
            let inode = self.tree.inode_of(root)?;
            if let Some(origin) = &self.tree.inodes[inode].origin {
                gofer.sync(&origin.held)?;
            }
        }
        Ok(Reply::Done)
    }
}
