//! Finding a name in a directory, and bringing what is on the host into the tree.

use bulkhead_ipc::{Errno, vfs::Attributes};

use super::{Body, Content, DentryId, DentryState, Directory, FsId, FsKind, Inode, InodeId, NewFile, Origin, Tree};
use crate::{
    gofer::{Found, Gofer},
    locks::Locks,
};

impl Tree {
    /// The root of the gofer's root `index` as a file system.
    pub fn add_host_root(&mut self, fs: FsId, found: Found) -> Result<DentryId, Errno> {
        let directory = found.held.clone();
        let inode = self.host_inode(fs, found, directory, b"")?;
        Ok(self.add_root(fs, inode))
    }

    /// An empty root directory in memory.
    pub fn add_memory_root(&mut self, fs: FsId, mode: u32, uid: u32, gid: u32) -> Result<DentryId, Errno> {
        let new = NewFile { mode: libc::S_IFDIR | (mode & 0o7777), uid, gid, device: 0, target: b"" };
        let inode = self.new_inode(fs, &new)?;
        Ok(self.add_root(fs, inode))
    }

    /// What `name` is in a directory; `None` when it is not there. `ahead` are the names that will be looked for beneath it: they
    /// are brought along where that costs nothing.
    pub fn lookup(&mut self, gofer: &mut Gofer, dir: DentryId, name: &[u8], ahead: &[&[u8]]) -> Result<Option<DentryId>, Errno> {
        let (inode, directory) = self.directory(dir)?;
        let child = directory.children.get(name).copied();
        let complete = directory.complete;
        if self.is_direct(inode) {
            return self.lookup_direct(gofer, dir, inode, name, child);
        }
        if let Some(child) = child {
            let entry = &self.dentries[child];
            entry.touched.set(true);
            match entry.state {
                DentryState::Inode(_) => return Ok(Some(child)),
                DentryState::Absent { .. } => return Ok(None),
                DentryState::Listed { .. } => {}
            }
        } else if complete || self.inodes[inode].origin.is_none() {
            return Ok(None);
        }
        self.load(gofer, dir, name, ahead)
    }

    /// Brings a name, and those beneath it, from the lower layer.
    fn load(&mut self, gofer: &mut Gofer, dir: DentryId, name: &[u8], ahead: &[&[u8]]) -> Result<Option<DentryId>, Errno> {
        let names: Vec<Vec<u8>> = std::iter::once(name).chain(ahead.iter().copied()).map(<[u8]>::to_vec).collect();
        let (entries, stopped) = self.walk_host(gofer, dir, names.clone())?;
        let found = entries.len();
        let mut here = dir;
        let mut first = None;
        for (entry, name) in entries.into_iter().zip(&names) {
            let (inode, directory) = self.directory(here)?;
            let known = directory.children.get(&name[..]).copied();
            let child = match known.map(|child| (child, self.dentries[child].state)) {
                // What is known already (it may have been changed or deleted here) stays as it is.
                Some((_, DentryState::Inode(_) | DentryState::Absent { whiteout: true })) => break,
                Some((child, _)) => {
                    let inode = self.found_inode(here, inode, name, entry)?;
                    self.inodes[inode].dentries += 1;
                    self.dentries[child].state = DentryState::Inode(inode);
                    child
                }
                None => {
                    let inode = self.found_inode(here, inode, name, entry)?;
                    let child = self.attach(here, name, DentryState::Inode(inode), true, Some(0))?;
                    self.remember(child);
                    child
                }
            };
            first.get_or_insert(child);
            here = child;
        }
        match (first, stopped) {
            (Some(child), _) => Ok(Some(child)),
            (None, Some(Errno::ENOENT)) if found == 0 => {
                if !self.directory(dir)?.1.children.contains_key(name) {
                    let absent = self.attach(dir, name, DentryState::Absent { whiteout: false }, false, Some(0))?;
                    self.remember(absent);
                }
                Ok(None)
            }
            (None, stopped) => Err(stopped.unwrap_or(Errno::EIO)),
        }
    }

    /// Asks the gofer.
    fn walk_host(&mut self, gofer: &mut Gofer, dir: DentryId, names: Vec<Vec<u8>>) -> Result<(Vec<Found>, Option<Errno>), Errno> {
        let inode = self.inode_of(dir)?;
        let held = self.inodes[inode].origin.as_ref().ok_or(Errno::EIO)?.held.clone();
        gofer.walk(&held, names)
    }

    fn found_inode(&mut self, dir: DentryId, dir_inode: InodeId, name: &[u8], found: Found) -> Result<InodeId, Errno> {
        let directory = self.inodes[dir_inode].origin.as_ref().ok_or(Errno::EIO)?.held.clone();
        self.host_inode(self.dentries[dir].fs, found, directory, name)
    }

    /// Asks the gofer each time; the dentry stays the same while the file does.
    fn lookup_direct(
        &mut self,
        gofer: &mut Gofer,
        dir: DentryId,
        dir_inode: InodeId,
        name: &[u8],
        child: Option<DentryId>,
    ) -> Result<Option<DentryId>, Errno> {
        if let Some(child) = child.filter(|child| self.dentries[*child].is_virtual) {
            return Ok(Some(child));
        }
        let (mut entries, stopped) = self.walk_host(gofer, dir, vec![name.to_vec()])?;
        let Some(found) = entries.pop() else {
            return match stopped {
                Some(Errno::ENOENT) => {
                    if let Some(child) = child {
                        self.detach(child);
                    }
                    Ok(None)
                }
                stopped => Err(stopped.unwrap_or(Errno::EIO)),
            };
        };
        self.enter_direct(dir, dir_inode, name, found).map(Some)
    }

    /// Brings what the gofer found into the tree, in the place of what had the name before.
    pub fn enter_direct(&mut self, dir: DentryId, dir_inode: InodeId, name: &[u8], found: Found) -> Result<DentryId, Errno> {
        let child = self.directory(dir)?.1.children.get(name).copied();
        let key = (found.attributes.device, found.attributes.inode);
        if let Some(child) = child {
            let inode = self.inode_of(child)?;
            let same = self.inodes[inode].origin.as_ref().is_some_and(|origin| origin.key == key)
                && self.inodes[inode].attributes.mode & libc::S_IFMT == found.attributes.mode & libc::S_IFMT;
            if same {
                let directory = self.inodes[dir_inode].origin.as_ref().ok_or(Errno::EIO)?.held.clone();
                self.renew(inode, found, directory, name);
                self.dentries[child].touched.set(true);
                return Ok(child);
            }
            self.detach(child);
        }
        let inode = self.found_inode(dir, dir_inode, name, found)?;
        let child = self.attach(dir, name, DentryState::Inode(inode), false, None)?;
        self.remember(child);
        Ok(child)
    }

    /// Takes over what the host says now about a file that is served directly.
    fn renew(&mut self, id: InodeId, found: Found, directory: std::sync::Arc<crate::gofer::Held>, name: &[u8]) {
        let attributes = self.host_attributes(self.inodes[id].fs, &found.attributes);
        let inode = &mut self.inodes[id];
        let key = (found.attributes.device, found.attributes.inode);
        inode.attributes = attributes;
        inode.fresh = true;
        if let Body::Symlink(target) = &mut inode.body {
            *target = found.target;
        }
        inode.origin = Some(Origin { held: found.held, directory, name: name.to_vec(), key });
    }

    /// Attributes of the host as the guest sees them.
    pub(super) fn host_attributes(&mut self, fs: FsId, from: &Attributes) -> Attributes {
        Attributes {
            device: self.filesystem(fs).device,
            inode: self.number_for(fs, from.device, from.inode),
            mount: 0,
            mount_flags: 0,
            ..*from
        }
    }

    /// The inode number for a file of the host: the host's own, moved apart for the second and further devices beneath a root.
    pub(super) fn number_for(&mut self, fs: FsId, device: u64, number: u64) -> u64 {
        let devices = &mut self.filesystem_mut(fs).host_devices;
        let index = devices.iter().position(|known| *known == device).unwrap_or_else(|| {
            devices.push(device);
            devices.len() - 1
        });
        number.wrapping_add((index as u64) << 52)
    }

    /// The inode of a file of the host, which hard links share.
    fn host_inode(
        &mut self,
        fs: FsId,
        found: Found,
        directory: std::sync::Arc<crate::gofer::Held>,
        name: &[u8],
    ) -> Result<InodeId, Errno> {
        let key = (found.attributes.device, found.attributes.inode);
        let kind = found.attributes.mode & libc::S_IFMT;
        let direct = self.filesystem(fs).kind == FsKind::Gofer;
        if kind != libc::S_IFDIR
            && let Some(&inode) = self.filesystem(fs).by_host.get(&key)
            && self.inodes[inode].attributes.mode & libc::S_IFMT == kind
        {
            if direct {
                self.renew(inode, found, directory, name);
            }
            return Ok(inode);
        }
        let attributes = self.host_attributes(fs, &found.attributes);
        let body = match kind {
            libc::S_IFDIR => Body::Directory(Directory::new(false)),
            libc::S_IFLNK => Body::Symlink(found.target),
            libc::S_IFREG => Body::File(Content::Host(None)),
            libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR | libc::S_IFBLK => Body::Special,
            _ => return Err(Errno::EIO),
        };
        let inode = self.inodes.insert(Inode {
            fs,
            attributes,
            body,
            origin: Some(Origin { held: found.held, directory, name: name.to_vec(), key }),
            upper: false,
            xattrs: None,
            locks: Locks::default(),
            fresh: true,
            nodes: 0,
            lent: false,
            dentries: 0,
        });
        if kind != libc::S_IFDIR {
            self.filesystem_mut(fs).by_host.insert(key, inode);
        }
        Ok(inode)
    }

    /// Adds a directory (or empty file) that exists only here to a directory that is the gofer's.
    pub fn add_virtual(&mut self, dir: DentryId, name: &[u8], mode: u32) -> Result<DentryId, Errno> {
        let fs = self.dentries[dir].fs;
        let inode = self.new_inode(fs, &NewFile { mode, uid: 0, gid: 0, device: 0, target: b"" })?;
        let child = self.attach(dir, name, DentryState::Inode(inode), false, None)?;
        self.dentries[child].is_virtual = true;
        Ok(child)
    }
}
