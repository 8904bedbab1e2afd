//! Directories: names come, go and are read.

use std::{cell::Cell, sync::Arc};

use bulkhead_ipc::{Errno, vfs::DirEntry};

use super::{Body, Dentry, DentryId, DentryState, Directory, FsKind, InodeId, MEMORY_COOKIES, Tree};
use crate::{
    gofer::{Gofer, Held},
    host,
};

/// Cookies of virtual entries, which follow those of the host.
const VIRTUAL_COOKIES: u64 = 3 << 62;

/// Cookies of the lower layer's entries start here.
const LOWER_COOKIES: u64 = 2;

/// What `read_directory` has gathered.
struct Batch {
    entries: Vec<DirEntry>,
    space: usize,
}

impl Batch {
    /// Adds an entry if there is room for it (there always is for the first).
    fn push(&mut self, inode: u64, next: u64, kind: u8, name: &[u8]) -> bool {
        let size = (19 + name.len() + 1).next_multiple_of(8);
        if size > self.space && !self.entries.is_empty() {
            return false;
        }
        self.space = self.space.saturating_sub(size);
        self.entries.push(DirEntry { inode, next, kind, name: name.to_vec() });
        true
    }
}

impl Tree {
    /// The directory that a dentry names; ENOTDIR.
    pub(super) fn directory(&self, dentry: DentryId) -> Result<(InodeId, &Directory), Errno> {
        let inode = self.inode_of(dentry)?;
        match &self.inodes[inode].body {
            Body::Directory(directory) => Ok((inode, directory)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Whether a dentry names a directory.
    pub fn is_directory(&self, dentry: DentryId) -> bool {
        self.directory(dentry).is_ok()
    }

    /// What is known of a name in a directory: its dentry, or that it is not there; `None` if nothing is known.
    pub fn known_child(&self, dentry: DentryId, name: &[u8]) -> Option<Option<DentryId>> {
        let (_, directory) = self.directory(dentry).ok()?;
        let child = directory.children.get(name).copied();
        if child.is_none() && !directory.complete { None } else { Some(child) }
    }

    pub(super) fn directory_mut(&mut self, dentry: DentryId) -> Result<&mut Directory, Errno> {
        let inode = self.inode_of(dentry)?;
        match &mut self.inodes[inode].body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Puts a name into a directory, which must not have it. Without a `cookie` it comes last.
    pub(super) fn attach(
        &mut self,
        parent: DentryId,
        name: &[u8],
        state: DentryState,
        in_lower: bool,
        cookie: Option<u64>,
    ) -> Result<DentryId, Errno> {
        let fs = self.dentries[parent].fs;
        let id = self.dentries.insert(Dentry {
            fs,
            parent: Some(parent),
            name: name.into(),
            state,
            cookie: 0,
            holds: 0,
            deleted: false,
            in_lower,
            cached: false,
            is_virtual: false,
            touched: Cell::new(true),
        });
        if let DentryState::Inode(inode) = state {
            self.inodes[inode].dentries += 1;
        }
        self.hold(parent);
        self.enlist(parent, id, cookie)?;
        Ok(id)
    }

    /// Puts a dentry that has this parent into its directory.
    fn enlist(&mut self, parent: DentryId, id: DentryId, cookie: Option<u64>) -> Result<(), Errno> {
        let name = self.dentries[id].name.clone();
        let directory = self.directory_mut(parent)?;
        let cookie = cookie.unwrap_or_else(|| {
            directory.next_cookie += 1;
            directory.next_cookie
        });
        directory.children.insert(name, id);
        if cookie != 0 {
            directory.listing.insert(cookie, id);
        }
        self.dentries[id].cookie = cookie;
        Ok(())
    }

    /// Takes a dentry out of its directory's tables; it keeps its parent.
    fn delist(&mut self, id: DentryId) {
        let entry = &self.dentries[id];
        let (Some(parent), cookie, name) = (entry.parent, entry.cookie, entry.name.clone()) else { return };
        if let Ok(directory) = self.directory_mut(parent) {
            if directory.children.get(&name) == Some(&id) {
                directory.children.remove(&name);
            }
            if cookie != 0 && directory.listing.get(&cookie) == Some(&id) {
                directory.listing.remove(&cookie);
            }
        }
    }

    /// Takes a name out of its directory. It lives on, deleted, while somebody holds it.
    pub(super) fn detach(&mut self, id: DentryId) {
        self.prune(id);
        self.delist(id);
        self.dentries[id].deleted = true;
        if self.dentries[id].holds == 0 {
            self.free(id);
        }
    }

    /// Forgets the children of a directory that is going away, as far as nobody holds them.
    fn prune(&mut self, id: DentryId) {
        let Ok((_, directory)) = self.directory(id) else { return };
        for child in directory.children.values().copied().collect::<Vec<_>>() {
            self.detach_unheld(child);
        }
    }

    fn detach_unheld(&mut self, id: DentryId) {
        self.prune(id);
        if self.dentries[id].holds == 0 {
            self.detach(id);
        }
    }

    /// Names a file in a memory directory (also of an overlay), in the place of an absent name if there is one.
    pub fn add_name(&mut self, parent: DentryId, name: &[u8], inode: InodeId) -> Result<DentryId, Errno> {
        let in_lower = self.clear_absent(parent, name)?;
        let id = self.attach(parent, name, DentryState::Inode(inode), in_lower, None)?;
        if matches!(self.inodes[inode].body, Body::Directory(_)) {
            self.change_links(self.inode_of(parent)?, 1);
        }
        self.modified(parent)?;
        Ok(id)
    }

    /// Removes an absent name's dentry; whether the lower layer has the name.
    fn clear_absent(&mut self, parent: DentryId, name: &[u8]) -> Result<bool, Errno> {
        let Some(&absent) = self.directory(parent)?.1.children.get(name) else { return Ok(false) };
        match self.dentries[absent].state {
            DentryState::Absent { whiteout } => {
                self.detach(absent);
                Ok(whiteout)
            }
            _ => Err(Errno::EEXIST),
        }
    }

    /// Removes a name from a memory directory. The file's link count is the caller's business.
    pub fn remove_name(&mut self, id: DentryId) -> Result<(), Errno> {
        let entry = &self.dentries[id];
        let (Some(parent), in_lower, name) = (entry.parent, entry.in_lower, entry.name.clone()) else {
            return Err(Errno::EBUSY);
        };
        if self.directory(id).is_ok() {
            self.change_links(self.inode_of(parent)?, -1);
        }
        self.detach(id);
        self.mark_absent(parent, &name, in_lower)?;
        self.modified(parent)
    }

    /// Remembers that a name is gone (whiteout), where the lower layer would show it otherwise.
    fn mark_absent(&mut self, parent: DentryId, name: &[u8], in_lower: bool) -> Result<(), Errno> {
        if in_lower && self.kind(parent) == FsKind::Overlay {
            self.attach(parent, name, DentryState::Absent { whiteout: true }, true, Some(0))?;
        } else if !self.directory(parent)?.1.complete && self.kind(parent) == FsKind::Overlay {
            let absent = self.attach(parent, name, DentryState::Absent { whiteout: false }, false, Some(0))?;
            self.remember(absent);
        }
        Ok(())
    }

    /// The dentry that says that a directory has no such name, made if need be; `None` where others may make names.
    pub fn note_absent(&mut self, parent: DentryId, name: &[u8]) -> Option<DentryId> {
        if self.kind(parent) == FsKind::Gofer || self.dentries[parent].deleted {
            return None;
        }
        match self.directory(parent).ok()?.1.children.get(name) {
            Some(&known) => matches!(self.dentries[known].state, DentryState::Absent { .. }).then_some(known),
            None => {
                let absent = self.attach(parent, name, DentryState::Absent { whiteout: false }, false, Some(0)).ok()?;
                self.remember(absent);
                Some(absent)
            }
        }
    }

    /// Moves a name within a file system; the new place must be free (or absent).
    pub fn move_name(&mut self, id: DentryId, parent: DentryId, name: &[u8]) -> Result<(), Errno> {
        let entry = &self.dentries[id];
        let (Some(old_parent), was_in_lower, old_name) = (entry.parent, entry.in_lower, entry.name.clone()) else {
            return Err(Errno::EBUSY);
        };
        let in_lower = self.clear_absent(parent, name)?;
        self.delist(id);
        self.hold(parent);
        let entry = &mut self.dentries[id];
        entry.parent = Some(parent);
        entry.name = name.into();
        entry.in_lower = in_lower;
        entry.cached = false;
        self.enlist(parent, id, None)?;
        if self.directory(id).is_ok() && parent != old_parent {
            self.change_links(self.inode_of(old_parent)?, -1);
            self.change_links(self.inode_of(parent)?, 1);
        }
        self.mark_absent(old_parent, &old_name, was_in_lower)?;
        self.modified(old_parent)?;
        self.modified(parent)?;
        self.release(old_parent);
        Ok(())
    }

    /// Whether `ancestor` is `id` or above it.
    pub fn is_above(&self, ancestor: DentryId, mut id: DentryId) -> bool {
        loop {
            if id == ancestor {
                return true;
            }
            match self.dentries[id].parent {
                Some(parent) => id = parent,
                None => return false,
            }
        }
    }

    /// Whether a directory that is kept here has no names.
    pub fn is_empty(&mut self, gofer: &mut Gofer, id: DentryId) -> Result<bool, Errno> {
        self.complete(gofer, id)?;
        let (_, directory) = self.directory(id)?;
        Ok(directory.children.values().all(|child| matches!(self.dentries[*child].state, DentryState::Absent { .. })))
    }

    /// Notes a change of a directory's contents.
    fn modified(&mut self, parent: DentryId) -> Result<(), Errno> {
        let inode = self.inode_of(parent)?;
        let inode = &mut self.inodes[inode];
        inode.upper = true;
        inode.attributes.modified = host::now();
        inode.attributes.changed = inode.attributes.modified;
        Ok(())
    }

    /// Changes a link count.
    pub fn change_links(&mut self, inode: InodeId, by: i32) {
        let inode = &mut self.inodes[inode];
        inode.attributes.links = inode.attributes.links.saturating_add_signed(by);
        inode.attributes.changed = host::now();
        inode.upper = true;
    }

    /// Reads the lower directory's names, so that every name that exists is known.
    fn complete(&mut self, gofer: &mut Gofer, id: DentryId) -> Result<(), Errno> {
        let (inode, directory) = self.directory(id)?;
        if directory.complete || self.kind(id) == FsKind::Gofer {
            return Ok(());
        }
        let Some(origin) = &self.inodes[inode].origin else { return Ok(()) };
        let (held, device) = (origin.held.clone(), origin.key.0);
        let fs = self.dentries[id].fs;
        let mut place = LOWER_COOKIES;
        for entry in read_all(gofer, &held)? {
            let cookie = place;
            place += 1;
            if place >= MEMORY_COOKIES {
                return Err(Errno::EFBIG);
            }
            let directory = self.directory_mut(id)?;
            match directory.children.get(&entry.name[..]).copied() {
                None => {
                    let number = self.number_for(fs, device, entry.inode);
                    let listed = DentryState::Listed { number, kind: entry.kind };
                    let child = self.attach(id, &entry.name, listed, true, Some(cookie))?;
                    self.remember(child);
                }
                Some(child) => {
                    let known = &mut self.dentries[child];
                    if known.cookie == 0 && known.cached && !matches!(known.state, DentryState::Absent { .. }) {
                        known.cookie = cookie;
                        self.directory_mut(id)?.listing.insert(cookie, child);
                    }
                }
            }
        }
        self.directory_mut(id)?.complete = true;
        Ok(())
    }

    /// A batch of a directory's entries, from `cookie` on. `above` is the inode number of `..`.
    pub fn read_directory(
        &mut self,
        gofer: &mut Gofer,
        id: DentryId,
        above: u64,
        cookie: u64,
        space: u32,
    ) -> Result<Vec<DirEntry>, Errno> {
        let (inode, _) = self.directory(id)?;
        let number = self.inodes[inode].attributes.inode;
        let space = space.clamp(512, 32 * 1024);
        let mut batch = Batch { entries: Vec::new(), space: space as usize };
        if self.dentries[id].deleted {
            return Ok(batch.entries);
        }
        if cookie == 0 {
            batch.push(number, 1, libc::DT_DIR, b".");
        }
        if cookie <= 1 {
            batch.push(above, 2, libc::DT_DIR, b"..");
        }
        if self.is_direct(inode) {
            self.read_direct(gofer, id, inode, cookie, space, &mut batch)?;
            return Ok(batch.entries);
        }
        self.complete(gofer, id)?;
        let (_, directory) = self.directory(id)?;
        for (&cookie, &child) in directory.listing.range(cookie.max(LOWER_COOKIES)..) {
            let entry = &self.dentries[child];
            let (number, kind) = match entry.state {
                DentryState::Absent { .. } => continue,
                DentryState::Listed { number, kind } => (number, kind),
                DentryState::Inode(inode) => {
                    let attributes = &self.inodes[inode].attributes;
                    (attributes.inode, (attributes.mode >> 12) as u8)
                }
            };
            if !batch.push(number, cookie + 1, kind, &entry.name) {
                break;
            }
        }
        Ok(batch.entries)
    }

    /// The host's entries (their cookies moved by two, for `.` and `..`), then the virtual ones.
    fn read_direct(
        &mut self,
        gofer: &mut Gofer,
        id: DentryId,
        inode: InodeId,
        cookie: u64,
        space: u32,
        batch: &mut Batch,
    ) -> Result<(), Errno> {
        let Some(origin) = &self.inodes[inode].origin else { return Ok(()) };
        let (held, device) = (origin.held.clone(), origin.key.0);
        let fs = self.dentries[id].fs;
        if cookie < VIRTUAL_COOKIES {
            let entries = gofer.read_directory(&held, cookie.saturating_sub(2), space)?;
            for entry in &entries {
                let number = self.number_for(fs, device, entry.inode);
                if !batch.push(number, entry.next.wrapping_add(2), entry.kind, &entry.name) {
                    return Ok(());
                }
            }
            if !entries.is_empty() {
                return Ok(());
            }
        }
        let (_, directory) = self.directory(id)?;
        let mut made: Vec<_> = directory.children.values().filter(|child| self.dentries[**child].is_virtual).collect();
        made.sort_by_key(|child| self.dentries[**child].cookie);
        let done = cookie.saturating_sub(VIRTUAL_COOKIES);
        for (place, child) in (0..).zip(made) {
            let entry = &self.dentries[*child];
            let DentryState::Inode(inode) = entry.state else { continue };
            let attributes = &self.inodes[inode].attributes;
            let kind = (attributes.mode >> 12) as u8;
            if place >= done && !batch.push(attributes.inode, VIRTUAL_COOKIES + place + 1, kind, &entry.name) {
                break;
            }
        }
        Ok(())
    }
}

fn read_all(gofer: &mut Gofer, held: &Arc<Held>) -> Result<Vec<DirEntry>, Errno> {
    let (mut all, mut cookie) = (Vec::new(), 0);
    loop {
        let batch = gofer.read_directory(held, cookie, 32 * 1024)?;
        let Some(last) = batch.last() else { return Ok(all) };
        cookie = last.next;
        all.extend(batch);
    }
}

/// Names without a directory, and names that the gofer already changed.
impl Tree {
    /// A regular file without a name (O_TMPFILE), which lives while it is held.
    pub fn add_nameless(&mut self, parent: DentryId, mode: u32, uid: u32, gid: u32) -> Result<DentryId, Errno> {
        let fs = self.dentries[parent].fs;
        let inode = self.new_inode(fs, &super::NewFile { mode, uid, gid, device: 0, target: b"" })?;
        let number = self.inodes[inode].attributes.inode;
        self.inodes[inode].attributes.links = 0;
        self.inodes[inode].dentries += 1;
        self.hold(parent);
        Ok(self.dentries.insert(Dentry {
            fs,
            parent: Some(parent),
            name: format!("#{number}").into_bytes().into(),
            state: DentryState::Inode(inode),
            cookie: 0,
            holds: 0,
            deleted: true,
            in_lower: false,
            cached: false,
            is_virtual: false,
            touched: Cell::new(true),
        }))
    }

    /// Whether an inode never had a name, so that link(2) may still give it one.
    pub fn is_nameless(&self, inode: InodeId) -> bool {
        self.dentries.iter().any(|(_, dentry)| {
            dentry.state == DentryState::Inode(inode) && dentry.deleted && dentry.name.starts_with(b"#") && dentry.cookie == 0
        })
    }

    /// A name that the gofer removed.
    pub fn forget_direct(&mut self, id: DentryId) {
        if let DentryState::Inode(inode) = self.dentries[id].state {
            let inode = &mut self.inodes[inode];
            inode.attributes.links = inode.attributes.links.saturating_sub(1);
            inode.fresh = false;
        }
        self.detach(id);
    }

    /// A name that the gofer moved (or exchanged with another).
    pub fn rename_direct(
        &mut self,
        old: DentryId,
        new: Option<DentryId>,
        parent: DentryId,
        name: &[u8],
        exchange: bool,
    ) -> Result<(), Errno> {
        let (Some(old_parent), old_name) = (self.dentries[old].parent, self.dentries[old].name.clone()) else {
            return Err(Errno::EBUSY);
        };
        self.delist(old);
        match new {
            Some(new) if exchange => {
                self.delist(new);
                self.put_direct(new, old_parent, &old_name)?;
            }
            Some(new) => self.forget_direct(new),
            None => {}
        }
        self.put_direct(old, parent, name)
    }

    fn put_direct(&mut self, id: DentryId, parent: DentryId, name: &[u8]) -> Result<(), Errno> {
        let old_parent = self.dentries[id].parent;
        self.hold(parent);
        self.dentries[id].parent = Some(parent);
        self.dentries[id].name = name.into();
        self.enlist(parent, id, None)?;
        let directory = self.inode_of(parent)?;
        let directory = self.inodes[directory].origin.as_ref().map(|origin| origin.held.clone());
        let inode = self.inode_of(id)?;
        let inode = &mut self.inodes[inode];
        inode.fresh = false;
        if let (Some(origin), Some(directory)) = (&mut inode.origin, directory) {
            origin.directory = directory;
            origin.name = name.to_vec();
        }
        if let Some(old_parent) = old_parent {
            self.release(old_parent);
        }
        Ok(())
    }
}
