//! Resource limits of the whole sandbox: what its cgroup is told.

use oci_spec::runtime::Spec;

/// From `linux.resources`; `None` leaves the host's default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    /// Bytes of memory at most; -1 is no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together at most; -1 is no limit.
    pub memory_and_swap: Option<i64>,
    /// Soft limit in bytes.
    pub memory_reservation: Option<i64>,
    /// Weight, as cgroup v1 counts (1024 is usual).
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time in a period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// The period in microseconds.
    pub cpu_period: Option<u64>,
    /// CPUs, as a list such as `0-3,7`.
    pub cpus: Option<String>,
    /// Memory nodes, as a list.
    pub memory_nodes: Option<String>,
    /// Processes at most; 0 and below is no limit.
    pub processes: Option<i64>,
}

impl Resources {
    /// What a configuration asks for.
    pub fn of(spec: &Spec) -> Resources {
        let Some(asked) = spec.linux().as_ref().and_then(|l| l.resources().as_ref()) else { return Resources::default() };
        let (memory, cpu) = (asked.memory().as_ref(), asked.cpu().as_ref());
        // Zero means "not set" in these fields, as for runc.
        let set = |value: Option<i64>| value.filter(|&v| v != 0);
        Resources {
            memory: set(memory.and_then(|m| m.limit())),
            memory_and_swap: set(memory.and_then(|m| m.swap())),
            memory_reservation: set(memory.and_then(|m| m.reservation())),
            cpu_shares: cpu.and_then(|c| c.shares()).filter(|&s| s != 0),
            cpu_quota: set(cpu.and_then(|c| c.quota())),
            cpu_period: cpu.and_then(|c| c.period()).filter(|&p| p != 0),
            cpus: cpu.and_then(|c| c.cpus().clone()).filter(|list| !list.is_empty()),
            memory_nodes: cpu.and_then(|c| c.mems().clone()).filter(|list| !list.is_empty()),
            processes: set(asked.pids().as_ref().map(|p| p.limit())),
        }
    }

    /// Whether anything is limited, so that a cgroup is needed.
    pub fn is_limited(&self) -> bool {
        *self != Resources::default()
    }
}
