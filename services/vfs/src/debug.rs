//! What vfs answers on its debug socket, beside what every service does: how much it keeps, and its mounts.

use std::sync::Arc;

use bulkhead_ipc::{
    debug::Plane,
    vfs::{NodeId, Reply},
};
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

use self::proto::{
    GetCacheRequest, GetCacheResponse, ListMountsRequest, ListMountsResponse, Mount,
    files_server::{Files, FilesServer},
};
use crate::world::World;

/// The generated code of `proto/vfs.proto`.
#[allow(missing_docs)]
mod proto {
    tonic::include_proto!("bulkhead.vfs.v1");

    /// The protocol's description, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vfs.descriptors"));
}

/// Its debug server.
pub fn plane(world: Arc<Mutex<World>>) -> Plane {
    Plane::new().with(proto::DESCRIPTORS, FilesServer::new(Inspector { world }))
}

#[derive(Clone)]
struct Inspector {
    world: Arc<Mutex<World>>,
}

#[tonic::async_trait]
impl Files for Inspector {
    async fn get_cache(&self, _: Request<GetCacheRequest>) -> Result<Response<GetCacheResponse>, Status> {
        let world = self.world.lock();
        Ok(Response::new(GetCacheResponse {
            requests: world.answered,
            dentries: world.tree.dentries.count() as u64,
            dentries_cached: world.tree.cached() as u64,
            inodes: world.tree.inodes.count() as u64,
            nodes: world.nodes.count() as u64,
            names_published: world.published.names() as u64,
        }))
    }

    async fn list_mounts(&self, _: Request<ListMountsRequest>) -> Result<Response<ListMountsResponse>, Status> {
        let Ok(Reply::Mounts(table)) = self.world.lock().mount_table(NodeId::ROOT) else {
            return Err(Status::internal("there is no mount table"));
        };
        let mounts = table.into_iter().map(|mount| Mount {
            id: mount.id,
            parent: mount.parent,
            mountpoint: mount.mountpoint,
            fstype: mount.fstype,
            source: mount.source,
            options: mount.options,
            flags: mount.flags,
        });
        Ok(Response::new(ListMountsResponse { mounts: mounts.collect() }))
    }
}
