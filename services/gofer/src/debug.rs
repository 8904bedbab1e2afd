//! What the gofer answers on its debug socket, beside what every service does: roots, handles, figures.

use std::sync::Arc;

use bulkhead_ipc::debug::Plane;
use tonic::{Request, Response, Status};

use self::proto::{
    Handle, ListHandlesRequest, ListHandlesResponse, ListRootsRequest, ListRootsResponse, Root, StatsRequest, StatsResponse,
    gofer_server::GoferServer,
};
use crate::files::Gofer;

/// The generated code of `proto/gofer.proto`.
#[allow(missing_docs)]
mod proto {
    tonic::include_proto!("bulkhead.gofer.v1");

    /// The protocol's description, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gofer.descriptors"));
}

/// Handles that are listed, unless the client wants another number.
const LIMIT: usize = 10_000;

/// Its debug server. `paths` says where the roots are on the host, which the gofer itself cannot see.
pub fn plane(gofer: Arc<Gofer>, paths: Vec<Vec<u8>>) -> Plane {
    Plane::new().with(proto::DESCRIPTORS, GoferServer::new(Inspector { gofer, paths: paths.into() }))
}

#[derive(Clone)]
struct Inspector {
    gofer: Arc<Gofer>,
    paths: Arc<[Vec<u8>]>,
}

#[tonic::async_trait]
impl proto::gofer_server::Gofer for Inspector {
    async fn list_roots(&self, _: Request<ListRootsRequest>) -> Result<Response<ListRootsResponse>, Status> {
        let roots = self.gofer.roots().iter().zip(self.paths.iter()).enumerate().map(|(number, (root, path))| Root {
            root: number as u32,
            path: String::from_utf8_lossy(path).into_owned(),
            readonly: root.readonly,
            kind: if root.is_file() { "file" } else { "directory" }.to_owned(),
        });
        Ok(Response::new(ListRootsResponse { roots: roots.collect() }))
    }

    async fn list_handles(&self, request: Request<ListHandlesRequest>) -> Result<Response<ListHandlesResponse>, Status> {
        let limit = match request.into_inner().limit {
            0 => LIMIT,
            limit => limit as usize,
        };
        let all = self.gofer.list_handles();
        let left_out = all.len().saturating_sub(limit) as u64;
        let handles = all.into_iter().take(limit).map(|(handle, root, path)| Handle {
            handle,
            root,
            path: String::from_utf8_lossy(&path).into_owned(),
        });
        Ok(Response::new(ListHandlesResponse { handles: handles.collect(), left_out }))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        let figures = self.gofer.figures();
        Ok(Response::new(StatsResponse {
            requests: figures.requests,
            refused: figures.refused,
            donated_fds: figures.donated,
            handles: figures.handles as u64,
            handle_limit: figures.handle_limit as u64,
        }))
    }
}
