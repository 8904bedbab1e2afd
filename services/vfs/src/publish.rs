//! What the sentry may see without asking: keeps the [published](bulkhead_ipc::published) records true.
//!
//! Published is what a walk came by, as far as it is vfs's own: file systems in memory, and overlays, whose lower layer does not
//! change. What the gofer serves directly is not: others may change it at any time, so whoever asks has to ask the host.
//!
//! The authority for size, blocks, and times of access and modification of a file in memory is its memory file, which the sentry
//! reads and writes directly. While the sentry may have it (from the time an fd is donated until the last node of the file is given
//! back) the file is *lent*: the record says so, and whoever wants to know these asks the memory file. For everything else of a
//! published file the authority is the record.
//!
//! **Invariants.** Records are brought up to date by [`Publisher::update`] before a request is answered, all of them at once; the
//! arenas note what may have changed. Nothing here is ever read back.

use std::os::fd::{AsFd, OwnedFd};

use bulkhead_ipc::{
    Errno,
    published::{Change, Dentry, Inode, Key, Mount, Writer},
    vfs::Published,
};

use crate::{
    host,
    mounts::{Mounts, Target},
    tree::{Body, Content, DentryId, DentryState, FsKind, InodeId, Tree, arena::Key as _},
};

/// What is published.
#[derive(Debug)]
pub struct Publisher {
    /// `None` on hosts where that is not possible.
    writer: Option<Writer>,
    dentries: Shown,
    inodes: Shown,
    /// Dentries that lost their names and that the sentry was not told of yet.
    removed: Vec<Key>,
    /// The slots that changed; kept for its memory.
    changed: (Vec<u32>, Vec<u32>),
}

/// Which slots are published, by the serial numbers of what was in them.
#[derive(Debug, Default)]
struct Shown {
    serials: Vec<u64>,
}

impl Shown {
    fn get(&self, slot: usize) -> Option<u64> {
        self.serials.get(slot).copied().filter(|serial| *serial != 0)
    }

    /// The serial number that was there before.
    fn set(&mut self, slot: usize, serial: u64) -> Option<u64> {
        if slot >= self.serials.len() {
            self.serials.resize(slot + 1, 0);
        }
        Some(std::mem::replace(&mut self.serials[slot], serial)).filter(|serial| *serial != 0)
    }
}

fn dentry_key(tree: &Tree, id: DentryId) -> Key {
    tree.dentries.serial(id.index()).map_or(Key::NONE, |serial| Key::new(id.index(), serial))
}

fn inode_key(tree: &Tree, id: InodeId) -> Key {
    tree.inodes.serial(id.index()).map_or(Key::NONE, |serial| Key::new(id.index(), serial))
}

impl Default for Publisher {
    fn default() -> Self {
        let writer = Writer::new().map_err(|(doing, errno)| tracing::info!(%errno, "nothing is published: cannot {doing}")).ok();
        let (dentries, inodes) = Default::default();
        Publisher { writer, dentries, inodes, removed: Vec::new(), changed: Default::default() }
    }
}

impl Publisher {
    /// The region's file.
    pub fn file(&self) -> Option<Result<OwnedFd, Errno>> {
        let writer = self.writer.as_ref()?;
        Some(writer.file().try_clone().map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EMFILE))))
    }

    /// Names that can be found.
    pub fn names(&self) -> usize {
        self.writer.as_ref().map_or(0, Writer::names)
    }

    /// Publishes a dentry and what it names with the next update; its keys.
    pub fn show(&mut self, tree: &mut Tree, id: DentryId) -> Published {
        if self.writer.is_none() || tree.kind(id) == FsKind::Gofer {
            return Published::default();
        }
        let dentry = dentry_key(tree, id);
        if dentry.is_some()
            && let Some(serial) = tree.dentries.serial(id.index())
            && self.dentries.get(id.index()) != Some(serial)
        {
            if let Some(old) = self.dentries.set(id.index(), serial) {
                self.removed.push(Key::new(id.index(), old));
            }
            tree.dentries.touch(id);
        }
        let inode = tree.inode_of(id).map_or(Key::NONE, |inode| self.show_inode(tree, inode));
        Published { dentry, inode }
    }

    fn show_inode(&mut self, tree: &mut Tree, id: InodeId) -> Key {
        let key = inode_key(tree, id);
        if key.is_some()
            && let Some(serial) = tree.inodes.serial(id.index())
            && self.inodes.get(id.index()) != Some(serial)
        {
            self.inodes.set(id.index(), serial);
            tree.inodes.touch(id);
        }
        key
    }

    /// Brings everything that is published up to date.
    pub fn update(&mut self, tree: &mut Tree, mounts: &mut Mounts) {
        let mounts_changed = mounts.take_changed();
        for dentry in mounts_changed.iter().flatten() {
            if tree.dentries.get(*dentry).is_some() {
                tree.dentries.touch(*dentry);
            }
        }
        let (mut dentries, mut inodes) = std::mem::take(&mut self.changed);
        tree.dentries.take_changed(&mut dentries);
        // What a published name names is published with it.
        for slot in &dentries {
            let id = DentryId::new(*slot);
            if self.dentries.get(id.index()).is_some()
                && tree.dentries.get(id).is_some()
                && tree.kind(id) != FsKind::Gofer
                && let Ok(inode) = tree.inode_of(id)
            {
                self.show_inode(tree, inode);
            }
        }
        tree.inodes.take_changed(&mut inodes);
        let Some(writer) = &mut self.writer else {
            self.changed = (dentries, inodes);
            return;
        };
        let mut changes = Vec::new();
        for slot in dentries.iter().map(|slot| *slot as usize) {
            let Some(shown) = self.dentries.get(slot) else { continue };
            let now = tree.dentries.serial(slot);
            if now == Some(shown) {
                let change = dentry_change(tree, mounts, slot);
                if matches!(&change, Change::Dentry { dentry, .. } if dentry.is_deleted) {
                    self.removed.push(Key::new(slot, shown));
                }
                changes.push(change);
            } else {
                self.dentries.set(slot, 0);
                self.removed.push(Key::new(slot, shown));
                changes.push(Change::NoDentry { slot });
            }
        }
        for slot in inodes.iter().map(|slot| *slot as usize) {
            let Some(shown) = self.inodes.get(slot) else { continue };
            if tree.inodes.serial(slot) == Some(shown) {
                changes.push(inode_change(tree, slot));
            } else {
                self.inodes.set(slot, 0);
                changes.push(Change::NoInode { slot });
            }
        }
        writer.apply(changes);
        writer.note_removals(self.removed.drain(..));
        if mounts_changed.is_some() {
            writer.set_mounts(&mounts.all().map(|mount| published_mount(tree, mounts, mount)).collect::<Vec<_>>());
        }
        self.changed = (dentries, inodes);
    }
}

fn dentry_change<'t>(tree: &'t Tree, mounts: &Mounts, slot: usize) -> Change<'t> {
    let id = DentryId::new(slot as u32);
    let entry = &tree.dentries[id];
    let inode = match entry.state {
        DentryState::Inode(inode) => inode_key(tree, inode),
        DentryState::Absent { .. } => Key::NONE,
        // It is there, but what it is nobody knows yet.
        DentryState::Listed { .. } => return Change::NoDentry { slot },
    };
    if !inode.is_some() && matches!(entry.state, DentryState::Inode(_)) {
        return Change::NoDentry { slot };
    }
    let dentry = Dentry {
        key: dentry_key(tree, id),
        parent: entry.parent.map_or(Key::NONE, |parent| dentry_key(tree, parent)),
        inode,
        is_mountpoint: mounts.is_mountpoint(id),
        is_deleted: entry.deleted,
    };
    Change::Dentry { dentry, name: &entry.name }
}

fn inode_change(tree: &Tree, slot: usize) -> Change<'_> {
    let id = InodeId::new(slot as u32);
    let entry = &tree.inodes[id];
    let target = match &entry.body {
        Body::Symlink(target) => Some(&target[..]),
        _ => None,
    };
    let mut inode = Inode { key: inode_key(tree, id), attributes: entry.attributes, in_memory: false, is_lent: false };
    if let Body::File(Content::Memory(fd)) = &entry.body {
        inode.in_memory = true;
        inode.is_lent = true;
        if !tree.is_lent(id)
            && let Ok(status) = host::status(fd.as_fd())
        {
            inode.is_lent = false;
            status.complete(&mut inode.attributes);
        }
    }
    Change::Inode { inode, target }
}

fn published_mount(tree: &Tree, mounts: &Mounts, mount: &crate::mounts::Mount) -> Mount {
    Mount {
        id: mount.id,
        flags: mount.flags,
        parent: mount.parent.map_or(0, |parent| parent.mount),
        mountpoint: mount.parent.map_or(Key::NONE, |parent| dentry_key(tree, parent.dentry)),
        root: match mount.target {
            Target::Tree { root, .. } => dentry_key(tree, root),
            Target::Foreign { .. } => Key::NONE,
        },
        is_hidden: mounts.is_hidden(mount.id),
    }
}
