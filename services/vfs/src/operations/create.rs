//! Requests that make names.

use std::sync::Arc;

use bulkhead_ipc::{
    Errno,
    vfs::{At, Caller},
};

use super::kind;
use crate::{
    gofer::{Gofer, Held},
    mounts::Place,
    permissions::{Capability, EXECUTE, READ, WRITE, has, in_group, owns},
    tree::{FsKind, InodeId, NewFile},
    walk::{End, Last, Stop, Walk, Walked},
    world::World,
};

impl World {
    /// Whether a place is a directory that exists only here, in a file system of the gofer's.
    pub(super) fn is_virtual(&self, place: Place) -> bool {
        self.tree.dentries[place.dentry].is_virtual
    }

    /// The inode and the gofer's handle of a directory that is served directly.
    pub(super) fn host_directory(&self, place: Place) -> Result<(InodeId, Arc<Held>), Errno> {
        let (inode, _) = self.inode(place)?;
        match &self.tree.inodes[inode].origin {
            Some(origin) => Ok((inode, origin.held.clone())),
            None => Err(Errno::EROFS),
        }
    }

    /// Whether the caller may make a file in a directory, and whose it will be with which permissions.
    pub(super) fn permit_creation(&self, caller: &Caller, parent: Place, mode: u32) -> Result<((u32, u32), u32), Errno> {
        self.check_writable(parent)?;
        self.permit(caller, parent, WRITE | EXECUTE)?;
        if self.tree.dentries[parent.dentry].deleted {
            return Err(Errno::ENOENT);
        }
        let (_, directory) = self.inode(parent)?;
        let (mut gid, mut mode) = (caller.gid, mode);
        if directory.mode & libc::S_ISGID != 0 {
            gid = directory.gid;
            if mode & libc::S_IFMT == libc::S_IFDIR {
                mode |= libc::S_ISGID;
            } else if mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP
                && !in_group(caller, gid)
                && !has(caller, Capability::Fsetid)
            {
                mode &= !libc::S_ISGID;
            }
        }
        Ok(((caller.uid, gid), mode))
    }

    /// Makes a file of any type in memory.
    pub(super) fn add_file(
        &mut self,
        caller: &Caller,
        parent: Place,
        name: &[u8],
        mode: u32,
        device: u64,
        target: &[u8],
    ) -> Result<Place, Errno> {
        let ((uid, gid), mode) = self.permit_creation(caller, parent, mode)?;
        if self.tree.kind(parent.dentry) == FsKind::Gofer {
            // A virtual directory: only mount points are made in it.
            return Err(Errno::EROFS);
        }
        let fs = self.tree.dentries[parent.dentry].fs;
        let inode = self.tree.new_inode(fs, &NewFile { mode, uid, gid, device, target })?;
        let dentry = self.tree.add_name(parent.dentry, name, inode)?;
        Ok(Place { mount: parent.mount, dentry })
    }

    /// The last name of a path, which must not exist.
    fn resolve_new(&mut self, gofer: &mut Gofer, at: &At, directory: bool) -> Walked<Last> {
        let mut walk = Walk::new(self, at)?;
        let last = match walk.to_last(self, gofer)? {
            End::Place(_) => return Err(if at.path.is_empty() { Errno::ENOENT } else { Errno::EEXIST }.into()),
            End::Name(last) => last,
        };
        if walk.look_up(self, gofer, last.parent, &last.name)?.is_some() {
            return Err(Errno::EEXIST.into());
        }
        if last.slash && !directory {
            return Err(Errno::ENOENT.into());
        }
        Ok(last)
    }

    pub(super) fn make(&mut self, gofer: &mut Gofer, at: &At, mode: u32, device: u64, target: &[u8]) -> Walked<()> {
        let directory = mode & libc::S_IFMT == libc::S_IFDIR;
        let last = self.resolve_new(gofer, at, directory)?;
        let parent = last.parent;
        if self.tree.kind(parent.dentry) == FsKind::Gofer && !self.is_virtual(parent) {
            let (owner, mode) = self.permit_creation(&at.caller, parent, mode)?;
            let (inode, held) = self.host_directory(parent)?;
            let found = gofer.make(&held, &last.name, mode, device, owner, target)?;
            self.tree.enter_direct(parent.dentry, inode, &last.name, found)?;
            return Ok(());
        }
        self.add_file(&at.caller, parent, &last.name, mode, device, target)?;
        Ok(())
    }

    pub(super) fn make_node(&mut self, gofer: &mut Gofer, at: &At, mode: u32, device: u64) -> Walked<()> {
        let mode = match mode & libc::S_IFMT {
            0 => mode | libc::S_IFREG,
            libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK => mode,
            // The whiteout device of overlayfs is the only one that anybody may make; nobody has a use for it here.
            libc::S_IFCHR | libc::S_IFBLK if has(&at.caller, Capability::Mknod) => mode,
            libc::S_IFCHR | libc::S_IFBLK | libc::S_IFDIR => return Err(Errno::EPERM.into()),
            _ => return Err(Errno::EINVAL.into()),
        };
        let special = matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK);
        self.make(gofer, at, mode & (libc::S_IFMT | 0o7777), if special { device } else { 0 }, b"")
    }

    pub(super) fn make_symlink(&mut self, gofer: &mut Gofer, at: &At, target: &[u8]) -> Walked<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(Errno::ENOENT.into());
        }
        self.make(gofer, at, libc::S_IFLNK | 0o777, 0, target)
    }

    /// link(2). The error says whether it was the second path that failed.
    pub(super) fn link(&mut self, gofer: &mut Gofer, from: &At, to: &At) -> Result<(), (Stop, bool)> {
        let old = self.resolve(gofer, from).map_err(|stop| (stop, false))?;
        // The dentry must not be evicted while the second path is walked.
        self.tree.hold(old.dentry);
        let result = self.link_place(gofer, &from.caller, old, to);
        self.tree.release(old.dentry);
        result.map_err(|stop| (stop, true))
    }

    fn link_place(&mut self, gofer: &mut Gofer, caller: &Caller, old: Place, to: &At) -> Walked<()> {
        let (inode, attributes) = self.inode(old)?;
        let last = self.resolve_new(gofer, to, false)?;
        let parent = last.parent;
        if parent.mount != old.mount {
            return Err(Errno::EXDEV.into());
        }
        if kind(&attributes) == libc::S_IFDIR {
            return Err(Errno::EPERM.into());
        }
        // As with fs.protected_hardlinks: others' files only when they are plain and can be read and written.
        let plain = kind(&attributes) == libc::S_IFREG && attributes.mode & libc::S_ISUID == 0;
        let may = owns(caller, &attributes) || (plain && self.permit(caller, old, READ | WRITE).is_ok());
        if !may {
            return Err(Errno::EPERM.into());
        }
        self.permit_creation(caller, parent, attributes.mode)?;
        if self.tree.kind(parent.dentry) == FsKind::Gofer {
            let (directory, held) = self.host_directory(parent)?;
            let origin = self.tree.inodes[inode].origin.as_ref().ok_or(Errno::EXDEV)?;
            let (from, from_name) = (origin.directory.clone(), origin.name.clone());
            gofer.link(&from, &from_name, &held, &last.name)?;
            let (mut found, _) = gofer.walk(&held, vec![last.name.clone()])?;
            if let Some(found) = found.pop() {
                self.tree.enter_direct(parent.dentry, directory, &last.name, found)?;
            }
            return Ok(());
        }
        if attributes.links == 0 && !self.tree.is_nameless(inode) {
            return Err(Errno::ENOENT.into());
        }
        self.tree.add_name(parent.dentry, &last.name, inode)?;
        self.tree.change_links(inode, 1);
        Ok(())
    }
}
