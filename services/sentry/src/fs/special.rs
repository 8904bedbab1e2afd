//! File systems that are views of the sentry's own state (proc, sysfs, devpts, …): what their nodes implement, and the walk
//! through them. Where a walk in vfs enters one of them, vfs hands over the rest of the path, and [`Walk::special`](super::path)
//! goes on here: through the nodes, and back into vfs by `..` above the mount, by an absolute link, or by a magic link.
//!
//! A file system implements [`SpecialNode`] for its nodes and gives its root in [`crate::procfs::root`]; everything else
//! (permissions, directories' streams, links, `.` and `..`) is done here.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::{
    Errno,
    vfs::{
        Attributes, DirEntry, Foreign, ForeignFs, FsStatistics, NodeId, Timestamp,
        permissions::{self, Asker},
    },
};
use parking_lot::Mutex;

pub use bulkhead_ipc::vfs::permissions::{EXECUTE, READ, WRITE};

use super::{FileOps, Location, Offset, OpenFile, UserBuffers, regular::path_of, vfs::NodeHandle};
use crate::task::{Credentials, Thread};

/// Where a link of a special file system leads.
pub enum Link {
    /// To a path, from the directory that holds the link.
    Text(Vec<u8>),
    /// To a place, whatever its path is (/proc/self/cwd, /proc/self/root, /proc/self/exe).
    Place(Location),
    /// To an open file (/proc/self/fd/3): to its location if it has one, otherwise to the object itself.
    File(Arc<OpenFile>),
}

/// An entry of a special directory, without `.` and `..`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpecialEntry {
    /// Name.
    pub name: Vec<u8>,
    /// Inode number, as its attributes have it.
    pub inode: u64,
    /// DT_*.
    pub kind: u8,
}

/// A file, directory or link of a special file system. Nodes are made by `lookup` and live as long as somebody holds them; two
/// of the same thing have the same inode number.
pub trait SpecialNode: Send + Sync {
    /// stat(2)'s fields. `device`, `mount` and `mount_flags` are filled in by the caller; what is 0 of `links`, `block_size`
    /// and the times gets a default.
    fn attributes(&self, thread: &Thread) -> Result<Attributes, Errno>;
    /// Type and permission bits; override it where that is cheaper than all attributes.
    fn mode(&self, thread: &Thread) -> Result<u32, Errno> {
        Ok(self.attributes(thread)?.mode)
    }
    /// An open file for a node that is no directory and no link. `flags` are O_*; permission bits were checked.
    fn open(self: Arc<Self>, thread: &Thread, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        let _ = (thread, flags);
        Err(Errno::ENXIO)
    }
    /// A directory's entry; ENOENT.
    fn lookup(&self, thread: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        let _ = (thread, name);
        Err(Errno::ENOTDIR)
    }
    /// All entries of a directory.
    fn entries(&self, thread: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let _ = thread;
        Err(Errno::ENOTDIR)
    }
    /// What readlink(2) of a link says.
    fn readlink(&self, thread: &Thread) -> Result<Vec<u8>, Errno> {
        let _ = thread;
        Err(Errno::EINVAL)
    }
    /// Where a link leads when it is followed; the text that it reads as, unless it is a magic one.
    fn follow(&self, thread: &Thread) -> Result<Link, Errno> {
        self.readlink(thread).map(Link::Text)
    }
    /// chmod(2).
    fn set_mode(&self, thread: &Thread, mode: u32) -> Result<(), Errno> {
        let _ = (thread, mode);
        Err(Errno::EPERM)
    }
    /// chown(2); `None` keeps.
    fn set_owner(&self, thread: &Thread, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let _ = (thread, uid, gid);
        Err(Errno::EPERM)
    }
    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
}

/// One mount of a special file system.
pub struct SpecialMount {
    /// Which file system.
    pub fs: ForeignFs,
    /// The mount's id.
    pub id: u32,
    /// ST_*.
    pub flags: u32,
    /// The directory in vfs it is mounted on; `None` in tests only, where `..` stops.
    pub mountpoint: Option<Arc<NodeHandle>>,
}

/// A file or directory in a special file system, and how it was reached.
pub struct SpecialPlace {
    /// The node.
    pub node: Arc<dyn SpecialNode>,
    /// Its directory; `None` at the mount's root.
    pub parent: Option<Arc<SpecialPlace>>,
    /// Its name there.
    pub name: Vec<u8>,
    /// The mount.
    pub mount: Arc<SpecialMount>,
}

/// st_dev of a special file system.
pub fn device(fs: ForeignFs) -> u64 {
    20 + match fs {
        ForeignFs::Proc => 0,
        ForeignFs::Sysfs => 1,
        ForeignFs::Devpts => 2,
        ForeignFs::Mqueue => 3,
        ForeignFs::Cgroup => 4,
    }
}

impl SpecialPlace {
    /// The root of the mount that a walk entered; the rest of the path is still to be walked.
    pub fn enter(thread: &Thread, foreign: &Foreign) -> Result<Arc<SpecialPlace>, Errno> {
        let mount = Arc::new(SpecialMount {
            fs: foreign.fs,
            id: foreign.mount,
            flags: foreign.mount_flags,
            mountpoint: Some(thread.kernel.vfs.handle(foreign.mountpoint)),
        });
        let mut node = crate::procfs::root(thread, foreign.fs).ok_or(Errno::ENODEV)?;
        // A bind mount of a part of the file system is rooted within it.
        for name in foreign.inner.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            node = node.lookup(thread, name)?;
        }
        Ok(Arc::new(SpecialPlace { node, parent: None, name: Vec::new(), mount }))
    }

    /// The entry `name` (not `.` or `..`).
    pub fn child(self: &Arc<Self>, thread: &Thread, name: &[u8]) -> Result<Arc<SpecialPlace>, Errno> {
        if name.len() > 255 {
            return Err(Errno::ENAMETOOLONG);
        }
        let node = self.node.lookup(thread, name)?;
        Ok(Arc::new(SpecialPlace { node, parent: Some(self.clone()), name: name.to_vec(), mount: self.mount.clone() }))
    }

    /// stat(2).
    pub fn attributes(&self, thread: &Thread) -> Result<Attributes, Errno> {
        let mut attributes = self.node.attributes(thread)?;
        attributes.device = device(self.mount.fs);
        attributes.mount = self.mount.id;
        attributes.mount_flags = self.mount.flags;
        attributes.links = attributes.links.max(1);
        if attributes.block_size == 0 {
            attributes.block_size = 1024;
        }
        let now = super::ownership::wall_clock();
        for time in [&mut attributes.accessed, &mut attributes.modified, &mut attributes.changed] {
            if *time == Timestamp::default() {
                *time = now;
            }
        }
        Ok(attributes)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self, thread: &Thread) -> Result<bool, Errno> {
        Ok(self.node.mode(thread)? & libc::S_IFMT == libc::S_IFDIR)
    }

    /// Its path as seen from `root`, for getcwd(2) and /proc/self/fd.
    pub fn path(&self, root: NodeId) -> Vec<u8> {
        let mut path = match (&self.parent, &self.mount.mountpoint) {
            (Some(parent), _) => parent.path(root),
            (None, Some(mountpoint)) => path_of(mountpoint, root).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        if !self.name.is_empty() {
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(&self.name);
        }
        path
    }

    /// Opens what this place is, which is no link. `flags` are O_* of open(2).
    pub fn open(self: &Arc<Self>, thread: &Thread, flags: u32) -> Result<Arc<OpenFile>, Errno> {
        let attributes = self.attributes(thread)?;
        let (reads, writes) = match flags as i32 & libc::O_ACCMODE {
            libc::O_RDONLY => (true, false),
            libc::O_WRONLY => (false, true),
            _ => (true, true),
        };
        let wanted = if reads { READ } else { 0 } | if writes { WRITE } else { 0 };
        let directory = attributes.mode & libc::S_IFMT == libc::S_IFDIR;
        if directory && (writes || flags & libc::O_CREAT as u32 != 0) {
            return Err(Errno::EISDIR);
        }
        if !directory && flags & libc::O_DIRECTORY as u32 != 0 {
            return Err(Errno::ENOTDIR);
        }
        if writes && self.mount.flags & libc::ST_RDONLY as u32 != 0 {
            return Err(Errno::EROFS);
        }
        permit(&thread.credentials(), &attributes, wanted)?;
        let ops: Arc<dyn FileOps> = match directory {
            true => Arc::new(SpecialDirectory { place: self.clone(), entries: Mutex::default() }),
            false => self.node.clone().open(thread, flags)?,
        };
        Ok(OpenFile::new(ops, flags | super::open::O_LARGEFILE as u32, Some(Location::Special(self.clone()))))
    }

    /// statfs(2).
    pub fn statistics(&self) -> FsStatistics {
        let magic = match self.mount.fs {
            ForeignFs::Proc => 0x9fa0,
            ForeignFs::Sysfs => 0x6265_6572,
            ForeignFs::Devpts => 0x1cd1,
            ForeignFs::Mqueue => 0x1980_0202,
            ForeignFs::Cgroup => 0x6367_7270,
        };
        FsStatistics { magic, block_size: 4096, name_length: 255, flags: self.mount.flags as u64, ..Default::default() }
    }
}

/// Checks permission bits as path_resolution(7) says; EACCES.
pub fn permit(credentials: &Credentials, attributes: &Attributes, wanted: u32) -> Result<(), Errno> {
    let asker = Asker {
        uid: credentials.fsuid,
        gid: credentials.fsgid,
        groups: &credentials.groups,
        capabilities: credentials.capabilities.effective,
    };
    permissions::permit(asker, attributes, wanted)
}

/// An open special directory. Its entries are taken as they were when it was read from the start.
struct SpecialDirectory {
    place: Arc<SpecialPlace>,
    entries: Mutex<Vec<DirEntry>>,
}

impl SpecialDirectory {
    fn snapshot(&self, thread: &Thread) -> Result<Vec<DirEntry>, Errno> {
        let own = self.place.attributes(thread)?.inode;
        let parent = match &self.place.parent {
            Some(parent) => parent.attributes(thread)?.inode,
            None => own,
        };
        let dots = [(own, &b"."[..]), (parent, b"..")].map(|(inode, name)| SpecialEntry {
            name: name.to_vec(),
            inode,
            kind: libc::DT_DIR,
        });
        let all = dots.into_iter().chain(self.place.node.entries(thread)?).enumerate();
        Ok(all.map(|(n, e)| DirEntry { inode: e.inode, next: n as u64 + 1, kind: e.kind, name: e.name }).collect())
    }
}

impl FileOps for SpecialDirectory {
    fn read(&self, _: &OpenFile, _: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: i32) -> Result<u64, Errno> {
        super::directory::seek_directory(file, offset, whence)
    }

    fn attributes(&self, thread: &Thread) -> Result<Attributes, Errno> {
        self.place.attributes(thread)
    }

    fn read_directory(&self, thread: &Thread, file: &OpenFile, emit: &mut dyn FnMut(&DirEntry) -> bool) -> Result<(), Errno> {
        let mut position = file.position.lock();
        let mut entries = self.entries.lock();
        if *position == 0 || entries.is_empty() {
            *entries = self.snapshot(thread)?;
        }
        for entry in entries.iter().skip(usize::try_from(*position).unwrap_or(usize::MAX)) {
            if !emit(entry) {
                break;
            }
            *position = entry.next;
        }
        Ok(())
    }

    fn describe(&self) -> Vec<u8> {
        self.place.path(NodeId::ROOT)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
