//! open(2).

use std::{os::fd::OwnedFd, sync::Arc};

use bulkhead_ipc::{
    Errno,
    vfs::{At, NodeId, Reply},
};

use super::kind;
use crate::{
    gofer::Gofer,
    mounts::Place,
    permissions::{READ, WRITE, owns, permit_execution},
    tree::FsKind,
    walk::{End, Last, Walk, Walked},
    world::World,
};

/// O_* as the protocol carries them.
#[derive(Clone, Copy)]
struct Flags(u32);

impl Flags {
    fn has(self, flag: i32) -> bool {
        self.0 & flag.cast_unsigned() == flag.cast_unsigned()
    }
    /// O_RDONLY, O_WRONLY or O_RDWR.
    fn access(self) -> u32 {
        match self.0 & libc::O_ACCMODE.cast_unsigned() {
            // 3 is for ioctl only on Linux, and needs both permissions.
            3 => libc::O_RDWR.cast_unsigned(),
            access => access,
        }
    }
    /// Permissions that opening needs.
    fn wanted(self) -> u32 {
        let access = match self.access().cast_signed() {
            libc::O_RDONLY => READ,
            libc::O_WRONLY => WRITE,
            _ => READ | WRITE,
        };
        if self.has(libc::O_TRUNC) { access | WRITE } else { access }
    }
}

type Opened = (Reply, Option<Arc<OwnedFd>>);

impl World {
    pub(super) fn open(&mut self, gofer: &mut Gofer, at: &At, flags: u32, mode: u32, execute: bool) -> Walked<Opened> {
        let flags = Flags(flags);
        if flags.has(libc::O_TMPFILE) {
            return self.open_nameless(gofer, at, flags, mode);
        }
        if !flags.has(libc::O_CREAT) {
            let place = self.resolve(gofer, at)?;
            return Ok(self.open_place(gofer, at, place, flags, execute)?);
        }
        let mut walk = Walk::new(self, at)?;
        let follow = at.follow && !flags.has(libc::O_EXCL);
        loop {
            let last = match walk.to_last(self, gofer)? {
                End::Place(_) if flags.has(libc::O_EXCL) => return Err(Errno::EEXIST.into()),
                End::Place(place) if at.path.is_empty() => return Ok(self.open_place(gofer, at, place, flags, execute)?),
                End::Place(_) => return Err(Errno::EISDIR.into()),
                End::Name(last) => last,
            };
            if last.slash {
                return Err(Errno::EISDIR.into());
            }
            if walk.look_up(self, gofer, last.parent, &last.name)?.is_none() {
                return Ok(self.create(gofer, at, &last, flags, mode)?);
            }
            if flags.has(libc::O_EXCL) {
                return Err(Errno::EEXIST.into());
            }
            if let Some(place) = walk.finish(self, gofer, &last, follow)? {
                return Ok(self.open_place(gofer, at, place, flags, execute)?);
            }
        }
    }

    /// A new regular file.
    fn create(&mut self, gofer: &mut Gofer, at: &At, last: &Last, flags: Flags, mode: u32) -> Result<Opened, Errno> {
        if flags.has(libc::O_DIRECTORY) {
            return Err(Errno::EINVAL);
        }
        let mode = libc::S_IFREG | (mode & 0o7777);
        let parent = last.parent;
        if self.tree.kind(parent.dentry) == FsKind::Gofer && !self.is_virtual(parent) {
            let (owner, mode) = self.permit_creation(&at.caller, parent, mode)?;
            let (directory, held) = self.host_directory(parent)?;
            let (found, fd) = gofer.create(&held, &last.name, mode, owner, flags.access())?;
            let dentry = self.tree.enter_direct(parent.dentry, directory, &last.name, found)?;
            return self.opened(gofer, Place { mount: parent.mount, dentry }, true, Some(Arc::new(fd)));
        }
        let place = self.add_file(&at.caller, parent, &last.name, mode, 0, b"")?;
        let (inode, _) = self.inode(place)?;
        match self.tree.open_content(gofer, inode, libc::O_RDWR.cast_unsigned(), false) {
            Ok(fd) => self.opened(gofer, place, true, Some(fd)),
            Err(errno) => {
                // A file that cannot be opened is not made.
                self.tree.remove_name(place.dentry)?;
                Err(errno)
            }
        }
    }

    /// O_TMPFILE: a file in a directory's file system without a name.
    fn open_nameless(&mut self, gofer: &mut Gofer, at: &At, flags: Flags, mode: u32) -> Walked<Opened> {
        let parent = self.resolve(gofer, at)?;
        if self.tree.kind(parent.dentry) == FsKind::Gofer {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if flags.access() == libc::O_RDONLY.cast_unsigned() {
            return Err(Errno::EINVAL.into());
        }
        if kind(&self.inode(parent)?.1) != libc::S_IFDIR {
            return Err(Errno::ENOTDIR.into());
        }
        let ((uid, gid), mode) = self.permit_creation(&at.caller, parent, libc::S_IFREG | (mode & 0o7777))?;
        let dentry = self.tree.add_nameless(parent.dentry, mode, uid, gid)?;
        let (inode, _) = self.inode(Place { mount: parent.mount, dentry })?;
        // Without a name it lives as long as somebody holds it.
        self.tree.hold(dentry);
        let fd = self.tree.open_content(gofer, inode, flags.access(), false);
        let opened = fd.and_then(|fd| self.opened(gofer, Place { mount: parent.mount, dentry }, true, Some(fd)));
        self.tree.release(dentry);
        Ok(opened?)
    }

    fn open_place(&mut self, gofer: &mut Gofer, at: &At, place: Place, flags: Flags, execute: bool) -> Result<Opened, Errno> {
        let (inode, attributes) = self.inode(place)?;
        let kind = kind(&attributes);
        let wanted = flags.wanted();
        match kind {
            libc::S_IFLNK => return Err(Errno::ELOOP),
            libc::S_IFDIR if wanted & WRITE != 0 || flags.has(libc::O_CREAT) => return Err(Errno::EISDIR),
            libc::S_IFDIR => {}
            _ if flags.has(libc::O_DIRECTORY) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        if execute {
            permit_execution(&at.caller, &attributes, self.mounts.get(place.mount)?.flags)?;
        } else {
            self.permit(&at.caller, place, wanted)?;
        }
        if wanted & WRITE != 0 && kind == libc::S_IFREG {
            self.check_writable(place)?;
        }
        if flags.has(libc::O_NOATIME) && !owns(&at.caller, &attributes) {
            return Err(Errno::EPERM);
        }
        let fd = if kind == libc::S_IFREG {
            Some(self.tree.open_content(gofer, inode, flags.access(), flags.has(libc::O_TRUNC))?)
        } else {
            None
        };
        self.opened(gofer, place, false, fd)
    }

    pub(super) fn reopen(&mut self, gofer: &mut Gofer, node: NodeId, flags: u32) -> Result<Opened, Errno> {
        let place = self.nodes.place(node)?;
        let (inode, attributes) = self.inode(place)?;
        let flags = Flags(flags);
        let fd = match kind(&attributes) {
            libc::S_IFREG => {
                if flags.wanted() & WRITE != 0 {
                    self.check_writable(place)?;
                }
                Some(self.tree.open_content(gofer, inode, flags.access(), false)?)
            }
            _ => None,
        };
        self.opened(gofer, place, false, fd)
    }

    fn opened(&mut self, gofer: &mut Gofer, place: Place, created: bool, fd: Option<Arc<OwnedFd>>) -> Result<Opened, Errno> {
        let attributes = self.attributes(gofer, place)?;
        let published = self.published.show(&mut self.tree, place.dentry);
        let node = self.nodes.refer(&mut self.tree, place);
        let inode = self.tree.inode_of(place.dentry)?;
        let in_memory = fd.is_some() && self.tree.is_in_memory(inode);
        if in_memory {
            self.tree.lend(inode);
        }
        Ok((Reply::Opened { node, attributes, created, has_fd: fd.is_some(), published, in_memory }, fd))
    }
}
