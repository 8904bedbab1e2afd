//! The sentry's side of the protocol with vfs, and what the sentry knows about files of vfs beyond it: who waits for their
//! locks, and the pipes behind their FIFOs.

use std::{
    collections::HashMap,
    os::fd::{OwnedFd, RawFd},
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use bulkhead_ipc::{
    Errno,
    published::Key,
    rpc::{Answered, Asker, Client, RpcError},
    vfs::{Attributes, NodeId, Published, Reply, Request},
};
use parking_lot::Mutex;

use super::{
    cached::{Cache, Spot},
    locks::LockBook,
    pipe::Pipe,
};
use crate::executor::Executor;

/// One connection per worker; calls are synchronous (vfs answers on the same CPU).
pub struct VfsClient {
    connections: Vec<Mutex<Asker>>,
    forgotten: Mutex<Forgotten>,
    /// What need not be asked for.
    pub cache: Cache,
    /// Where the root is published, and its mount.
    root: OnceLock<(Published, u32)>,
    /// Locks that this sentry's processes hold and wait for.
    pub(super) locks: LockBook,
    /// The open FIFOs by (device, inode).
    pub(super) fifos: Mutex<HashMap<(u64, u64), Weak<Pipe>>>,
}

/// References that are to be given back.
#[derive(Default)]
struct Forgotten {
    nodes: Vec<NodeId>,
    since: Option<Instant>,
}

/// References are given back when there are this many …
const FORGET_AT: usize = 64;
/// … or with the first call after they have waited this long.
const FORGET_AFTER: Duration = Duration::from_millis(50);

impl VfsClient {
    /// With one connection per worker.
    pub fn new(clients: Vec<Client>) -> Arc<VfsClient> {
        Arc::new(VfsClient {
            connections: clients.into_iter().map(|client| Mutex::new(Asker::new(client))).collect(),
            forgotten: Mutex::default(),
            cache: Cache::default(),
            root: OnceLock::new(),
            locks: LockBook::default(),
            fifos: Mutex::default(),
        })
    }

    /// Sends and waits. `Reply::Error` comes back as `Err`. An fd comes with `Reply::Opened { has_fd: true }`.
    pub fn call(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), Errno> {
        if matches!(request, Request::Unmount { .. }) {
            // A mount is in use as long as somebody has a node of it.
            self.cache.purge();
            self.give_back(true);
        }
        self.give_back(false);
        let mut outcome = self.exchange(request);
        if matches!(outcome, Err(Errno::ENFILE)) {
            self.cache.purge();
            self.give_back(true);
            outcome = self.exchange(request);
        }
        self.cache.sweep();
        outcome
    }

    /// The root of the mount tree, from which everything begins. With the first one comes what vfs publishes.
    pub fn root(self: &Arc<Self>) -> Arc<NodeHandle> {
        let (published, mount) = *self.root.get_or_init(|| match self.call(&Request::Publication) {
            Ok((Reply::Publication { root, mount }, file)) => {
                if let Some(file) = file {
                    self.cache.attach(file);
                }
                (root, mount)
            }
            outcome => {
                tracing::warn!(?outcome, "vfs does not say what it publishes");
                (Published::default(), 0)
            }
        });
        self.handle_at(NodeId::ROOT, published, mount)
    }

    /// As `call`, for requests whose answer is `Done`.
    pub fn order(&self, request: &Request) -> Result<(), Errno> {
        match self.call(request)?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Wraps a node that a reply handed out.
    pub fn handle(self: &Arc<Self>, node: NodeId) -> Arc<NodeHandle> {
        self.handle_at(node, Published::default(), 0)
    }

    /// The same, of a node that is published, as seen through a mount.
    pub fn handle_at(self: &Arc<Self>, node: NodeId, published: Published, mount: u32) -> Arc<NodeHandle> {
        let spot = published.dentry.is_some().then_some(Spot { mount, dentry: published.dentry });
        Arc::new(NodeHandle { node, spot, inode: published.inode, client: self.clone() })
    }

    fn exchange(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), Errno> {
        let connection = self.connections.get(Executor::current_cpu()).or(self.connections.first()).ok_or(Errno::EIO)?;
        let answered = connection.lock().ask(request);
        match answered {
            Ok(Answered { reply, fds_lost: true, .. }) => {
                if let Reply::Opened { node, .. } = reply {
                    self.forget(node);
                }
                Err(Errno::ENFILE)
            }
            Ok(Answered { reply: Reply::Error(errno), .. }) => Err(errno),
            Ok(Answered { reply, fds, .. }) => Ok((reply, fds.into_iter().next())),
            Err(RpcError::TooLarge(_)) => Err(Errno::ENAMETOOLONG),
            Err(error) => {
                tracing::error!(%error, "a call to vfs failed");
                Err(Errno::EIO)
            }
        }
    }

    /// Gives references back if there are many, or if they have waited for long.
    fn give_back(&self, at_once: bool) {
        let nodes = {
            let mut forgotten = self.forgotten.lock();
            let old = forgotten.since.is_some_and(|since| since.elapsed() >= FORGET_AFTER);
            if forgotten.nodes.is_empty() || !(at_once || old || forgotten.nodes.len() >= FORGET_AT) {
                return;
            }
            forgotten.since = None;
            std::mem::take(&mut forgotten.nodes)
        };
        if let Err(errno) = self.exchange(&Request::Forget { nodes }) {
            tracing::warn!(%errno, "vfs did not take references back");
        }
    }

    fn forget(&self, node: NodeId) {
        if node == NodeId::ROOT {
            return;
        }
        let full = {
            let mut forgotten = self.forgotten.lock();
            forgotten.since.get_or_insert_with(Instant::now);
            forgotten.nodes.push(node);
            forgotten.nodes.len() >= FORGET_AT
        };
        if full {
            self.give_back(true);
        }
    }
}

/// A reply of another kind than the request asks for.
pub(super) fn unexpected(reply: &Reply) -> Errno {
    tracing::error!(?reply, "vfs answered something else than was asked");
    Errno::EIO
}

/// A reference to a node of vfs; given back on drop (in batches).
pub struct NodeHandle {
    /// The node.
    pub node: NodeId,
    /// Where it is published; `None` if it is not.
    pub(super) spot: Option<Spot>,
    /// The file that it is, if it is published.
    pub(super) inode: Key,
    /// Where it lives.
    pub(super) client: Arc<VfsClient>,
}

impl NodeHandle {
    /// vfs.
    pub fn client(&self) -> &Arc<VfsClient> {
        &self.client
    }

    /// Whether it is published: vfs alone decides what it is.
    pub(super) fn is_published(&self) -> bool {
        self.spot.is_some()
    }

    /// fstat(2) without asking vfs, if that is possible; `memory` is the memory file behind it, if that is at hand.
    pub(super) fn published_attributes(&self, memory: Option<RawFd>) -> Option<Attributes> {
        self.client.cache.attributes_of(self.spot?, self.inode, memory)
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.client.forget(self.node);
    }
}
