//! What the sentry answers on its debug socket: processes and what they have, call sites, and system calls as they are made.
//!
//! It only looks. What may have to ask vfs (the names of files) runs on a worker, as all that asks vfs does.
//!
//! - `tasks`: processes, their credentials, files and mappings
//! - `syscalls`: the streams of `TraceSyscalls` and `SyscallStats`

mod syscalls;
mod tasks;

use std::sync::{Arc, OnceLock, Weak};

use bulkhead_ipc::debug::{Keeper, Plane};
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

use crate::{
    executor::{self, Executor, Readiness, WaitQueue},
    kernel::Kernel,
    task::Task,
};
use proto::{
    GetCallSitesRequest, GetCallSitesResponse, GetTaskRequest, GetTaskResponse, ListFdsRequest, ListFdsResponse,
    ListMappingsRequest, ListMappingsResponse, ListTasksRequest, ListTasksResponse, SyscallStatsRequest, SyscallStatsResponse,
    TraceSyscallsRequest, TraceSyscallsResponse,
    sentry_server::{Sentry, SentryServer},
};
use syscalls::Reports;

/// The generated code of `proto/sentry.proto`.
#[allow(missing_docs)]
pub mod proto {
    tonic::include_proto!("bulkhead.sentry.v1");

    /// The protocol's description, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sentry.descriptors"));
}

/// Answers from the kernel, once there is one: the socket is there before.
#[derive(Clone, Default)]
pub struct Debugger {
    kernel: Arc<OnceLock<Weak<Kernel>>>,
}

impl Debugger {
    /// The debug server.
    pub fn plane(&self) -> Plane {
        Plane::new().with(proto::DESCRIPTORS, SentryServer::new(self.clone()))
    }

    /// Answers from this kernel from now on.
    pub fn attach(&self, kernel: &Arc<Kernel>) {
        let _ = self.kernel.set(Arc::downgrade(kernel));
    }

    fn kernel(&self) -> Result<Arc<Kernel>, Status> {
        self.kernel.get().and_then(Weak::upgrade).ok_or_else(|| Status::unavailable("the sentry is starting"))
    }

    /// The thread with that number, or the first of the process with it.
    fn task(&self, number: i32) -> Result<Arc<Task>, Status> {
        let pids = &self.kernel()?.pids;
        let leader = || pids.process(number)?.threads().first().cloned();
        pids.task(number).or_else(leader).ok_or_else(|| Status::not_found(format!("there is no process or thread {number}")))
    }
}

#[tonic::async_trait]
impl Sentry for Debugger {
    type TraceSyscallsStream = Reports<TraceSyscallsResponse>;
    type SyscallStatsStream = Reports<SyscallStatsResponse>;

    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        let kernel = self.kernel()?;
        let processes = kernel.pids.processes().iter().filter_map(|process| tasks::describe(&kernel, process)).collect();
        Ok(Response::new(ListTasksResponse { processes }))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        let task = self.task(request.into_inner().pid)?;
        Ok(Response::new(on_worker(move || tasks::inspect(&task)).await))
    }

    async fn list_fds(&self, request: Request<ListFdsRequest>) -> Result<Response<ListFdsResponse>, Status> {
        let task = self.task(request.into_inner().pid)?;
        Ok(Response::new(ListFdsResponse { fds: on_worker(move || tasks::fds(&task)).await }))
    }

    async fn list_mappings(&self, request: Request<ListMappingsRequest>) -> Result<Response<ListMappingsResponse>, Status> {
        let memory = self.task(request.into_inner().pid)?.memory();
        let mappings = on_worker(move || memory.maps()).await.into_iter().map(tasks::mapping).collect();
        Ok(Response::new(ListMappingsResponse { mappings }))
    }

    async fn get_call_sites(&self, request: Request<GetCallSitesRequest>) -> Result<Response<GetCallSitesResponse>, Status> {
        let memory = self.task(request.into_inner().pid)?.memory();
        let (mut found, rewriting) = (memory.call_sites(), memory.is_rewriting());
        found.sort_by_key(|site| std::cmp::Reverse(site.rewritten + site.trapped));
        let maps = on_worker(move || memory.maps()).await;
        let sites = found.into_iter().map(|site| {
            let line = maps.iter().find(|line| (line.start..line.end).contains(&site.address) && line.inode != 0);
            proto::CallSite {
                address: site.address,
                file: line.map_or_else(String::new, |line| String::from_utf8_lossy(&line.name).into_owned()),
                offset: line.map_or(0, |line| line.offset + (site.address - line.start)),
                rewritten: site.rewritten,
                trapped: site.trapped,
            }
        });
        Ok(Response::new(GetCallSitesResponse { sites: sites.collect(), rewriting }))
    }

    async fn trace_syscalls(
        &self,
        request: Request<TraceSyscallsRequest>,
    ) -> Result<Response<Self::TraceSyscallsStream>, Status> {
        let (connection, request) = (keeper(&request), request.into_inner());
        request.pids.iter().try_for_each(|&number| self.task(number).map(drop))?;
        let kernel = self.kernel()?;
        syscalls::trace(&kernel, connection, &request).map(Response::new)
    }

    async fn syscall_stats(&self, request: Request<SyscallStatsRequest>) -> Result<Response<Self::SyscallStatsStream>, Status> {
        let (connection, request) = (keeper(&request), request.into_inner());
        request.pids.iter().try_for_each(|&number| self.task(number).map(drop))?;
        let kernel = self.kernel()?;
        syscalls::stats(&kernel, connection, &request).map(Response::new)
    }
}

/// What keeps things for as long as a request's connection is open.
fn keeper<T>(request: &Request<T>) -> Keeper {
    request.extensions().get().cloned().unwrap_or_default()
}

/// Something that may ask vfs, found out on a worker.
async fn on_worker<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    let answer = Arc::new((Mutex::new(None), Arc::new(WaitQueue::new())));
    let there = answer.clone();
    Executor::spawn(0, async move {
        *there.0.lock() = Some(look());
        there.1.wake(Readiness::IN);
    });
    executor::wait_for(&answer.1, Readiness::IN, || answer.0.lock().take()).await
}
