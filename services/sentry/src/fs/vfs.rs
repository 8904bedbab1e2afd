//! The sentry's side of the protocol with vfs.

use bulkhead_ipc::{
    Errno,
    vfs::{NodeId, Reply, Request},
};
use std::{os::fd::OwnedFd, sync::Arc};

/// One connection per worker; calls are synchronous (vfs answers on the same CPU).
pub struct VfsClient {}

impl VfsClient {
    /// Sends and waits. `Reply::Error` comes back as `Err`. An fd comes with `Reply::Opened { has_fd: true }`.
    pub fn call(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), Errno> {
        let _ = request;
        todo!()
    }
    /// Wraps a node that a reply handed out.
    pub fn handle(self: &Arc<Self>, node: NodeId) -> Arc<NodeHandle> {
        let _ = node;
        todo!()
    }
}

/// A reference to a node of vfs; given back on drop (in batches).
pub struct NodeHandle {
    /// The node.
    pub node: NodeId,
}
