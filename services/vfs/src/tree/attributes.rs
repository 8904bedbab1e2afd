//! Attributes and extended attributes of files.

use std::{collections::BTreeMap, os::fd::AsFd};

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, SetTime},
};

use super::{Body, Content, InodeId, Tree};
use crate::{gofer::Gofer, host};

impl Tree {
    /// Attributes now.
    pub fn current_attributes(&mut self, gofer: &mut Gofer, id: InodeId) -> Result<Attributes, Errno> {
        if self.is_direct(id) && !std::mem::take(&mut self.inodes[id].fresh) {
            self.refresh(gofer, id)?;
            self.inodes[id].fresh = false;
        }
        let inode = &self.inodes[id];
        let mut attributes = inode.attributes;
        if let Body::File(Content::Memory(fd)) = &inode.body {
            host::status(fd.as_fd())?.complete(&mut attributes);
        }
        Ok(attributes)
    }

    fn refresh(&mut self, gofer: &mut Gofer, id: InodeId) -> Result<(), Errno> {
        let inode = &self.inodes[id];
        let Some(origin) = &inode.origin else { return Ok(()) };
        let from = gofer.attributes(&origin.held)?;
        self.inodes[id].attributes = self.host_attributes(self.inodes[id].fs, &from);
        Ok(())
    }

    /// chmod(2).
    pub fn set_mode(&mut self, gofer: &mut Gofer, id: InodeId, mode: u32) -> Result<(), Errno> {
        if self.is_direct(id) {
            let held = self.inodes[id].origin.as_ref().ok_or(Errno::EIO)?.held.clone();
            gofer.chmod(&held, mode & 0o7777)?;
            return self.refresh(gofer, id);
        }
        let attributes = self.change(id);
        attributes.mode = (attributes.mode & libc::S_IFMT) | (mode & 0o7777);
        Ok(())
    }

    /// chown(2); `mode` are the permission bits it leaves.
    pub fn set_owner(
        &mut self,
        gofer: &mut Gofer,
        id: InodeId,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: u32,
    ) -> Result<(), Errno> {
        if self.is_direct(id) {
            let held = self.inodes[id].origin.as_ref().ok_or(Errno::EIO)?.held.clone();
            gofer.chown(&held, uid, gid)?;
            return self.refresh(gofer, id);
        }
        let attributes = self.change(id);
        attributes.uid = uid.unwrap_or(attributes.uid);
        attributes.gid = gid.unwrap_or(attributes.gid);
        attributes.mode = (attributes.mode & libc::S_IFMT) | (mode & 0o7777);
        Ok(())
    }

    /// utimensat(2).
    pub fn set_times(&mut self, gofer: &mut Gofer, id: InodeId, accessed: SetTime, modified: SetTime) -> Result<(), Errno> {
        if self.is_direct(id) {
            let held = self.inodes[id].origin.as_ref().ok_or(Errno::EIO)?.held.clone();
            gofer.set_times(&held, accessed, modified)?;
            return self.refresh(gofer, id);
        }
        let now = host::now();
        let time = |set| match set {
            SetTime::Keep => None,
            SetTime::Now => Some(now),
            SetTime::To(time) => Some(time),
        };
        let (accessed, modified) = (time(accessed), time(modified));
        if let Body::File(Content::Memory(fd)) = &self.inodes[id].body {
            host::set_times(fd.as_fd(), accessed, modified)?;
        }
        let attributes = self.change(id);
        attributes.accessed = accessed.unwrap_or(attributes.accessed);
        attributes.modified = modified.unwrap_or(attributes.modified);
        Ok(())
    }

    /// The attributes of a file kept here, to be changed.
    fn change(&mut self, id: InodeId) -> &mut Attributes {
        let inode = &mut self.inodes[id];
        inode.upper = true;
        inode.attributes.changed = host::now();
        &mut inode.attributes
    }

    /// getxattr(2).
    pub fn get_xattr(&mut self, gofer: &mut Gofer, id: InodeId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let inode = &self.inodes[id];
        match (&inode.xattrs, &inode.origin) {
            (Some(xattrs), _) => xattrs.get(name).cloned().ok_or(Errno::ENODATA),
            (None, Some(origin)) => gofer.get_xattr(&origin.held, name),
            (None, None) => Err(Errno::ENODATA),
        }
    }

    /// listxattr(2): the names.
    pub fn list_xattrs(&mut self, gofer: &mut Gofer, id: InodeId) -> Result<Vec<Vec<u8>>, Errno> {
        let inode = &self.inodes[id];
        match (&inode.xattrs, &inode.origin) {
            (Some(xattrs), _) => Ok(xattrs.keys().cloned().collect()),
            (None, Some(origin)) => {
                let names = gofer.list_xattrs(&origin.held)?;
                Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    /// setxattr(2) with XATTR_* flags; removexattr(2) without a value.
    pub fn set_xattr(
        &mut self,
        gofer: &mut Gofer,
        id: InodeId,
        name: &[u8],
        value: Option<&[u8]>,
        flags: u32,
    ) -> Result<(), Errno> {
        if self.is_direct(id) {
            let held = self.inodes[id].origin.as_ref().ok_or(Errno::EIO)?.held.clone();
            return match value {
                Some(value) => gofer.set_xattr(&held, name, value, flags),
                None => gofer.remove_xattr(&held, name),
            };
        }
        let mut xattrs = match self.inodes[id].xattrs.take() {
            Some(xattrs) => xattrs,
            None => self.load_xattrs(gofer, id),
        };
        let exists = xattrs.contains_key(name);
        let result = match value {
            Some(_) if exists && flags & libc::XATTR_CREATE.cast_unsigned() != 0 => Err(Errno::EEXIST),
            Some(_) if !exists && flags & libc::XATTR_REPLACE.cast_unsigned() != 0 => Err(Errno::ENODATA),
            Some(value) => {
                let size: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
                if size + value.len() > 256 * 1024 {
                    Err(Errno::ENOSPC)
                } else {
                    xattrs.insert(name.to_vec(), value.to_vec());
                    Ok(())
                }
            }
            None => xattrs.remove(name).map(drop).ok_or(Errno::ENODATA),
        };
        self.inodes[id].xattrs = Some(xattrs);
        self.change(id);
        result
    }

    /// Copy-up of extended attributes; those that cannot be read are not there.
    fn load_xattrs(&mut self, gofer: &mut Gofer, id: InodeId) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let names = self.list_xattrs(gofer, id).unwrap_or_default();
        let values = names.into_iter().filter_map(|name| Some((name.clone(), self.get_xattr(gofer, id, &name).ok()?)));
        values.collect()
    }
}
