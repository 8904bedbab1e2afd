//! /proc/PID/net: what the address families tell of their sockets.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::vfs::Attributes;

use super::{
    node::{entry, inode, plain},
    text::Text,
};
use crate::{
    Errno,
    fs::special::{SpecialEntry, SpecialNode},
    kernel::Kernel,
    task::Thread,
};

/// The directory.
pub struct Network {
    /// Whose sockets.
    pub kernel: Arc<Kernel>,
    /// Its own path, for the inode number.
    pub path: String,
}

impl SpecialNode for Network {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(plain(&self.path, libc::S_IFDIR | 0o555, (0, 0)))
    }

    fn lookup(&self, _: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        let known = self.kernel.sockets.proc_files();
        let name = known.into_iter().find(|known| known.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let kernel = self.kernel.clone();
        Ok(Arc::new(Text {
            inode: inode(&format!("{}/{name}", self.path)),
            permissions: 0o444,
            owner: (0, 0),
            make: Arc::new(move || kernel.sockets.proc_file(name).ok_or(Errno::ENOENT)),
            store: None,
            readonly: false,
        }))
    }

    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let names = self.kernel.sockets.proc_files().into_iter();
        Ok(names.map(|name| entry(name, &format!("{}/{name}", self.path), libc::DT_REG)).collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
