//! Requests that take names away or move them.

use bulkhead_ipc::{
    Errno,
    vfs::{At, Caller},
};

use super::kind;
use crate::{
    gofer::Gofer,
    mounts::Place,
    permissions::{EXECUTE, WRITE, permit_removal},
    tree::{DentryId, FsKind},
    walk::{End, Last, Stop, Walk, Walked},
    world::World,
};

impl World {
    /// Whether the caller may take `child` out of `parent`.
    fn permit_removal(&self, caller: &Caller, parent: Place, child: DentryId) -> Result<(), Errno> {
        self.check_writable(parent)?;
        self.permit(caller, parent, WRITE | EXECUTE)?;
        let directory = self.inode(parent)?.1;
        let file = self.inode(Place { mount: parent.mount, dentry: child })?.1;
        permit_removal(caller, &directory, &file)?;
        if self.tree.dentries[child].is_virtual || self.mounts.is_mountpoint(child) {
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, gofer: &mut Gofer, at: &At, directory: bool) -> Walked<()> {
        let mut walk = Walk::new(self, at)?;
        let last = match walk.to_last(self, gofer)? {
            End::Name(last) => last,
            End::Place(_) if at.path.is_empty() => return Err(Errno::ENOENT.into()),
            End::Place(_) if !directory => return Err(Errno::EISDIR.into()),
            End::Place(_) if at.path.ends_with(b"..") => return Err(Errno::ENOTEMPTY.into()),
            End::Place(_) if at.path.ends_with(b".") => return Err(Errno::EINVAL.into()),
            End::Place(_) => return Err(Errno::EBUSY.into()),
        };
        let parent = last.parent;
        let child = walk.look_up(self, gofer, parent, &last.name)?.ok_or(Errno::ENOENT)?.dentry;
        let (inode, attributes) = self.inode(Place { mount: parent.mount, dentry: child })?;
        let is_directory = kind(&attributes) == libc::S_IFDIR;
        if last.slash && !directory && !is_directory {
            return Err(Errno::ENOTDIR.into());
        }
        self.permit_removal(&at.caller, parent, child)?;
        match (directory, is_directory) {
            (true, false) => return Err(Errno::ENOTDIR.into()),
            (false, true) => return Err(Errno::EISDIR.into()),
            _ => {}
        }
        if self.tree.kind(child) == FsKind::Gofer {
            let (_, held) = self.host_directory(parent)?;
            gofer.unlink(&held, &last.name, directory)?;
            self.tree.forget_direct(child);
            return Ok(());
        }
        if directory && !self.tree.is_empty(gofer, child)? {
            return Err(Errno::ENOTEMPTY.into());
        }
        self.tree.change_links(inode, if directory { -2 } else { -1 });
        self.tree.remove_name(child)?;
        Ok(())
    }

    /// renameat2(2). The error says whether it was the second path that failed.
    pub(super) fn rename(&mut self, gofer: &mut Gofer, from: &At, to: &At, flags: u32) -> Result<(), (Stop, bool)> {
        let known = libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE;
        if flags & !known != 0 || flags & known == known {
            return Err((Errno::EINVAL.into(), false));
        }
        let mut from_walk = Walk::new(self, from).map_err(|errno| (errno.into(), false))?;
        let source = match from_walk.to_last(self, gofer).map_err(|stop| (stop, false))? {
            End::Name(last) => last,
            End::Place(_) => return Err((Errno::EBUSY.into(), false)),
        };
        self.tree.hold(source.parent.dentry);
        let result = self.rename_from(gofer, from, &source, to, flags, &mut from_walk);
        self.tree.release(source.parent.dentry);
        result
    }

    fn rename_from(
        &mut self,
        gofer: &mut Gofer,
        from: &At,
        source: &Last,
        to: &At,
        flags: u32,
        from_walk: &mut Walk<'_>,
    ) -> Result<(), (Stop, bool)> {
        let first = |stop: Stop| (stop, false);
        let second = |stop: Stop| (stop, true);
        let mut to_walk = Walk::new(self, to).map_err(|errno| second(errno.into()))?;
        let target = match to_walk.to_last(self, gofer).map_err(second)? {
            End::Name(last) => last,
            End::Place(_) => return Err(second(Errno::EBUSY.into())),
        };
        if source.parent.mount != target.parent.mount {
            return Err(second(Errno::EXDEV.into()));
        }
        let old = from_walk.look_up(self, gofer, source.parent, &source.name).map_err(first)?;
        let old = old.ok_or_else(|| first(Errno::ENOENT.into()))?.dentry;
        self.tree.hold(old);
        let result = to_walk.look_up(self, gofer, target.parent, &target.name).and_then(|new| {
            Ok(self.rename_found(gofer, &from.caller, (source, old), (&target, new.map(|new| new.dentry)), flags)?)
        });
        self.tree.release(old);
        result.map_err(second)
    }

    fn rename_found(
        &mut self,
        gofer: &mut Gofer,
        caller: &Caller,
        (source, old): (&Last, DentryId),
        (target, new): (&Last, Option<DentryId>),
        flags: u32,
    ) -> Result<(), Errno> {
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        let (old_parent, new_parent) = (source.parent, target.parent);
        let old_is_directory = self.is_directory(old)?;
        if (source.slash || (target.slash && !exchange)) && !old_is_directory {
            return Err(Errno::ENOTDIR);
        }
        if new.is_some() && flags & libc::RENAME_NOREPLACE != 0 {
            return Err(Errno::EEXIST);
        }
        if self.tree.is_above(old, new_parent.dentry) {
            return Err(Errno::EINVAL);
        }
        self.permit_removal(caller, old_parent, old)?;
        if old_is_directory && old_parent != new_parent {
            self.permit(caller, Place { mount: old_parent.mount, dentry: old }, WRITE)?;
        }
        match new {
            None if exchange => return Err(Errno::ENOENT),
            None => {
                self.permit_creation(caller, new_parent, 0)?;
            }
            Some(new) => {
                if self.tree.is_above(new, old_parent.dentry) {
                    return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
                }
                self.permit_removal(caller, new_parent, new)?;
                match (old_is_directory, self.is_directory(new)?) {
                    _ if exchange => {}
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    _ => {}
                }
                if self.tree.inode_of(old)? == self.tree.inode_of(new)? {
                    return Ok(());
                }
            }
        }
        if self.tree.kind(old) == FsKind::Gofer {
            let (_, from) = self.host_directory(old_parent)?;
            let (_, to) = self.host_directory(new_parent)?;
            gofer.rename(&from, &source.name, &to, &target.name, flags)?;
            return self.tree.rename_direct(old, new, new_parent.dentry, &target.name, exchange);
        }
        match new {
            Some(new) if exchange => {
                // Out of the way, across, and back in.
                let aside = [&b"\0exchange "[..], &source.name].concat();
                self.tree.move_name(old, old_parent.dentry, &aside)?;
                self.tree.move_name(new, old_parent.dentry, &source.name)?;
                return self.tree.move_name(old, new_parent.dentry, &target.name);
            }
            Some(new) => {
                if old_is_directory && !self.tree.is_empty(gofer, new)? {
                    return Err(Errno::ENOTEMPTY);
                }
                let inode = self.tree.inode_of(new)?;
                self.tree.change_links(inode, if old_is_directory { -2 } else { -1 });
                self.tree.remove_name(new)?;
            }
            None => {}
        }
        self.tree.move_name(old, new_parent.dentry, &target.name)
    }

    fn is_directory(&self, dentry: DentryId) -> Result<bool, Errno> {
        let inode = self.tree.inode_of(dentry)?;
        Ok(kind(&self.tree.inodes[inode].attributes) == libc::S_IFDIR)
    }
}
