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
    cached::{Cache, Found},
    special::{EXECUTE, Link, SpecialPlace, permit},
    vfs::{NodeHandle, unexpected},
    walk::{self, Ending, Ground, Lead},
};
use crate::{abi::FdNumber, task::Thread};

/// Links followed in one walk, after which it is a loop.
pub const MAX_LINKS: u32 = 40;

pub use super::walk::PATH_MAX;

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

fn count_link(links: &mut u32) -> Result<(), Errno> {
    *links += 1;
    if *links > MAX_LINKS { Err(Errno::ELOOP) } else { Ok(()) }
}

/// Where a magic link leads outside special file systems.
enum Away {
    Vfs(Arc<NodeHandle>),
    File(Arc<OpenFile>),
}

/// Special file systems as the ground of a walk.
struct Special<'t> {
    thread: &'t Thread,
    no_magic_links: bool,
}

impl Special<'_> {
    fn magic(&self, location: &Location) -> Lead<Arc<SpecialPlace>, Away> {
        match location {
            Location::Vfs(handle) => Lead::Outside(Away::Vfs(handle.clone())),
            Location::Special(place) => Lead::Place(place.clone()),
        }
    }
}

impl Ground for Special<'_> {
    type Place = Arc<SpecialPlace>;
    type Outside = Away;

    fn search(&self, place: &Arc<SpecialPlace>) -> Result<(), Errno> {
        let attributes = place.attributes(self.thread)?;
        if attributes.mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        permit(&self.thread.credentials(), &attributes, EXECUTE)
    }
    fn is_directory(&self, place: &Arc<SpecialPlace>) -> Result<bool, Errno> {
        place.is_directory(self.thread)
    }
    fn is_link(&self, place: &Arc<SpecialPlace>) -> Result<bool, Errno> {
        Ok(place.node.mode(self.thread)? & libc::S_IFMT == libc::S_IFLNK)
    }
    fn parent(&self, place: &Arc<SpecialPlace>) -> Option<Arc<SpecialPlace>> {
        place.parent.clone()
    }
    fn child(&self, place: &Arc<SpecialPlace>, name: &[u8]) -> Result<Arc<SpecialPlace>, Errno> {
        place.child(self.thread, name)
    }
    fn follow(&self, place: &Arc<SpecialPlace>) -> Result<Lead<Arc<SpecialPlace>, Away>, Errno> {
        match place.node.follow(self.thread)? {
            Link::Text(text) => Ok(Lead::Text(text)),
            _ if self.no_magic_links => Err(Errno::ELOOP),
            Link::Place(location) => Ok(self.magic(&location)),
            Link::File(file) => Ok(match &file.location {
                Some(location) => self.magic(location),
                None => Lead::Outside(Away::File(file)),
            }),
        }
    }
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
        count_link(&mut self.links)?;
        let root = SpecialPlace::enter(self.thread, foreign)?;
        self.special(root, foreign.rest.clone(), follow)
    }

    /// Walks `path` through a special file system from `place`.
    fn special(&mut self, place: Arc<SpecialPlace>, path: Vec<u8>, follow: bool) -> Result<Target, Errno> {
        let (mut place, mut path) = (place, path);
        loop {
            let ground = Special { thread: self.thread, no_magic_links: self.no_magic_links };
            let links = &mut self.links;
            match walk::walk(&ground, place, path, follow, || count_link(links))? {
                Ending::At(place) => return Ok(Target::Special(place)),
                Ending::Above(place, rest) => match &place.mount.mountpoint {
                    Some(mountpoint) => return Ok(self.vfs(&Location::Vfs(mountpoint.clone()), rest, follow)),
                    None => return Err(Errno::ENOENT),
                },
                Ending::Root(rest) => match self.root.clone() {
                    root @ Location::Vfs(_) => return Ok(self.vfs(&root, rest, follow)),
                    Location::Special(root) => (place, path) = (root, rest),
                },
                Ending::Outside(Away::Vfs(handle), rest) => return Ok(self.vfs(&Location::Vfs(handle), rest, follow)),
                Ending::Outside(Away::File(file), rest) if rest.is_empty() => return Ok(Target::File(file)),
                Ending::Outside(Away::File(_), _) => return Err(Errno::ENOTDIR),
            }
        }
    }

    /// What vfs lets everybody see.
    pub fn cache(&self) -> &'t Cache {
        &self.thread.kernel.vfs.cache
    }

    /// Where a target is, without asking vfs; `None` if vfs has to be asked.
    pub fn look(&self, target: &Target) -> Option<Result<Found, Errno>> {
        let spot = |location: &Location| match location {
            Location::Vfs(handle) => handle.spot,
            Location::Special(_) => None,
        };
        match target {
            Target::Vfs { at, base: Some(base) } => {
                self.cache().walk(&at.caller, spot(&self.root)?, spot(base)?, &at.path, at.follow)
            }
            _ => None,
        }
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
                Reply::Foreign { place, second: true } => {
                    // That the new name is not there yet is not what is wrong with it: it is in another file system.
                    let entered = self.enter(&place, to_at.follow);
                    to = entered.map_err(|errno| if errno == Errno::ENOENT { Errno::EXDEV } else { errno })?;
                }
                other => return Err(unexpected(&other)),
            }
        }
    }
}

/// stat(2) of a target.
pub fn stat(walk: &mut Walk<'_>, target: Target) -> Result<Attributes, Errno> {
    match walk.look(&target) {
        Some(Ok(found)) => {
            if let Some(attributes) = walk.cache().attributes(&found) {
                return Ok(attributes);
            }
        }
        Some(Err(errno)) => return Err(errno),
        None => {}
    }
    match walk.ask(target, |at| Request::Stat { at })? {
        Answer::Vfs(Reply::Attributes(attributes), _) => Ok(attributes),
        Answer::Vfs(other, _) => Err(unexpected(&other)),
        Answer::Special(place) => place.attributes(walk.thread),
        Answer::File(file) => file.ops.attributes(walk.thread),
    }
}

/// The place that a target is, and its attributes, without opening it (chdir, O_PATH).
pub fn locate(walk: &mut Walk<'_>, target: Target, directory: bool) -> Result<(Location, Attributes), Errno> {
    if let Some(Ok(found)) = walk.look(&target)
        && let Some(handle) = walk.cache().node(found.spot)
        && let Some(attributes) = walk.cache().attributes(&found)
    {
        let is_directory = attributes.mode & libc::S_IFMT == libc::S_IFDIR;
        return if directory && !is_directory { Err(Errno::ENOTDIR) } else { Ok((Location::Vfs(handle), attributes)) };
    }
    match walk.ask(target, |at| Request::Lookup { at, directory })? {
        Answer::Vfs(Reply::Node { node, attributes, published }, _) => {
            let handle = walk.thread.kernel.vfs.handle_at(node, published, attributes.mount);
            walk.thread.kernel.vfs.cache.keep(&handle, None);
            Ok((Location::Vfs(handle), attributes))
        }
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
