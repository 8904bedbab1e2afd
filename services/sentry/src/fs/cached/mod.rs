//! What vfs lets the sentry see without asking: names and attributes in a published region, and files that were opened lately.
//!
//! Everything here may answer "I do not know" (`None`), and then vfs is asked. What it does answer is what vfs would have answered:
//! a call that changed something has changed the region before it came back. The region is read as an allegation: records are
//! copied out and checked, a walk is bounded by the length of its path and the number of links, and nonsense leads to wrong answers
//! for this sandbox's guests at worst.
//!
//! What the gofer serves directly (bind mounts) is not in the region, because others than this sandbox may change it at any time.
//!
//! | module | what it owns |
//! |---|---|
//! | [`walk`] | paths through published names |
//! | [`recent`] | nodes and fds of files that were opened lately |

mod recent;
mod walk;

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bulkhead_ipc::{
    Errno,
    published::{Inode, Key, Mount, Reader},
    vfs::{Attributes, Caller, FileStatus, permissions::permit_access},
};
use parking_lot::{Mutex, RwLock};

use self::recent::Recent;
use super::{host_io, vfs::NodeHandle};

/// A place: a dentry as seen through a mount.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Spot {
    /// The mount's id.
    pub mount: u32,
    /// The dentry.
    pub dentry: Key,
}

/// Where a walk led.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The place.
    pub spot: Spot,
    /// The file; of one that is lent, see [`Cache::attributes`].
    pub inode: Inode,
    /// ST_* flags of the mount.
    pub mount_flags: u32,
}

/// How often the cache knew the answer.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions answered here.
    pub hits: AtomicU64,
    /// Questions that vfs had to be asked.
    pub misses: AtomicU64,
}

/// The mount table as it was published last.
#[derive(Default)]
struct MountTable {
    version: u64,
    mounts: Vec<Mount>,
}

impl MountTable {
    fn get(&self, id: u32) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.id == id)
    }

    /// What is mounted on a place; the last mount counts, as in vfs.
    fn on(&self, spot: Spot) -> Option<&Mount> {
        self.mounts.iter().rev().find(|mount| mount.parent == spot.mount && mount.mountpoint == spot.dentry && !mount.is_hidden)
    }
}

/// See the module. Empty until vfs has given the region.
#[derive(Default)]
pub struct Cache {
    region: OnceLock<Region>,
    recent: Mutex<Recent>,
    /// How well it does.
    pub counters: Counters,
}

struct Region {
    reader: Reader,
    mounts: RwLock<Arc<MountTable>>,
}

impl Region {
    /// The mount table of now; `None` if there is none that is whole.
    fn mounts(&self) -> Option<Arc<MountTable>> {
        let known = self.mounts.read().clone();
        if known.version == self.reader.mounts_version() {
            return Some(known);
        }
        let (version, mounts) = self.reader.mounts()?;
        let table = Arc::new(MountTable { version, mounts });
        *self.mounts.write() = table.clone();
        Some(table)
    }
}

impl Cache {
    /// Maps the region.
    pub fn attach(&self, file: OwnedFd) {
        match Reader::map(&file) {
            Ok(reader) => {
                self.recent.lock().begin(&reader);
                let mounts = RwLock::new(Arc::new(MountTable { version: u64::MAX, mounts: Vec::new() }));
                let _ = self.region.set(Region { reader, mounts });
            }
            Err((doing, errno)) => tracing::warn!(%errno, "nothing that vfs publishes can be used: cannot {doing}"),
        }
    }

    /// Whether an answer is known, for the statistics.
    fn count<T>(&self, answer: Option<T>) -> Option<T> {
        let counter = if answer.is_some() { &self.counters.hits } else { &self.counters.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// Walks a path.
    pub fn walk(&self, caller: &Caller, root: Spot, base: Spot, path: &[u8], follow: bool) -> Option<Result<Found, Errno>> {
        let region = self.region.get()?;
        let found = region.mounts().and_then(|mounts| {
            let ground = walk::Ground { reader: &region.reader, mounts: &mounts, caller, root };
            ground.walk(base, path, follow)
        });
        self.count(found)
    }

    /// stat(2) of what a walk found.
    pub fn attributes(&self, found: &Found) -> Option<Attributes> {
        let memory = match found.inode.is_lent {
            true => Some(self.recent.lock().memory_of(found.spot)?),
            false => None,
        };
        complete(&found.inode, memory.as_deref().map(AsRawFd::as_raw_fd), found.spot.mount, found.mount_flags)
    }

    /// stat(2) of a place that is held. `memory` is its memory file, if it has one and it is at hand.
    pub fn attributes_of(&self, spot: Spot, inode: Key, memory: Option<RawFd>) -> Option<Attributes> {
        let region = self.region.get()?;
        let attributes = (|| {
            let inode = region.reader.inode(inode)?;
            let flags = region.mounts()?.get(spot.mount)?.flags;
            complete(&inode, memory.filter(|_| inode.in_memory), spot.mount, flags)
        })();
        self.count(attributes)
    }

    /// access(2) of what a walk found: EACCES, EROFS.
    pub fn access(caller: &Caller, found: &Found, wanted: u32) -> Result<(), Errno> {
        permit_access(caller, &found.inode.attributes, found.mount_flags, wanted)
    }

    /// readlink(2) of what a walk found: EINVAL when it is no symbolic link.
    pub fn target(&self, found: &Found) -> Option<Result<Vec<u8>, Errno>> {
        if found.inode.attributes.mode & libc::S_IFMT != libc::S_IFLNK {
            return Some(Err(Errno::EINVAL));
        }
        let mut target = Vec::new();
        self.region.get()?.reader.target(found.inode.key, &mut target)?;
        Some(Ok(target))
    }

    /// Keeps a node that vfs handed out, and the fd of a regular file (`true`: it is a memory file of vfs, which allows all access;
    /// otherwise it can be read).
    pub fn keep(&self, handle: &Arc<NodeHandle>, file: Option<(&Arc<OwnedFd>, bool)>) {
        if self.region.get().is_some()
            && let Some(spot) = handle.spot
        {
            let file = file.map(|(fd, in_memory)| recent::File { fd: fd.clone(), in_memory });
            let displaced = self.recent.lock().keep(spot, handle.clone(), file);
            drop(displaced);
        }
    }

    /// The node of a place that was opened lately.
    pub fn node(&self, spot: Spot) -> Option<Arc<NodeHandle>> {
        self.recent.lock().node(spot)
    }

    /// Node and fd of a regular file that was opened lately, and whether the fd is a memory file.
    pub fn file(&self, found: &Found) -> Option<(Arc<NodeHandle>, Arc<OwnedFd>, bool)> {
        let (handle, file) = self.recent.lock().file(found.spot)?;
        // A file that was copied up since has other contents.
        (file.in_memory == found.inode.in_memory).then_some((handle, file.fd, file.in_memory))
    }

    /// Lets go of files that have lost their names; called after each call of vfs.
    pub fn sweep(&self) {
        let Some(region) = self.region.get() else { return };
        let gone = self.recent.lock().sweep(&region.reader);
        // They are given back without the lock.
        drop(gone);
    }

    /// Lets go of everything.
    pub fn purge(&self) {
        let gone = self.recent.lock().purge();
        drop(gone);
    }
}

/// The attributes of a file as seen through a mount; `None` when its memory file is lent and not at hand.
fn complete(inode: &Inode, memory: Option<RawFd>, mount: u32, mount_flags: u32) -> Option<Attributes> {
    let mut attributes = Attributes { mount, mount_flags, ..inode.attributes };
    if inode.is_lent {
        FileStatus::from(&host_io::stat(memory?).ok()?).complete(&mut attributes);
    }
    Some(attributes)
}
