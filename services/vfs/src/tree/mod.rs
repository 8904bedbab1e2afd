//! The tree: file systems made of dentries (names) and inodes (what they name).
//!
//! There are three kinds of file system, and one tree for all of them.
//!
//! - **Memory** (tmpfs): the tree is all there is.
//! - **Overlay**: a writable layer in memory over a lower directory of the gofer's. The lower layer does not change while the
//!   sandbox lives, so the tree may keep what it learnt of it for as long as it likes. A directory's children are looked up in
//!   the lower directory on demand; a name that is not there, and a name that was deleted here (a *whiteout*), are dentries
//!   without an inode. *Copy-up* changes an inode in place ([`Inode::upper`], [`Content::Memory`]): its number, its dentries and
//!   its locks stay, so nobody sees it happen. Directories are addressed by the gofer's handle and not by path, so a lower
//!   directory can be renamed like any other.
//! - **Gofer**: served directly. Others may change it, so each lookup asks the gofer; the tree only gives names to what the
//!   sentry holds. Mount points that had to be made where nothing may be written are *virtual*: memory inodes that exist only here.
//!
//! **Invariants.** A dentry is kept while somebody holds it ([`Dentry::holds`]: nodes of the sentry, mounts, its children) or it
//! is in its parent's directory. A dentry holds its parent, an inode lives as long as a dentry names it. Only what can be found
//! again on the host in the same place ([`Dentry::cached`]) is evicted.

pub mod arena;
mod attributes;
mod cache;
mod content;
mod directory;
mod lookup;

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, VecDeque},
    os::fd::OwnedFd,
    sync::Arc,
    time::Instant,
};

use arena::{Arena, Key};
use bulkhead_ipc::{Errno, vfs::Attributes};

use crate::{gofer::Held, host, locks::Locks};

/// Names a dentry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DentryId(u32);

/// Names an inode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InodeId(u32);

/// Names a file system.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FsId(usize);

impl Key for DentryId {
    fn new(index: u32) -> Self {
        DentryId(index)
    }
    fn index(self) -> usize {
        self.0 as usize
    }
}

impl Key for InodeId {
    fn new(index: u32) -> Self {
        InodeId(index)
    }
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Kinds of file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FsKind {
    /// tmpfs.
    Memory,
    /// Memory over a lower layer.
    Overlay,
    /// Served by the gofer directly.
    Gofer,
}

/// A file system.
#[derive(Debug)]
pub struct Filesystem {
    /// Its kind.
    pub kind: FsKind,
    /// Its device number.
    pub device: u64,
    /// Bytes of memory that its files may have.
    pub bytes: u64,
    /// Inodes that it may have in memory.
    pub inodes: u64,
    /// Inodes that it has in memory.
    pub inodes_used: u64,
    next_number: u64,
    /// When it was seen last to be less than full.
    had_room: Option<Instant>,
    /// Non-directories that are on the host, so that hard links meet in one inode.
    by_host: HashMap<(u64, u64), InodeId>,
    /// Devices of the host that were seen beneath it; inode numbers of the second and further ones are moved apart.
    host_devices: Vec<u64>,
}

/// A name.
#[derive(Debug)]
pub struct Dentry {
    /// Its file system.
    pub fs: FsId,
    /// The directory it is or was in; `None` for a file system's root.
    pub parent: Option<DentryId>,
    /// The name.
    pub name: Box<[u8]>,
    /// What it names.
    pub state: DentryState,
    /// Its place in the order in which its directory is read; 0 as long as the directory was not read.
    cookie: u64,
    /// Who needs it.
    pub holds: u32,
    /// It was unlinked.
    pub deleted: bool,
    /// The lower layer has this name in this directory.
    in_lower: bool,
    /// It can be found again on the host.
    pub cached: bool,
    /// It exists only here, in a directory that is the gofer's.
    pub is_virtual: bool,
    /// Somebody came by since the cache last looked.
    touched: Cell<bool>,
}

/// What a dentry names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DentryState {
    /// An inode.
    Inode(InodeId),
    /// Nothing: it is not in the lower layer or, with `whiteout`, was deleted here.
    Absent {
        /// The lower layer has it.
        whiteout: bool,
    },
    /// Something in the lower layer that was only seen in a listing yet.
    Listed {
        /// Its inode number.
        number: u64,
        /// DT_*.
        kind: u8,
    },
}

/// A file of any type.
#[derive(Debug)]
pub struct Inode {
    /// Its file system.
    pub fs: FsId,
    /// Attributes; of a memory file size and times are those of the memfd, see [`Tree::current_attributes`].
    pub attributes: Attributes,
    /// What is in it.
    pub body: Body,
    /// Where it is on the host, if it is.
    pub origin: Option<Origin>,
    /// Its attributes are those here, and not those of the host.
    pub upper: bool,
    /// Extended attributes; `None` while they are only on the host.
    pub xattrs: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Advisory locks.
    pub locks: Locks,
    /// Attributes were just read from the host.
    fresh: bool,
    /// Nodes of the sentry that are of this file.
    nodes: u32,
    /// The sentry may have the memory file: it, and not what is here, says what size and times are.
    lent: bool,
    /// Dentries that name it.
    dentries: u32,
}

/// What is in a file.
#[derive(Debug)]
pub enum Body {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(Content),
    /// A symbolic link's target.
    Symlink(Vec<u8>),
    /// A FIFO, socket or device.
    Special,
}

/// A regular file's contents.
#[derive(Debug)]
pub enum Content {
    /// Nothing yet, in memory.
    Empty,
    /// In memory.
    Memory(Arc<OwnedFd>),
    /// On the host; with an fd for reading once somebody read it (overlay only).
    Host(Option<Arc<OwnedFd>>),
}

/// A directory's children as far as they are known.
#[derive(Debug)]
pub struct Directory {
    children: HashMap<Box<[u8]>, DentryId>,
    /// By cookie.
    listing: BTreeMap<u64, DentryId>,
    next_cookie: u64,
    /// No name that is not in `children` exists.
    complete: bool,
}

/// Where an inode is on the host.
#[derive(Debug)]
pub struct Origin {
    /// Its handle.
    pub held: Arc<Held>,
    /// The directory and name it can be opened by; a root that is a single file has itself and no name.
    pub directory: Arc<Held>,
    /// See `directory`.
    pub name: Vec<u8>,
    /// Device and inode number on the host.
    key: (u64, u64),
}

/// Cookies of names in memory; those of the lower layer's listing lie beneath, those for `.` and `..` beneath those.
const MEMORY_COOKIES: u64 = 1 << 32;

/// Numbers of new inodes in an overlay start here, above those that hosts use.
const MEMORY_NUMBERS: u64 = 1 << 40;

impl Directory {
    fn new(complete: bool) -> Directory {
        Directory { children: HashMap::new(), listing: BTreeMap::new(), next_cookie: MEMORY_COOKIES, complete }
    }
}

/// All file systems.
#[derive(Debug, Default)]
pub struct Tree {
    /// Names.
    pub dentries: Arena<DentryId, Dentry>,
    /// Files.
    pub inodes: Arena<InodeId, Inode>,
    filesystems: Vec<Filesystem>,
    clock: VecDeque<DentryId>,
}

/// Who a new file belongs to and what it is.
#[derive(Clone, Debug)]
pub struct NewFile<'a> {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub device: u64,
    /// Target of a symbolic link.
    pub target: &'a [u8],
}

impl Tree {
    /// A new, empty file system.
    pub fn add_filesystem(&mut self, kind: FsKind, bytes: u64, inodes: u64) -> FsId {
        let id = FsId(self.filesystems.len());
        self.filesystems.push(Filesystem {
            kind,
            device: libc::makedev(0, 32 + id.0 as u32),
            bytes,
            inodes,
            inodes_used: 0,
            had_room: None,
            next_number: if kind == FsKind::Memory { 1 } else { MEMORY_NUMBERS },
            by_host: HashMap::new(),
            host_devices: Vec::new(),
        });
        id
    }

    /// A file system.
    pub fn filesystem(&self, fs: FsId) -> &Filesystem {
        &self.filesystems[fs.0]
    }

    fn filesystem_mut(&mut self, fs: FsId) -> &mut Filesystem {
        &mut self.filesystems[fs.0]
    }

    /// All file systems.
    pub fn all_filesystems(&self) -> impl Iterator<Item = FsId> + use<> {
        (0..self.filesystems.len()).map(FsId)
    }

    /// Kind of the file system a dentry is in.
    pub fn kind(&self, dentry: DentryId) -> FsKind {
        self.filesystem(self.dentries[dentry].fs).kind
    }

    /// Whether the file is served by the gofer directly.
    pub fn is_direct(&self, inode: InodeId) -> bool {
        let inode = &self.inodes[inode];
        self.filesystem(inode.fs).kind == FsKind::Gofer && inode.origin.is_some()
    }

    /// The inode of a dentry that has one.
    pub fn inode_of(&self, dentry: DentryId) -> Result<InodeId, Errno> {
        match self.dentries[dentry].state {
            DentryState::Inode(inode) => Ok(inode),
            _ => Err(Errno::ENOENT),
        }
    }

    /// A dentry without a parent: the root of a file system.
    pub fn add_root(&mut self, fs: FsId, inode: InodeId) -> DentryId {
        self.inodes[inode].dentries += 1;
        self.dentries.insert(Dentry {
            fs,
            parent: None,
            name: Box::default(),
            state: DentryState::Inode(inode),
            cookie: 0,
            holds: 1,
            deleted: false,
            in_lower: false,
            cached: false,
            is_virtual: false,
            touched: Cell::new(true),
        })
    }

    /// A new inode in memory; ENOSPC when the file system has no more.
    pub fn new_inode(&mut self, fs: FsId, new: &NewFile<'_>) -> Result<InodeId, Errno> {
        let filesystem = self.filesystem_mut(fs);
        if filesystem.inodes_used >= filesystem.inodes {
            return Err(Errno::ENOSPC);
        }
        filesystem.inodes_used += 1;
        let number = filesystem.next_number;
        filesystem.next_number += 1;
        let device = filesystem.device;
        let now = host::now();
        let (body, links, size) = match new.mode & libc::S_IFMT {
            libc::S_IFDIR => (Body::Directory(Directory::new(true)), 2, 0),
            libc::S_IFLNK => (Body::Symlink(new.target.to_vec()), 1, new.target.len() as u64),
            libc::S_IFREG => (Body::File(Content::Empty), 1, 0),
            _ => (Body::Special, 1, 0),
        };
        Ok(self.inodes.insert(Inode {
            fs,
            attributes: Attributes {
                device,
                inode: number,
                mode: new.mode,
                links,
                uid: new.uid,
                gid: new.gid,
                special_device: new.device,
                size,
                blocks: 0,
                block_size: 4096,
                accessed: now,
                modified: now,
                changed: now,
                created: now,
                mount: 0,
                mount_flags: 0,
            },
            body,
            origin: None,
            upper: true,
            xattrs: Some(BTreeMap::new()),
            locks: Locks::default(),
            fresh: true,
            nodes: 0,
            lent: false,
            dentries: 0,
        }))
    }

    /// One more who needs the dentry.
    pub fn hold(&mut self, dentry: DentryId) {
        self.dentries[dentry].holds += 1;
    }

    /// One less.
    pub fn release(&mut self, dentry: DentryId) {
        let entry = &mut self.dentries[dentry];
        entry.holds = entry.holds.saturating_sub(1);
        if entry.holds == 0 && entry.deleted {
            self.free(dentry);
        }
    }

    /// Frees a dentry that nobody needs and that is in no directory, and with it what only it kept.
    fn free(&mut self, dentry: DentryId) {
        let mut next = Some(dentry);
        while let Some(dentry) = next.take() {
            let Some(freed) = self.dentries.remove(dentry) else { return };
            if let DentryState::Inode(inode) = freed.state {
                self.drop_inode_reference(inode);
            }
            if let Some(parent) = freed.parent {
                let entry = &mut self.dentries[parent];
                entry.holds = entry.holds.saturating_sub(1);
                if entry.holds == 0 && entry.deleted {
                    next = Some(parent);
                }
            }
        }
    }

    fn drop_inode_reference(&mut self, id: InodeId) {
        let inode = &mut self.inodes[id];
        inode.dentries -= 1;
        if inode.dentries > 0 {
            return;
        }
        let Some(inode) = self.inodes.remove(id) else { return };
        let filesystem = self.filesystem_mut(inode.fs);
        match &inode.origin {
            Some(origin) if filesystem.by_host.get(&origin.key) == Some(&id) => {
                filesystem.by_host.remove(&origin.key);
            }
            Some(_) => {}
            None => filesystem.inodes_used = filesystem.inodes_used.saturating_sub(1),
        }
    }
}
