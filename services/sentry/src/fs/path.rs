//! Paths: where a guest's path leads.
//!
//! vfs walks what is on mounts. This module turns a guest's (directory fd, path) into a request's [`At`], and goes on by
//! itself where a walk enters a special file system, until it ends there or comes back to vfs.
//!
//! Invariant: at most [`MAX_LINKS`] links are followed here, and as many returns to vfs are made, so every walk ends.

use std::{os::fd::OwnedFd, sync::Arc};

use bulkhead_ipc::{
    Errno,
    vfs::{At, Attributes, Caller, Foreign, NodeId, Reply, Request},
};

use super::{
    Location, OpenFile,
    special::{EXECUTE, Link, SpecialPlace, permit},
    vfs::unexpected,
};
use crate::{abi::FdNumber, task::Thread};

/// Links followed in one walk, after which it is a loop.
pub const MAX_LINKS: u32 = 40;

/// PATH_MAX, with the NUL.
pub const PATH_MAX: usize = 4096;

/// Where a path led so far.
#[derive(Clone)]
pub enum Target {
    /// Into vfs, which has to walk the path of `at`. `_base` keeps `at.base` alive.
    Vfs {
        /// The rest of the way.
        at: At,
        /// Holds `at.base`.
        base: Option<Location>,
    },
    /// To the end, in a special file system.
    Special(Arc<SpecialPlace>),
    /// To an open file that has no place (a pipe behind /proc/self/fd).
    File(Arc<OpenFile>),
}

/// What came of a request about a path.
pub enum Answer {
    /// vfs carried it out.
    Vfs(Reply, Option<OwnedFd>),
    /// The path leads here, and what was asked is the sentry's to do.
    Special(Arc<SpecialPlace>),
    /// See [`Target::File`].
    File(Arc<OpenFile>),
}

/// One walk on behalf of a thread.
pub struct Walk<'t> {
    thread: &'t Thread,
    /// Who walks.
    pub caller: Caller,
    /// The root that absolute paths and `..` stop at.
    pub root: Location,
    /// Magic links are refused (RESOLVE_NO_MAGICLINKS).
    pub no_magic_links: bool,
    links: u32,
}

/// Who a thread is for permission checks on files.
pub fn caller(thread: &Thread) -> Caller {
    let credentials = thread.credentials();
    Caller {
        uid: credentials.fsuid,
        gid: credentials.fsgid,
        groups: credentials.groups.clone(),
        capabilities: credentials.capabilities.effective,
    }
}

/// The location of a directory fd, or of the working directory.
pub fn directory(thread: &Thread, fd: FdNumber) -> Result<Location, Errno> {
    if fd == FdNumber::WORKING_DIRECTORY {
        return Ok(thread.fs().directory.read().clone());
    }
    thread.files().get(fd)?.location.clone().ok_or(Errno::ENOTDIR)
}

impl<'t> Walk<'t> {
    /// A walk with the thread's own credentials and root.
    pub fn new(thread: &'t Thread) -> Walk<'t> {
        let root = thread.fs().root.read().clone();
        Walk { thread, caller: caller(thread), root, no_magic_links: false, links: 0 }
    }

    fn root_node(&self) -> NodeId {
        match &self.root {
            Location::Vfs(handle) => handle.node,
            Location::Special(_) => NodeId::ROOT,
        }
    }

    /// Where (`fd`, `path`) leads. An empty path is ENOENT, unless `empty` says that it means the fd itself (AT_EMPTY_PATH).
    pub fn resolve(&mut self, fd: FdNumber, path: &[u8], follow: bool, empty: bool) -> Result<Target, Errno> {
        if path.is_empty() {
            if !empty {
                return Err(Errno::ENOENT);
            }
            if fd == FdNumber::WORKING_DIRECTORY {
                return Ok(self.here(&directory(self.thread, fd)?));
            }
            return Ok(self.file(&self.thread.files().get(fd)?));
        }
        let base = if path[0] == b'/' { self.root.clone() } else { directory(self.thread, fd)? };
        self.from(&base, path.to_vec(), follow)
    }

    /// What an open file is, as a target: its place, or itself.
    pub fn file(&self, file: &Arc<OpenFile>) -> Target {
        match &file.location {
            Some(location) => self.here(location),
            None => Target::File(file.clone()),
        }
    }

    /// A place itself.
    pub fn here(&self, location: &Location) -> Target {
        match location {
            Location::Vfs(_) => self.vfs(location, Vec::new(), false),
            Location::Special(place) => Target::Special(place.clone()),
        }
    }

    fn vfs(&self, base: &Location, path: Vec<u8>, follow: bool) -> Target {
        let node = match base {
            Location::Vfs(handle) => handle.node,
            Location::Special(_) => NodeId::ROOT,
        };
        let at = At { caller: self.caller.clone(), root: self.root_node(), base: node, path, follow };
        Target::Vfs { at, base: Some(base.clone()) }
    }

    /// `path` (not empty) from `base`.
    fn from(&mut self, base: &Location, path: Vec<u8>, follow: bool) -> Result<Target, Errno> {
        match base {
            Location::Vfs(_) => Ok(self.vfs(base, path, follow)),
            Location::Special(place) => self.special(place.clone(), path, follow),
        }
    }

    /// Goes on where a walk left vfs.
    fn enter(&mut self, foreign: &Foreign, follow: bool) -> Result<Target, Errno> {
        self.count_link()?;
        let root = SpecialPlace::enter(self.thread, foreign)?;
        self.special(root, foreign.rest.clone(), follow)
    }

    fn count_link(&mut self) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS { Err(Errno::ELOOP) } else { Ok(()) }
    }

    /// Walks `path` through a special file system from `place`.
    fn special(&mut self, mut place: Arc<SpecialPlace>, mut path: Vec<u8>, follow: bool) -> Result<Target, Errno> {
        loop {
            let start = path.iter().take_while(|&&byte| byte == b'/').count();
            let name_end = path[start..].iter().position(|&byte| byte == b'/').map_or(path.len(), |n| start + n);
            let (name, rest) = (path[start..name_end].to_vec(), path[name_end..].to_vec());
            if name.is_empty() {
                return match start > 0 && !place.is_directory(self.thread)? {
                    true => Err(Errno::ENOTDIR),
                    false => Ok(Target::Special(place)),
                };
            }
            let attributes = place.attributes(self.thread)?;
            if attributes.mode & libc::S_IFMT != libc::S_IFDIR {
                return Err(Errno::ENOTDIR);
            }
            permit(&self.thread.credentials(), &attributes, EXECUTE)?;
            match &name[..] {
                b"." => {}
                b".." => match (&place.parent, &place.mount.mountpoint) {
                    (Some(parent), _) => place = parent.clone(),
                    (None, Some(mountpoint)) => {
                        let path = [b"..", &rest[..]].concat();
                        return Ok(self.vfs(&Location::Vfs(mountpoint.clone()), path, follow));
                    }
                    (None, None) => {}
                },
                name => {
                    let child = place.child(self.thread, name)?;
                    let link = child.node.mode(self.thread)? & libc::S_IFMT == libc::S_IFLNK;
                    if !link || (rest.is_empty() && !follow) {
                        place = child;
                    } else {
                        self.count_link()?;
                        match child.node.follow(self.thread)? {
                            Link::Text(text) => {
                                if text.is_empty() {
                                    return Err(Errno::ENOENT);
                                }
                                let path_on = [&text[..], &rest[..]].concat();
                                if path_on.len() >= PATH_MAX {
                                    return Err(Errno::ENAMETOOLONG);
                                }
                                if text[0] == b'/' {
                                    let root = self.root.clone();
                                    match root {
                                        Location::Vfs(_) => return Ok(self.vfs(&root, path_on, follow)),
                                        Location::Special(root) => place = root,
                                    }
                                }
                                path = path_on;
                                continue;
                            }
                            _ if self.no_magic_links => return Err(Errno::ELOOP),
                            Link::Place(location) => match self.jump(&location, &rest, follow) {
                                Ok(target) => return Ok(target),
                                Err(on) => place = on,
                            },
                            Link::File(file) => match &file.location {
                                Some(location) => match self.jump(location, &rest, follow) {
                                    Ok(target) => return Ok(target),
                                    Err(on) => place = on,
                                },
                                None if rest.is_empty() => return Ok(Target::File(file)),
                                None => return Err(Errno::ENOTDIR),
                            },
                        }
                    }
                }
            }
            path = rest;
        }
    }

    /// Follows a magic link to `location` with `rest` of the path: the target in vfs, or the special place to go on from.
    fn jump(&self, location: &Location, rest: &[u8], follow: bool) -> Result<Target, Arc<SpecialPlace>> {
        if let Location::Special(place) = location {
            return Err(place.clone());
        }
        let slashes = rest.iter().take_while(|&&byte| byte == b'/').count();
        let path = match &rest[slashes..] {
            b"" if slashes > 0 => b".".to_vec(),
            path => path.to_vec(),
        };
        Ok(self.vfs(location, path, follow))
    }

    /// Carries out a request about one path. `make` may be called several times.
    pub fn ask(&mut self, mut target: Target, make: impl Fn(At) -> Request) -> Result<Answer, Errno> {
        loop {
            match target {
                Target::Special(place) => return Ok(Answer::Special(place)),
                Target::File(file) => return Ok(Answer::File(file)),
                Target::Vfs { at, base } => {
                    let follow = at.follow;
                    match self.thread.kernel.vfs.call(&make(at))? {
                        (Reply::Foreign { place, second: false }, _) => target = self.enter(&place, follow)?,
                        (reply, fd) => return Ok(Answer::Vfs(reply, fd)),
                    }
                    drop(base);
                }
            }
        }
    }

    /// Carries out a request about two paths, whose answer is `Done`; EXDEV when they are not both in vfs, EPERM when neither is.
    pub fn ask_two(&mut self, mut from: Target, mut to: Target, make: impl Fn(At, At) -> Request) -> Result<(), Errno> {
        loop {
            let (from_at, to_at) = match (&from, &to) {
                (Target::Vfs { at: from, .. }, Target::Vfs { at: to, .. }) => (from.clone(), to.clone()),
                (Target::Vfs { .. }, _) | (_, Target::Vfs { .. }) => return Err(Errno::EXDEV),
                _ => return Err(Errno::EPERM),
            };
            match self.thread.kernel.vfs.call(&make(from_at.clone(), to_at.clone()))?.0 {
                Reply::Done => return Ok(()),
                Reply::Foreign { place, second: false } => from = self.enter(&place, from_at.follow)?,
                Reply::Foreign { place, second: true } => to = self.enter(&place, to_at.follow)?,
                other => return Err(unexpected(&other)),
            }
        }
    }
}

/// stat(2) of a target.
pub fn stat(walk: &mut Walk<'_>, target: Target) -> Result<Attributes, Errno> {
    match walk.ask(target, |at| Request::Stat { at })? {
        Answer::Vfs(Reply::Attributes(attributes), _) => Ok(attributes),
        Answer::Vfs(other, _) => Err(unexpected(&other)),
        Answer::Special(place) => place.attributes(walk.thread),
        Answer::File(file) => file.ops.attributes(walk.thread),
    }
}

/// The place that a target is, and its attributes, without opening it (chdir, O_PATH).
pub fn locate(walk: &mut Walk<'_>, target: Target, directory: bool) -> Result<(Location, Attributes), Errno> {
    match walk.ask(target, |at| Request::Lookup { at, directory })? {
        Answer::Vfs(Reply::Node { node, attributes }, _) => Ok((Location::Vfs(walk.thread.kernel.vfs.handle(node)), attributes)),
        Answer::Vfs(other, _) => Err(unexpected(&other)),
        Answer::Special(place) => {
            let attributes = place.attributes(walk.thread)?;
            if directory && attributes.mode & libc::S_IFMT != libc::S_IFDIR {
                return Err(Errno::ENOTDIR);
            }
            Ok((Location::Special(place), attributes))
        }
        Answer::File(_) => Err(if directory { Errno::ENOTDIR } else { Errno::ENXIO }),
    }
}
