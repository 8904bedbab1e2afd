//! What vfs answers on its debug socket, beside what every service does: mounts, what it knows of a path, what the sentry holds, locks,
//! and how much it keeps. It only looks, and asks nobody: the gofer's connections are the server threads'.

use std::sync::Arc;

use bulkhead_ipc::{
    debug::Plane,
    vfs::{LockFamily, LockKind, NodeId, Reply},
};
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

use self::proto::{
    CacheStatsRequest, CacheStatsResponse, ListLocksRequest, ListLocksResponse, ListMountsRequest, ListMountsResponse,
    ListOpenFilesRequest, ListOpenFilesResponse, Lock, LookupRequest, LookupResponse, Mount, OpenFile, Step,
    step::State,
    vfs_server::{Vfs, VfsServer},
};
use crate::{
    mounts::{Place, Seen},
    tree::{Body, Content, DentryState, FsKind, InodeId, Tree},
    world::World,
};

/// The generated code of `proto/vfs.proto`.
#[allow(missing_docs)]
mod proto {
    tonic::include_proto!("bulkhead.vfs.v1");

    /// The protocol's description, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vfs.descriptors"));
}

/// Open files that are listed, unless the client wants another number.
const LIMIT: usize = 10_000;

/// Its debug server.
pub fn plane(world: Arc<Mutex<World>>) -> Plane {
    Plane::new().with(proto::DESCRIPTORS, VfsServer::new(Inspector { world }))
}

#[derive(Clone)]
struct Inspector {
    world: Arc<Mutex<World>>,
}

#[tonic::async_trait]
impl Vfs for Inspector {
    async fn list_mounts(&self, _: Request<ListMountsRequest>) -> Result<Response<ListMountsResponse>, Status> {
        let Ok(Reply::Mounts(table)) = self.world.lock().mount_table(NodeId::ROOT) else {
            return Err(Status::internal("there is no mount table"));
        };
        let mounts = table.into_iter().map(|mount| Mount {
            id: mount.id,
            parent: mount.parent,
            mountpoint: lossy(&mount.mountpoint),
            fstype: mount.fstype,
            source: mount.source,
            options: mount.options,
            flags: mount.flags,
        });
        Ok(Response::new(ListMountsResponse { mounts: mounts.collect() }))
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let path = request.into_inner().path;
        if !path.starts_with('/') {
            return Err(Status::invalid_argument(format!("{path:?} is no path from the root")));
        }
        Ok(Response::new(LookupResponse { steps: look_up(&self.world.lock(), &path) }))
    }

    async fn list_open_files(&self, request: Request<ListOpenFilesRequest>) -> Result<Response<ListOpenFilesResponse>, Status> {
        let limit = match request.into_inner().limit {
            0 => LIMIT,
            limit => limit as usize,
        };
        let world = self.world.lock();
        let root = world.nodes.place(NodeId::ROOT).map_err(|_| Status::internal("there is no root"))?;
        let mut nodes: Vec<_> = world.nodes.all().collect();
        nodes.sort_by_key(|(node, ..)| node.0);
        let left_out = nodes.len().saturating_sub(limit) as u64;
        let files = nodes.into_iter().take(limit).map(|(node, place, references)| OpenFile {
            node: node.0,
            path: world.path_of(place, root).map_or_else(|errno| format!("({errno})"), |path| lossy(&path)),
            references,
            inode: world.tree.inode_of(place.dentry).ok().map(|inode| describe(&world.tree, inode)),
        });
        Ok(Response::new(ListOpenFilesResponse { files: files.collect(), left_out }))
    }

    async fn list_locks(&self, _: Request<ListLocksRequest>) -> Result<Response<ListLocksResponse>, Status> {
        let world = self.world.lock();
        let locks = world.tree.inodes.iter().flat_map(|(_, inode)| {
            let device = world.tree.filesystem(inode.fs).device;
            inode.locks.all().map(move |lock| Lock {
                inode: inode.attributes.inode,
                device,
                family: match lock.family {
                    LockFamily::Flock => "flock",
                    LockFamily::Record if lock.pid < 0 => "ofd",
                    LockFamily::Record => "posix",
                }
                .to_owned(),
                kind: if lock.kind == LockKind::Write { "write" } else { "read" }.to_owned(),
                pid: lock.pid,
                start: lock.start,
                end: lock.end,
                owner: lock.owner,
            })
        });
        Ok(Response::new(ListLocksResponse { locks: locks.collect() }))
    }

    async fn cache_stats(&self, _: Request<CacheStatsRequest>) -> Result<Response<CacheStatsResponse>, Status> {
        let world = self.world.lock();
        Ok(Response::new(CacheStatsResponse {
            requests: world.answered,
            dentries: world.tree.dentries.count() as u64,
            dentries_cached: world.tree.cached() as u64,
            inodes: world.tree.inodes.count() as u64,
            nodes: world.nodes.count() as u64,
            names_published: world.published.names() as u64,
            bytes_in_memory: world.tree.all_filesystems().map(|fs| world.tree.bytes_used(fs)).sum(),
        }))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is known of a path, name by name.
fn look_up(world: &World, path: &str) -> Vec<Step> {
    let Ok(root) = world.nodes.place(NodeId::ROOT) else { return Vec::new() };
    let mut steps = Vec::new();
    let mut shown = String::new();
    let mut names = path.split('/').filter(|name| !name.is_empty() && *name != ".");
    let mut here = root;
    loop {
        here = match world.mounts.enter(here) {
            Seen::Tree(place) => place,
            Seen::Foreign(mount) => {
                steps.push(Step { path: shape(&shown), mount, state: State::Foreign.into(), inode: None });
                return steps;
            }
        };
        let state = world.tree.dentries[here.dentry].state;
        let (name, inode) = match state {
            DentryState::Inode(inode) => (State::Present, Some(describe(&world.tree, inode))),
            DentryState::Absent { whiteout: true } => (State::Whiteout, None),
            DentryState::Absent { whiteout: false } => (State::Absent, None),
            DentryState::Listed { .. } => (State::Listed, None),
        };
        steps.push(Step { path: shape(&shown), mount: here.mount, state: name.into(), inode });
        let Some(name) = names.next().filter(|_| world.tree.is_directory(here.dentry)) else { return steps };
        shown = format!("{shown}/{name}");
        match world.tree.known_child(here.dentry, name.as_bytes()) {
            Some(Some(dentry)) => here = Place { mount: here.mount, dentry },
            known => {
                let state = if known.is_some() { State::Absent } else { State::Unknown };
                steps.push(Step { path: shown, mount: here.mount, state: state.into(), inode: None });
                return steps;
            }
        }
    }
}

fn shape(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

fn describe(tree: &Tree, id: InodeId) -> proto::Inode {
    let inode = &tree.inodes[id];
    let (content, target) = match &inode.body {
        Body::Directory(_) => ("directory", String::new()),
        Body::File(Content::Host(_)) => ("host", String::new()),
        Body::File(Content::Empty | Content::Memory(_)) => ("memory", String::new()),
        Body::Symlink(target) => ("symlink", lossy(target)),
        Body::Special => ("special", String::new()),
    };
    let filesystem = match tree.filesystem(inode.fs).kind {
        FsKind::Memory => "memory",
        FsKind::Overlay => "overlay",
        FsKind::Gofer => "gofer",
    };
    proto::Inode {
        number: inode.attributes.inode,
        mode: inode.attributes.mode,
        uid: inode.attributes.uid,
        gid: inode.attributes.gid,
        links: inode.attributes.links,
        size: inode.attributes.size,
        content: content.to_owned(),
        filesystem: filesystem.to_owned(),
        target,
        upper: inode.upper,
        lent: tree.is_lent(id),
    }
}
