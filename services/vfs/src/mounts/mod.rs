//! The mount table: which tree or foreign file system is seen at which place.
//!
//! A mount that was made inside a foreign file system (cgroup in /sys) has no place in vfs. Its mount point is made in the
//! directory that the foreign file system covers, so that it has a path and a parent, and it is found by the path within the
//! foreign one ([`Mounts::beneath_foreign`]).

pub mod options;

use std::collections::{BTreeMap, HashMap};

use bulkhead_ipc::{Errno, vfs::ForeignFs};

use crate::tree::{DentryId, FsId};

/// A place in the mount tree: a dentry as seen through a mount.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The mount's id.
    pub mount: u32,
    /// The dentry.
    pub dentry: DentryId,
}

/// What a mount shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A part of a file system of vfs.
    Tree {
        /// Which.
        fs: FsId,
        /// Its topmost dentry that is seen.
        root: DentryId,
    },
    /// A file system of the sentry's.
    Foreign {
        /// Which.
        fs: ForeignFs,
        /// The path in it that is seen.
        inner: Vec<u8>,
    },
}

/// A mount.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Its id, as in mountinfo.
    pub id: u32,
    /// Where it is mounted; `None` for the root.
    pub parent: Option<Place>,
    /// What it shows.
    pub target: Target,
    /// ST_* flags.
    pub flags: u32,
    /// Device number, as mountinfo shows it.
    pub device: u64,
    /// As mountinfo shows it.
    pub fstype: String,
    /// As mountinfo shows it.
    pub source: String,
    /// As mountinfo shows it.
    pub options: String,
}

/// What is seen at a place when mounts are entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A dentry.
    Tree(Place),
    /// The root of a foreign mount, by id.
    Foreign(u32),
}

/// A place within a foreign mount: the mount's id, and the names that lead there.
pub type InForeign = (u32, Names);

/// The names of a path.
type Names = Vec<Vec<u8>>;

/// Mounts that a guest can have at most.
const LIMIT: usize = 4096;

/// The table.
#[derive(Debug, Default)]
pub struct Mounts {
    mounts: BTreeMap<u32, Mount>,
    /// What is mounted on a place.
    covered: HashMap<Place, u32>,
    /// Mounts within foreign mounts, by path.
    inside: HashMap<u32, Vec<(Names, u32)>>,
    last: u32,
    /// Dentries that became mount points or ceased to be ones since somebody asked; `None` if nothing changed at all.
    changed: Option<Vec<DentryId>>,
}

impl Mounts {
    /// Adds a mount. `inside` says that its parent lies beneath a foreign mount, at this path.
    pub fn add(&mut self, mut mount: Mount, inside: Option<InForeign>) -> Result<u32, Errno> {
        if self.mounts.len() >= LIMIT {
            return Err(Errno::ENOSPC);
        }
        self.last += 1;
        let id = self.last;
        mount.id = id;
        self.note(mount.parent);
        match (inside, mount.parent) {
            (Some((foreign, path)), _) => self.inside.entry(foreign).or_default().push((path, id)),
            (None, Some(place)) => {
                self.covered.insert(place, id);
            }
            (None, None) => {}
        }
        self.mounts.insert(id, mount);
        Ok(id)
    }

    fn note(&mut self, place: Option<Place>) {
        self.changed.get_or_insert_default().extend(place.map(|place| place.dentry));
    }

    /// Whether the table changed since the last call, and if so, which dentries something may be mounted on now or no more.
    pub fn take_changed(&mut self) -> Option<Vec<DentryId>> {
        self.changed.take()
    }

    /// Whether a mount lies within a foreign one, so that no dentry leads to it.
    pub fn is_hidden(&self, id: u32) -> bool {
        self.inside.values().flatten().any(|(_, mount)| *mount == id)
    }

    /// A mount by id.
    pub fn get(&self, id: u32) -> Result<&Mount, Errno> {
        self.mounts.get(&id).ok_or(Errno::EINVAL)
    }

    /// A mount by id.
    pub fn get_mut(&mut self, id: u32) -> Result<&mut Mount, Errno> {
        self.note(None);
        self.mounts.get_mut(&id).ok_or(Errno::EINVAL)
    }

    /// All mounts, in the order in which they were made.
    pub fn all(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.values()
    }

    /// Enters what is mounted on a place, to the topmost mount.
    pub fn enter(&self, mut place: Place) -> Seen {
        while let Some(&id) = self.covered.get(&place) {
            match self.mounts.get(&id).map(|mount| &mount.target) {
                Some(Target::Tree { root, .. }) => place = Place { mount: id, dentry: *root },
                Some(Target::Foreign { .. }) => return Seen::Foreign(id),
                None => break,
            }
        }
        Seen::Tree(place)
    }

    /// Whether something is mounted on this dentry, through any mount.
    pub fn is_mountpoint(&self, dentry: DentryId) -> bool {
        self.covered.keys().any(|place| place.dentry == dentry)
    }

    /// Whether something is mounted on or beneath a mount.
    pub fn has_children(&self, id: u32) -> bool {
        self.mounts.values().any(|mount| mount.parent.is_some_and(|parent| parent.mount == id)) || self.inside.contains_key(&id)
    }

    /// The mount at or above `path` within a foreign mount, and what is left of the path.
    pub fn beneath_foreign(&self, foreign: u32, path: &[u8]) -> Option<(u32, Vec<u8>)> {
        let inside = self.inside.get(&foreign)?;
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
        let fits =
            |mountpoint: &[Vec<u8>]| mountpoint.len() <= parts.len() && mountpoint.iter().zip(&parts).all(|(a, b)| &a[..] == *b);
        let (mountpoint, id) = inside.iter().rev().filter(|(path, _)| fits(path)).max_by_key(|(path, _)| path.len())?;
        Some((*id, parts[mountpoint.len()..].join(&b'/')))
    }

    /// Takes a mount out of the tree.
    pub fn remove(&mut self, id: u32) -> Option<Mount> {
        let mount = self.mounts.remove(&id)?;
        self.note(mount.parent);
        if let Some(place) = mount.parent
            && self.covered.get(&place) == Some(&id)
        {
            self.covered.remove(&place);
        }
        self.inside.retain(|_, inside| {
            inside.retain(|(_, mount)| *mount != id);
            !inside.is_empty()
        });
        Some(mount)
    }

    /// Moves a mount to another place.
    pub fn relocate(&mut self, id: u32, place: Place) -> Result<(), Errno> {
        let old = self.get(id)?.parent;
        if let Some(old) = old
            && self.covered.get(&old) == Some(&id)
        {
            self.covered.remove(&old);
        }
        self.note(old);
        self.note(Some(place));
        self.covered.insert(place, id);
        self.get_mut(id)?.parent = Some(place);
        Ok(())
    }
}
