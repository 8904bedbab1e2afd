//! The requests. Each is a few lines that walk, check who may, and tell the tree.

mod change;
mod create;
mod inspect;
mod mount;
mod open;
mod remove;

use std::{os::fd::OwnedFd, sync::Arc};

use bulkhead_ipc::{
    Errno,
    vfs::{At, Attributes, Caller, Reply, Request},
};

use crate::{
    gofer::Gofer,
    mounts::Place,
    permissions::permit,
    tree::InodeId,
    walk::{Stop, Walked},
    world::{ST_RDONLY, World},
};

/// How often a request is carried out anew for want of handles or fds: other threads may take what was given back.
const RETRIES: usize = 3;

/// A reply and the fd that goes with it.
pub type Answer = (Reply, Option<Arc<OwnedFd>>);

impl World {
    /// Answers a request.
    pub fn answer(&mut self, gofer: &mut Gofer, request: &Request) -> Answer {
        self.answered += 1;
        let mut fd = None;
        let mut result = self.dispatch(gofer, request, &mut fd);
        // There are no more of the gofer's handles, or of our own fds. Nothing was changed then (a file that gets none is not made),
        // so that the request can be carried out anew when some were given back.
        for _ in 0..RETRIES {
            if !matches!(result, Err((Stop::Errno(Errno::ENFILE), _))) || !self.tree.give_handles_back() {
                break;
            }
            gofer.close_dropped(true);
            result = self.dispatch(gofer, request, &mut fd);
        }
        let reply = match result {
            Ok(reply) => reply,
            Err((Stop::Errno(errno), _)) => Reply::Error(errno),
            Err((Stop::Foreign(place), second)) => Reply::Foreign { place, second },
        };
        self.tree.trim();
        self.published.update(&mut self.tree, &mut self.mounts);
        gofer.close_dropped(false);
        (reply, fd)
    }

    fn dispatch(&mut self, gofer: &mut Gofer, request: &Request, fd: &mut Option<Arc<OwnedFd>>) -> Result<Reply, (Stop, bool)> {
        let first = |stop: Stop| (stop, false);
        let done = |result: Walked<()>| result.map(|()| Reply::Done).map_err(first);
        let plain = |result: Result<Reply, Errno>| result.map_err(|errno| (Stop::Errno(errno), false));
        match request {
            Request::Lookup { at, directory } => self.look_up(gofer, at, *directory).map_err(first),
            Request::Open { at, flags, mode, execute } => {
                let (reply, opened) = self.open(gofer, at, *flags, *mode, *execute).map_err(first)?;
                *fd = opened;
                Ok(reply)
            }
            Request::Reopen { node, flags } => {
                let (reply, opened) = self.reopen(gofer, *node, *flags).map_err(|errno| (Stop::Errno(errno), false))?;
                *fd = opened;
                Ok(reply)
            }
            Request::Stat { at } => self.stat(gofer, at).map_err(first),
            Request::Access { at, mode } => done(self.access(gofer, at, *mode)),
            Request::Readlink { at } => self.read_link(gofer, at).map_err(first),
            Request::Mkdir { at, mode } => {
                let mode = libc::S_IFDIR | (mode & 0o1777);
                done(self.make(gofer, at, mode, 0, b""))
            }
            Request::Mknod { at, mode, device } => done(self.make_node(gofer, at, *mode, *device)),
            Request::Symlink { at, target } => done(self.make_symlink(gofer, at, target)),
            Request::Link { from, to } => self.link(gofer, from, to).map(|()| Reply::Done),
            Request::Unlink { at, directory } => done(self.unlink(gofer, at, *directory)),
            Request::Rename { from, to, flags } => self.rename(gofer, from, to, *flags).map(|()| Reply::Done),
            Request::Chmod { at, mode } => done(self.chmod(gofer, at, *mode)),
            Request::Chown { at, uid, gid } => done(self.chown(gofer, at, *uid, *gid)),
            Request::SetTimes { at, accessed, modified } => done(self.set_times(gofer, at, *accessed, *modified)),
            Request::Truncate { at, size } => done(self.truncate(gofer, at, *size)),
            Request::GetXattr { at, name } => self.get_xattr(gofer, at, name).map_err(first),
            Request::SetXattr { at, name, value, flags } => done(self.set_xattr(gofer, at, name, Some(value), *flags)),
            Request::ListXattr { at } => self.list_xattrs(gofer, at).map_err(first),
            Request::RemoveXattr { at, name } => done(self.set_xattr(gofer, at, name, None, 0)),
            Request::Statfs { at } => self.statistics(gofer, at).map_err(first),
            Request::ReadDir { node, cookie, space } => plain(self.read_directory(gofer, *node, *cookie, *space)),
            Request::PathOf { node, root } => {
                let places = self.nodes.place(*node).and_then(|node| Ok((node, self.nodes.place(*root)?)));
                plain(places.and_then(|(node, root)| self.path_of(node, root)).map(Reply::Bytes))
            }
            Request::Remember { node } => plain(self.nodes.remember(*node).map(|()| Reply::Done)),
            Request::Forget { nodes } => {
                for node in nodes {
                    self.nodes.forget(&mut self.tree, *node);
                }
                Ok(Reply::Done)
            }
            Request::SetLock { node, lock } => plain(self.locks(*node).and_then(|locks| locks.set(*lock)).map(|()| Reply::Done)),
            Request::GetLock { node, lock } => plain(self.locks(*node).map(|locks| Reply::Lock(locks.get(lock)))),
            Request::DropLocks { node, family, owner } => {
                plain(self.locks(*node).map(|locks| locks.drop_owner(*family, *owner)).map(|()| Reply::Done))
            }
            Request::Mounts { root } => plain(self.mount_table(*root)),
            Request::Sync { node } => plain(self.sync(gofer, *node)),
            Request::Mount { source, at, fstype, flags, options } => {
                self.mount(gofer, source.as_ref(), at, fstype, *flags, options).map(|()| Reply::Done)
            }
            Request::Unmount { at, flags } => done(self.unmount(gofer, at, *flags)),
            Request::Publication => {
                let (reply, region) = self.publication().map_err(|errno| (Stop::Errno(errno), false))?;
                *fd = region;
                Ok(reply)
            }
        }
    }

    /// Inode and attributes of a place, as kept here.
    fn inode(&self, place: Place) -> Result<(InodeId, Attributes), Errno> {
        let inode = self.tree.inode_of(place.dentry)?;
        Ok((inode, self.tree.inodes[inode].attributes))
    }

    /// EROFS on a read-only mount.
    fn check_writable(&self, place: Place) -> Result<(), Errno> {
        if self.mounts.get(place.mount)?.flags & ST_RDONLY != 0 { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// EACCES unless the caller may do what `wanted` says to the file at a place.
    fn permit(&self, caller: &Caller, place: Place, wanted: u32) -> Result<(), Errno> {
        permit(caller, &self.inode(place)?.1, wanted)
    }

    /// The place and inode of a path that is about to be changed.
    fn resolve_to_change(&mut self, gofer: &mut Gofer, at: &At) -> Walked<(Place, InodeId, Attributes)> {
        let place = self.resolve(gofer, at)?;
        self.check_writable(place)?;
        let (inode, attributes) = self.inode(place)?;
        Ok((place, inode, attributes))
    }
}

/// A file's type.
fn kind(attributes: &Attributes) -> u32 {
    attributes.mode & libc::S_IFMT
}
