//! Resource limits of the whole sandbox: what its cgroup is told.

use oci_spec::runtime::{LinuxBlockIo, LinuxResources, Spec};

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
    /// Microseconds of real-time CPU time in a period.
    pub realtime_runtime: Option<i64>,
    /// The period of that in microseconds.
    pub realtime_period: Option<u64>,
    /// 1: the processes run only when nothing else does.
    pub cpu_idle: Option<i64>,
    /// Weight of block I/O, 10 to 1000.
    pub block_weight: Option<u16>,
    /// Limits of block I/O: file of version 1, field of version 2's `io.max`, device as `major:minor`, rate.
    pub block_limits: Vec<(&'static str, &'static str, String, u64)>,
    /// Whether the host does not kill for want of memory, but stops (version 1).
    pub oom_kill_disabled: Option<bool>,
    /// Percent, how eagerly anonymous memory is swapped (version 1).
    pub swappiness: Option<u64>,
    /// Bytes of huge pages at most, by page size.
    pub huge_pages: Vec<(String, i64)>,
    /// Files of the hierarchy of version 2, as they are to be written.
    pub unified: Vec<(String, String)>,
}

impl Resources {
    /// What a configuration asks for.
    pub fn of(spec: &Spec) -> Resources {
        let asked = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
        asked.map(Resources::from_oci).unwrap_or_default()
    }

    /// `linux.resources`.
    pub fn from_oci(asked: &LinuxResources) -> Resources {
        let (memory, cpu) = (asked.memory().as_ref(), asked.cpu().as_ref());
        // Zero means "not set" in these fields, as for runc.
        let set = |value: Option<i64>| value.filter(|&v| v != 0);
        let huge_pages = asked.hugepage_limits().iter().flatten().map(|h| (h.page_size().clone(), h.limit())).collect();
        let mut unified: Vec<_> = asked.unified().clone().unwrap_or_default().into_iter().collect();
        unified.sort();
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
            realtime_runtime: set(cpu.and_then(|c| c.realtime_runtime())),
            realtime_period: cpu.and_then(|c| c.realtime_period()).filter(|&p| p != 0),
            cpu_idle: set(cpu.and_then(|c| c.idle())),
            block_weight: asked.block_io().as_ref().and_then(|b| b.weight()).filter(|&w| w != 0),
            block_limits: asked.block_io().as_ref().map(block_limits).unwrap_or_default(),
            oom_kill_disabled: memory.and_then(|m| m.disable_oom_killer()).filter(|&disabled| disabled),
            swappiness: memory.and_then(|m| m.swappiness()),
            huge_pages,
            unified,
        }
    }

    /// Threads that the guest may have at most.
    pub fn task_limit(&self) -> Option<u64> {
        self.processes.and_then(|limit| u64::try_from(limit).ok())
    }

    /// What the host is told of that: a guest thread takes a thread of the host, a process one more for its agent, and the
    /// services have their own (some per CPU), with stubs in reserve. The exact limit is the sentry's.
    pub fn host_task_limit(&self) -> Option<u64> {
        self.task_limit().map(|limit| limit.saturating_mul(4).saturating_add(1024))
    }

    /// Bytes of memory that the guest sees: the limit, if it is below what the host has.
    pub fn guest_memory(&self) -> u64 {
        let host = host_memory().unwrap_or(u64::MAX);
        self.memory.and_then(|limit| u64::try_from(limit).ok()).map_or(host, |limit| limit.min(host))
    }

    /// Whether anything is limited, so that a cgroup is needed.
    pub fn is_limited(&self) -> bool {
        *self != Resources::default()
    }
}

fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes: u64 = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn block_limits(asked: &LinuxBlockIo) -> Vec<(&'static str, &'static str, String, u64)> {
    let lists = [
        ("blkio.throttle.read_bps_device", "rbps", asked.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", "wbps", asked.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", "riops", asked.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", "wiops", asked.throttle_write_iops_device()),
    ];
    let entries =
        lists.into_iter().flat_map(|(file, field, list)| list.iter().flatten().map(move |device| (file, field, device)));
    entries.map(|(file, field, d)| (file, field, format!("{}:{}", d.major(), d.minor()), d.rate())).collect()
}
