//! What limits are in the files of a control group.

use std::path::Path;

use super::{Hierarchy, Places, write};
use crate::{error::Result, oci::resources::Resources};

impl Places {
    /// Changes the limits that `resources` names.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        self.0.iter().try_for_each(|(hierarchy, directory)| apply(hierarchy, directory, resources))
    }
}

/// Sets limits. Some can only be set after others (memory and swap, quota and period, as they grow or shrink), so those that are
/// refused are tried again after the rest.
pub(super) fn apply(hierarchy: &Hierarchy, directory: &Path, resources: &Resources) -> Result<()> {
    let mut refused = Vec::new();
    for (controller, file, value) in settings(resources, hierarchy.unified) {
        // In a mixed set-up the controller is in one of the two.
        let path = directory.join(&file);
        if hierarchy.has(&controller) && (!hierarchy.unified || path.exists()) && write(&path, &value).is_err() {
            refused.push((path, value));
        }
    }
    refused.iter().try_for_each(|(path, value)| write(path, value))
}

/// Controller, file and value of each limit.
fn settings(resources: &Resources, unified: bool) -> Vec<(String, String, String)> {
    let mut all: Vec<(String, String, String)> = fixed_settings(resources, unified)
        .into_iter()
        .map(|(controller, file, value)| (controller.to_owned(), file.to_owned(), value))
        .collect();
    for (size, limit) in &resources.huge_pages {
        let file = if unified { format!("hugetlb.{size}.max") } else { format!("hugetlb.{size}.limit_in_bytes") };
        all.push(("hugetlb".into(), file, limit.to_string()));
    }
    for (file, field, device, rate) in &resources.block_limits {
        if unified {
            all.push(("io".into(), "io.max".into(), format!("{device} {field}={rate}")));
        } else {
            all.push(("blkio".into(), (*file).to_owned(), format!("{device} {rate}")));
        }
    }
    if unified {
        for (file, value) in &resources.unified {
            let controller = file.split('.').next().unwrap_or_default();
            all.push((controller.to_owned(), file.clone(), value.clone()));
        }
    }
    all
}

fn fixed_settings(resources: &Resources, unified: bool) -> Vec<(&'static str, &'static str, String)> {
    let mut settings = Vec::new();
    let limit = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    let period = resources.cpu_period.unwrap_or(100_000);
    if unified {
        settings.extend(resources.memory.map(|m| ("memory", "memory.max", limit(m))));
        settings.extend(resources.memory_reservation.map(|m| ("memory", "memory.low", limit(m))));
        if let (Some(both), Some(memory)) = (resources.memory_and_swap, resources.memory) {
            let swap = if both < 0 { both } else { (both - memory).max(0) };
            settings.push(("memory", "memory.swap.max", limit(swap)));
        }
        // The kernel's own conversion of weights, 2..=262144 to 1..=10000.
        settings.extend(
            resources.cpu_shares.map(|s| ("cpu", "cpu.weight", (1 + (s.clamp(2, 262_144) - 2) * 9999 / 262_142).to_string())),
        );
        if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
            let quota = resources.cpu_quota.map_or_else(|| "max".to_owned(), limit);
            settings.push(("cpu", "cpu.max", format!("{quota} {period}")));
        }
        settings.extend(resources.cpu_idle.map(|i| ("cpu", "cpu.idle", i.to_string())));
        // Where BFQ schedules, its weight is the same; elsewhere the kernel converts 10..=1000 to 1..=10000 so.
        settings.extend(
            resources
                .block_weight
                .map(|w| ("io", "io.weight", format!("default {}", 1 + (u64::from(w.clamp(10, 1000)) - 10) * 9999 / 990))),
        );
    } else {
        settings.extend(resources.memory.map(|m| ("memory", "memory.limit_in_bytes", m.to_string())));
        settings.extend(resources.memory_reservation.map(|m| ("memory", "memory.soft_limit_in_bytes", m.to_string())));
        settings.extend(resources.memory_and_swap.map(|m| ("memory", "memory.memsw.limit_in_bytes", m.to_string())));
        settings.extend(resources.cpu_shares.map(|s| ("cpu", "cpu.shares", s.to_string())));
        settings.extend(resources.cpu_period.map(|p| ("cpu", "cpu.cfs_period_us", p.to_string())));
        settings.extend(resources.cpu_quota.map(|q| ("cpu", "cpu.cfs_quota_us", q.to_string())));
        settings.extend(resources.realtime_period.map(|p| ("cpu", "cpu.rt_period_us", p.to_string())));
        settings.extend(resources.realtime_runtime.map(|r| ("cpu", "cpu.rt_runtime_us", r.to_string())));
        settings.extend(resources.cpu_idle.map(|i| ("cpu", "cpu.idle", i.to_string())));
        settings.extend(resources.block_weight.map(|w| ("blkio", "blkio.weight", w.to_string())));
        settings.extend(resources.oom_kill_disabled.map(|_| ("memory", "memory.oom_control", "1".to_owned())));
        settings.extend(resources.swappiness.map(|s| ("memory", "memory.swappiness", s.to_string())));
    }
    settings.extend(resources.cpus.clone().map(|list| ("cpuset", "cpuset.cpus", list)));
    settings.extend(resources.memory_nodes.clone().map(|list| ("cpuset", "cpuset.mems", list)));
    settings.extend(
        resources.processes.map(|_| {
            ("pids", "pids.max", resources.host_task_limit().map_or_else(|| "max".to_owned(), |limit| limit.to_string()))
        }),
    );
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_in_each_versions_form() {
        let resources = Resources {
            memory: Some(1 << 20),
            memory_and_swap: Some(3 << 20),
            cpu_quota: Some(50_000),
            processes: Some(10),
            ..Default::default()
        };
        let v2 = settings(&resources, true);
        assert!(v2.contains(&("memory".into(), "memory.swap.max".into(), (2 << 20).to_string())));
        assert!(v2.contains(&("cpu".into(), "cpu.max".into(), "50000 100000".into())));
        let v1 = settings(&resources, false);
        assert!(v1.contains(&("memory".into(), "memory.memsw.limit_in_bytes".into(), (3 << 20).to_string())));
        assert!(v1.contains(&("pids".into(), "pids.max".into(), "1064".into())));
    }
}
