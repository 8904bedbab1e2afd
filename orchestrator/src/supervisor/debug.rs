//! What the supervisor answers on its debug socket: the graph of processes and channels, policies, figures. It asks no service, so that
//! none can tell it anything here.

use std::{fs, sync::Arc};

use bulkhead_ipc::{
    confine::{Policy, PolicyError},
    debug::Plane,
};
use tonic::{Request, Response, Status};

use super::{service::Kind, wiring::Link};
use crate::{
    cgroup::Places,
    id::ContainerId,
    inspect::{
        host,
        metrics::Metrics,
        proto::supervisor::{
            Channel, DESCRIPTORS, GetGraphRequest, GetGraphResponse, GetMetricsRequest, GetMetricsResponse, GetPolicyRequest,
            GetPolicyResponse, Process, Rule,
            supervisor_server::{Supervisor, SupervisorServer},
        },
    },
    state::Store,
};

/// Its debug server.
pub(super) fn plane(facts: Facts) -> Plane {
    Plane::new().with(DESCRIPTORS, SupervisorServer::new(Inspector(Arc::new(facts))))
}

/// What the supervisor knows of its sandbox.
#[derive(Debug)]
pub(super) struct Facts {
    pub id: ContainerId,
    pub store: Store,
    pub services: Vec<(Kind, i32)>,
    pub links: Vec<Link>,
}

#[derive(Clone)]
struct Inspector(Arc<Facts>);

#[tonic::async_trait]
impl Supervisor for Inspector {
    async fn get_graph(&self, _: Request<GetGraphRequest>) -> Result<Response<GetGraphResponse>, Status> {
        let facts = &self.0;
        let state = facts.store.load(&facts.id).map_err(|error| Status::internal(error.to_string()))?;
        let status = serde_json::to_value(state.status()).ok().and_then(|status| status.as_str().map(str::to_owned));
        Ok(Response::new(GetGraphResponse {
            sandbox: facts.id.to_string(),
            status: status.unwrap_or_default(),
            bundle: state.bundle.display().to_string(),
            processes: facts.processes(&Places::of(&state.cgroups)),
            created: state.created,
            channels: facts.links.iter().map(channel).collect(),
        }))
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<GetPolicyResponse>, Status> {
        let name = request.into_inner().service;
        let Some((kind, pid)) = self.0.services.iter().find(|(kind, _)| kind.name() == name) else {
            let known = Kind::ALL.map(Kind::name).join(", ");
            return Err(Status::not_found(format!("no service is called {name:?}; there are {known}")));
        };
        let policy = policy(*kind).map_err(|error| Status::internal(error.to_string()))?;
        let rules = policy.rules().iter().map(|rule| Rule {
            call: rule.call(),
            reason: rule.reason.clone(),
            fragment: rule.fragment.unwrap_or_default().to_owned(),
        });
        Ok(Response::new(GetPolicyResponse { rules: rules.collect(), confinement: host::confinement(*pid) }))
    }

    async fn get_metrics(&self, _: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let metrics = self.0.metrics().map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(GetMetricsResponse { text: metrics.text(), families: metrics.families().to_vec() }))
    }
}

/// The policy that a service of this build has.
fn policy(kind: Kind) -> Result<Policy, PolicyError> {
    Policy::parse(match kind {
        Kind::Sentry => include_str!("../../../services/sentry/src/policy.seccomp"),
        Kind::Vfs => include_str!("../../../services/vfs/src/policy.seccomp"),
        Kind::Netstack => include_str!("../../../services/netstack/src/policy.seccomp"),
        Kind::Gofer => include_str!("../../../services/gofer/src/policy.seccomp"),
    })
}

fn channel(link: &Link) -> Channel {
    Channel {
        from: link.from.to_owned(),
        to: link.to.to_owned(),
        kind: link.kind.to_owned(),
        count: link.count as u32,
        purpose: link.purpose.to_owned(),
    }
}

impl Facts {
    fn processes(&self, places: &Places) -> Vec<Process> {
        let own = std::process::id() as i32;
        let calls = |kind| policy(kind).map_or(0, |policy| policy.calls().len() as u32);
        let services = self.services.iter().filter_map(|(kind, pid)| process(kind.name(), *pid, calls(*kind)));
        let known: Vec<i32> = self.services.iter().map(|(_, pid)| *pid).chain([own]).collect();
        let sentry = self.services.iter().find(|(kind, _)| *kind == Kind::Sentry).map(|(_, pid)| *pid);
        let others = places.members().into_iter().filter(|pid| !known.contains(pid));
        // What else is in the control group and not the sentry's child stands for a program that `exec` ran.
        let others = others.filter_map(|pid| {
            let parent = host::usage(pid)?.parent;
            process(if Some(parent) == sentry { "stub" } else { "exec" }, pid, 0)
        });
        process("supervisor", own, 0).into_iter().chain(services).chain(others).collect()
    }

    fn metrics(&self) -> crate::error::Result<Metrics> {
        let state = self.store.load(&self.id)?;
        let places = Places::of(&state.cgroups);
        let sandbox = self.id.as_str();
        let mut metrics = Metrics::default();
        let processes = self.processes(&places);
        let seconds = |microseconds: u64| microseconds as f64 / 1e6;
        for process in processes.iter().filter(|process| !matches!(process.name.as_str(), "stub" | "exec")) {
            let labels = [("sandbox", sandbox), ("service", process.name.as_str())];
            let resident = process.resident_bytes as f64;
            metrics.gauge("bulkhead_service_resident_bytes", "Memory of a service, shared memory included.", &labels, resident);
            let cpu = seconds(process.cpu_microseconds);
            metrics.counter("bulkhead_service_cpu_seconds_total", "CPU time of a service's own process.", &labels, cpu);
            metrics.gauge("bulkhead_service_threads", "Threads of a service.", &labels, process.threads.into());
        }
        let label = [("sandbox", sandbox)];
        let count = |name| processes.iter().filter(|process| process.name == name).count() as f64;
        metrics.gauge("bulkhead_stubs", "Host processes in which guest code runs.", &label, count("stub"));
        let status = if state.status() == crate::state::Status::Running { 1.0 } else { 0.0 };
        metrics.gauge("bulkhead_sandbox_running", "Whether the container's program runs.", &label, status);
        let uptime = uptime(std::process::id() as i32).unwrap_or(0.0);
        metrics.gauge("bulkhead_sandbox_uptime_seconds", "Time since the supervisor started.", &label, uptime);
        group_metrics(&mut metrics, &places, &label);
        Ok(metrics)
    }
}

/// Figures of the control group: all processes of the sandbox together.
fn group_metrics(metrics: &mut Metrics, places: &Places, label: &[(&str, &str)]) {
    let stats = places.stats();
    let number = |pointer: &str| stats.pointer(pointer).and_then(serde_json::Value::as_f64);
    if let Some(total) = number("/cpu/usage/total") {
        metrics.counter("bulkhead_sandbox_cpu_seconds_total", "CPU time of the control group.", label, total / 1e9);
    }
    if let Some(usage) = number("/memory/usage/usage") {
        metrics.gauge("bulkhead_sandbox_memory_bytes", "Memory of the control group.", label, usage);
    }
    if let Some(limit) = number("/memory/usage/limit").filter(|limit| *limit < 9e18) {
        metrics.gauge("bulkhead_sandbox_memory_limit_bytes", "What it may use.", label, limit);
    }
    if let Some(pids) = number("/pids/current") {
        metrics.gauge("bulkhead_sandbox_host_threads", "Host threads of the control group.", label, pids);
    }
    let killed = places.oom_kills() as f64;
    metrics.counter("bulkhead_sandbox_oom_kills_total", "Processes that the host killed for want of memory.", label, killed);
}

fn process(name: &str, pid: i32, host_calls: u32) -> Option<Process> {
    let usage = host::usage(pid)?;
    Some(Process {
        name: name.to_owned(),
        pid,
        parent: usage.parent,
        threads: usage.threads,
        resident_bytes: usage.resident,
        cpu_microseconds: usage.cpu,
        confinement: host::confinement(pid),
        host_calls,
    })
}

/// Seconds since a process started.
fn uptime(pid: i32) -> Option<f64> {
    let started = crate::state::process_started(pid)? as f64 / 100.0;
    let now: f64 = fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    Some((now - started).max(0.0))
}
