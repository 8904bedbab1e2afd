//! Walking paths (path_resolution(7)).

use bulkhead_ipc::{
    Errno,
    vfs::{At, Caller, Foreign, NodeId},
};

use crate::{
    gofer::Gofer,
    mounts::{Place, Seen, Target},
    permissions::{EXECUTE, permit},
    tree::{Body, InodeId},
    world::World,
};

/// Symbolic links in one walk at most.
const LINK_LIMIT: u32 = 40;
/// NAME_MAX.
const NAME_LIMIT: usize = 255;
/// A path that symbolic links made longer than this is given up.
const PATH_LIMIT: usize = 4095;
/// Names that are looked for ahead.
const AHEAD: usize = 16;

/// Why a walk did not get to its end in vfs.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// It failed.
    Errno(Errno),
    /// It left vfs.
    Foreign(Foreign),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Stop::Errno(errno)
    }
}

/// The result of something that walks.
pub type Walked<T> = Result<T, Stop>;

/// Where a walk ended that was to leave the last name alone.
#[derive(Debug)]
pub enum End {
    /// The path has no last name: it is empty or ends in `.`, `..` or at the root.
    Place(Place),
    /// The last name and its directory (which may be searched).
    Name(Last),
}

/// The last name of a path.
#[derive(Debug)]
pub struct Last {
    /// The directory.
    pub parent: Place,
    /// The name.
    pub name: Vec<u8>,
    /// Slashes follow.
    pub slash: bool,
}

/// A walk in progress.
pub struct Walk<'a> {
    caller: &'a Caller,
    root: Place,
    here: Place,
    rest: Vec<u8>,
    links: u32,
}

impl<'a> Walk<'a> {
    /// At the start of a path.
    pub fn new(world: &World, at: &'a At) -> Result<Walk<'a>, Errno> {
        let root = world.nodes.place(at.root)?;
        let here = if at.path.first() == Some(&b'/') { root } else { world.nodes.place(at.base)? };
        Ok(Walk { caller: &at.caller, root, here, rest: at.path.clone(), links: 0 })
    }

    /// Goes to the last name.
    pub fn to_last(&mut self, world: &mut World, gofer: &mut Gofer) -> Walked<End> {
        if self.rest.is_empty() {
            return Ok(End::Place(self.here));
        }
        loop {
            let start = self.rest.iter().position(|byte| *byte != b'/').unwrap_or(self.rest.len());
            self.rest.drain(..start);
            if self.rest.is_empty() {
                return Ok(End::Place(self.here));
            }
            let end = self.rest.iter().position(|byte| *byte == b'/').unwrap_or(self.rest.len());
            let inode = world.tree.inode_of(self.here.dentry)?;
            if !matches!(world.tree.inodes[inode].body, Body::Directory(_)) {
                return Err(Errno::ENOTDIR.into());
            }
            permit(self.caller, &world.tree.inodes[inode].attributes, EXECUTE)?;
            if end > NAME_LIMIT {
                return Err(Errno::ENAMETOOLONG.into());
            }
            let name: Vec<u8> = self.rest.drain(..end).collect();
            match &name[..] {
                b"." => continue,
                b".." => {
                    self.here = world.above(self.here, self.root)?;
                    continue;
                }
                _ => {}
            }
            if self.rest.iter().all(|byte| *byte == b'/') {
                let slash = !self.rest.is_empty();
                self.rest.clear();
                return Ok(End::Name(Last { parent: self.here, name, slash }));
            }
            let Some(child) = self.look_up(world, gofer, self.here, &name)? else {
                world.show_absent(self.here, &name);
                return Err(Errno::ENOENT.into());
            };
            world.published.show(&mut world.tree, child.dentry);
            let child = self.enter(world, child)?;
            if let Some(target) = link_target(world, child)? {
                self.follow(self.here, target)?;
            } else {
                self.here = child;
            }
        }
    }

    /// Goes to the end, following a symbolic link there if `follow`.
    pub fn to_end(&mut self, world: &mut World, gofer: &mut Gofer, follow: bool) -> Walked<Place> {
        loop {
            let last = match self.to_last(world, gofer)? {
                End::Place(place) => return Ok(place),
                End::Name(last) => last,
            };
            if let Some(place) = self.finish(world, gofer, &last, follow)? {
                return Ok(place);
            }
        }
    }

    /// Looks up the last name. `None` says that it was a symbolic link, which is now what is left to walk.
    pub fn finish(&mut self, world: &mut World, gofer: &mut Gofer, last: &Last, follow: bool) -> Walked<Option<Place>> {
        let Some(child) = self.look_up(world, gofer, last.parent, &last.name)? else {
            world.show_absent(last.parent, &last.name);
            return Err(Errno::ENOENT.into());
        };
        world.published.show(&mut world.tree, child.dentry);
        let child = self.enter(world, child)?;
        if let Some(target) = link_target(world, child)? {
            if follow || last.slash {
                self.follow(last.parent, target)?;
                if last.slash {
                    self.rest.push(b'/');
                }
                return Ok(None);
            }
        } else if last.slash && !is_directory(world, child)? {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(Some(child))
    }

    /// What a name in a directory is, without entering what is mounted on it.
    pub fn look_up(&mut self, world: &mut World, gofer: &mut Gofer, parent: Place, name: &[u8]) -> Walked<Option<Place>> {
        if world.tree.dentries[parent.dentry].deleted {
            return Ok(None);
        }
        let names = self.rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let ahead: Vec<&[u8]> =
            names.take_while(|name| *name != b"." && *name != b".." && name.len() <= NAME_LIMIT).take(AHEAD).collect();
        let child = world.tree.lookup(gofer, parent.dentry, name, &ahead)?;
        Ok(child.map(|dentry| Place { mount: parent.mount, dentry }))
    }

    /// Enters what is mounted on a place; a foreign mount ends the walk.
    fn enter(&mut self, world: &mut World, place: Place) -> Walked<Place> {
        let mut mount = match world.mounts.enter(place) {
            Seen::Tree(entered) => {
                if entered != place {
                    world.published.show(&mut world.tree, entered.dentry);
                }
                return Ok(entered);
            }
            Seen::Foreign(mount) => mount,
        };
        let start = self.rest.iter().position(|byte| *byte != b'/').unwrap_or(self.rest.len());
        self.rest.drain(..start);
        while let Some((inside, rest)) = world.mounts.beneath_foreign(mount, &self.rest) {
            self.rest = rest;
            match world.mounts.get(inside)?.target {
                Target::Tree { root, .. } => return Ok(Place { mount: inside, dentry: root }),
                Target::Foreign { .. } => mount = inside,
            }
        }
        let found = world.mounts.get(mount)?;
        let Target::Foreign { fs, inner } = &found.target else { return Err(Errno::EIO.into()) };
        let rest = std::mem::take(&mut self.rest);
        if rest.len() > PATH_LIMIT {
            return Err(Errno::ENAMETOOLONG.into());
        }
        let (fs, inner, mount_flags) = (*fs, inner.clone(), found.flags);
        let parent = found.parent.ok_or(Errno::EIO)?;
        let mountpoint: NodeId = world.nodes.refer(&mut world.tree, parent);
        Err(Stop::Foreign(Foreign { fs, mount, mount_flags, inner, mountpoint, rest }))
    }

    /// Puts a symbolic link's target in front of what is left.
    fn follow(&mut self, directory: Place, target: Vec<u8>) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINK_LIMIT {
            return Err(Errno::ELOOP);
        }
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() + self.rest.len() > PATH_LIMIT {
            return Err(Errno::ENAMETOOLONG);
        }
        self.here = if target[0] == b'/' { self.root } else { directory };
        let rest = std::mem::replace(&mut self.rest, target);
        self.rest.extend(rest);
        Ok(())
    }
}

/// Where a symbolic link points.
fn link_target(world: &World, place: Place) -> Result<Option<Vec<u8>>, Errno> {
    let inode = world.tree.inode_of(place.dentry)?;
    match &world.tree.inodes[inode].body {
        Body::Symlink(target) => Ok(Some(target.clone())),
        _ => Ok(None),
    }
}

fn is_directory(world: &World, place: Place) -> Result<bool, Errno> {
    let inode: InodeId = world.tree.inode_of(place.dentry)?;
    Ok(matches!(world.tree.inodes[inode].body, Body::Directory(_)))
}

impl World {
    /// Publishes that a name does not exist.
    fn show_absent(&mut self, parent: Place, name: &[u8]) {
        if let Some(absent) = self.tree.note_absent(parent.dentry, name) {
            self.published.show(&mut self.tree, absent);
        }
    }

    /// The place of a path.
    pub fn resolve(&mut self, gofer: &mut Gofer, at: &At) -> Walked<Place> {
        Walk::new(self, at)?.to_end(self, gofer, at.follow)
    }

    /// The directory above, which ends at `root` and steps out of mounts.
    pub fn above(&self, mut here: Place, root: Place) -> Result<Place, Errno> {
        loop {
            if here == root {
                return Ok(here);
            }
            let mount = self.mounts.get(here.mount)?;
            if matches!(mount.target, Target::Tree { root, .. } if root == here.dentry) {
                match mount.parent {
                    Some(parent) => here = parent,
                    None => return Ok(here),
                }
                continue;
            }
            let Some(parent) = self.tree.dentries[here.dentry].parent else { return Ok(here) };
            let parent = Place { mount: here.mount, dentry: parent };
            return Ok(match self.mounts.enter(parent) {
                Seen::Tree(place) => place,
                Seen::Foreign(_) => parent,
            });
        }
    }

    /// The path of a place as seen from `root`; " (deleted)" and "(unreachable)" as getcwd(2) and /proc say it.
    pub fn path_of(&self, place: Place, root: Place) -> Result<Vec<u8>, Errno> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut here = place;
        let mut deleted = false;
        let mut reachable = true;
        while here != root {
            let mount = self.mounts.get(here.mount)?;
            if matches!(mount.target, Target::Tree { root, .. } if root == here.dentry) {
                match mount.parent {
                    Some(parent) => here = parent,
                    None => {
                        reachable = false;
                        break;
                    }
                }
                continue;
            }
            let dentry = &self.tree.dentries[here.dentry];
            deleted |= dentry.deleted;
            let Some(parent) = dentry.parent else {
                reachable = false;
                break;
            };
            names.push(&dentry.name);
            here.dentry = parent;
        }
        let mut path = if reachable { Vec::new() } else { b"(unreachable)".to_vec() };
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if names.is_empty() {
            path.push(b'/');
        }
        if deleted {
            path.extend_from_slice(b" (deleted)");
        }
        Ok(path)
    }
}
