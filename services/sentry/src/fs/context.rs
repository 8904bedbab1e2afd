//! Root, working directory and umask of a task.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bulkhead_ipc::vfs::NodeId;
use parking_lot::RwLock;

use super::Location;

/// Root, working directory and umask.
pub struct FsContext {
    /// chroot(2).
    pub root: RwLock<Location>,
    /// chdir(2).
    pub directory: RwLock<Location>,
    /// umask(2).
    pub umask: AtomicU32,
}

impl FsContext {
    /// With this root and working directory, and umask 022.
    pub fn new(root: Location, directory: Location) -> Arc<FsContext> {
        Arc::new(FsContext { root: RwLock::new(root), directory: RwLock::new(directory), umask: AtomicU32::new(0o022) })
    }

    /// A copy (fork without CLONE_FS).
    pub fn fork(&self) -> Arc<FsContext> {
        Arc::new(FsContext {
            root: RwLock::new(self.root.read().clone()),
            directory: RwLock::new(self.directory.read().clone()),
            umask: AtomicU32::new(self.umask.load(Ordering::Relaxed)),
        })
    }

    /// The root as vfs knows it (a root in a special file system falls back to vfs's root).
    pub fn root_node(&self) -> NodeId {
        match &*self.root.read() {
            Location::Vfs(handle) => handle.node,
            Location::Special(_) => NodeId::ROOT,
        }
    }
}
