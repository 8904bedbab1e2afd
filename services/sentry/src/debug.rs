//! What the sentry answers on its debug socket: processes, address maps, call sites.
//!
//! It only looks. What may have to ask vfs (the names of mapped files) runs on a worker, as all that asks vfs does.

use std::sync::{Arc, OnceLock, Weak};

use bulkhead_ipc::debug::Plane;
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

use crate::{
    executor::{self, Executor, Readiness, WaitQueue},
    kernel::Kernel,
    memory::{AddressSpace, MapLine},
    task::{Process, Task},
};
use proto::{
    GetAddressMapRequest, GetAddressMapResponse, GetCallSitesRequest, GetCallSitesResponse, ListProcessesRequest,
    ListProcessesResponse,
    sentry_server::{Sentry, SentryServer},
};

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

    fn memory(&self, pid: i32) -> Result<Arc<AddressSpace>, Status> {
        let leader = self.kernel()?.pids.process(pid).and_then(|process| process.threads().first().cloned());
        Ok(leader.ok_or_else(|| Status::not_found(format!("no process {pid} with threads")))?.memory())
    }
}

#[tonic::async_trait]
impl Sentry for Debugger {
    async fn list_processes(&self, _: Request<ListProcessesRequest>) -> Result<Response<ListProcessesResponse>, Status> {
        let kernel = self.kernel()?;
        let processes = kernel.pids.processes().iter().filter_map(|process| describe(&kernel, process)).collect();
        Ok(Response::new(ListProcessesResponse { processes }))
    }

    async fn get_address_map(&self, request: Request<GetAddressMapRequest>) -> Result<Response<GetAddressMapResponse>, Status> {
        let maps = maps(self.memory(request.into_inner().pid)?).await;
        let mappings = maps.into_iter().map(|line| proto::Mapping {
            start: line.start,
            end: line.end,
            access: line.access(),
            offset: line.offset,
            name: String::from_utf8_lossy(&line.name).into_owned(),
            resident_bytes: line.resident,
        });
        Ok(Response::new(GetAddressMapResponse { mappings: mappings.collect() }))
    }

    async fn get_call_sites(&self, request: Request<GetCallSitesRequest>) -> Result<Response<GetCallSitesResponse>, Status> {
        let memory = self.memory(request.into_inner().pid)?;
        let (mut found, rewriting) = (memory.call_sites(), memory.is_rewriting());
        found.sort_by_key(|site| std::cmp::Reverse(site.rewritten + site.trapped));
        let maps = maps(memory).await;
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
}

/// `None` when it has just gone.
fn describe(kernel: &Kernel, process: &Process) -> Option<proto::Process> {
    let relations = kernel.pids.relations(process.pid)?;
    let threads: Vec<proto::Thread> = process.threads().iter().map(|task| describe_thread(task)).collect();
    let leader = threads.iter().find(|thread| thread.tid == process.pid).or(threads.first());
    Some(proto::Process {
        pid: process.pid,
        parent: relations.parent,
        group: relations.group,
        session: relations.session,
        name: leader.map_or_else(String::new, |thread| thread.name.clone()),
        state: leader.map_or("zombie", |thread| &thread.state).to_owned(),
        threads,
    })
}

fn describe_thread(task: &Task) -> proto::Thread {
    proto::Thread {
        tid: task.tid(),
        name: String::from_utf8_lossy(&task.name.lock()).into_owned(),
        state: task.cpu.state().word().to_owned(),
    }
}

/// What is mapped, found out on a worker.
async fn maps(memory: Arc<AddressSpace>) -> Vec<MapLine> {
    let answer = Arc::new((Mutex::new(None), Arc::new(WaitQueue::new())));
    let there = answer.clone();
    Executor::spawn(0, async move {
        *there.0.lock() = Some(memory.maps());
        there.1.wake(Readiness::IN);
    });
    executor::wait_for(&answer.1, Readiness::IN, || answer.0.lock().take()).await
}
