//! What a container uses, from its control groups, in the form that runc's `events` has for it.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use super::Places;

/// Nanoseconds of a clock tick (USER_HZ is 100 on every Linux).
const TICK: u64 = 10_000_000;

impl Places {
    /// The figures. What the host does not count is zero or left out, as in runc's.
    pub fn stats(&self) -> Value {
        json!({
            "cpu": self.cpu(),
            "cpuset": self.cpuset(),
            "memory": self.memory(),
            "pids": self.pids(),
            "blkio": self.blkio(),
            "hugetlb": self.hugetlb(),
            "intel_rdt": {},
            "network_interfaces": null,
        })
    }

    /// How often the host has killed processes of it for want of memory.
    pub fn oom_kills(&self) -> u64 {
        if let Some(directory) = self.legacy("memory") {
            return table(&directory.join("memory.oom_control")).get("oom_kill").and_then(Value::as_u64).unwrap_or(0);
        }
        let events = self.unified().map(|directory| table(&directory.join("memory.events")));
        events.and_then(|events| events.get("oom_kill").and_then(Value::as_u64)).unwrap_or(0)
    }

    fn cpu(&self) -> Value {
        let mut usage = Map::new();
        let mut throttling = Map::new();
        if let Some(directory) = self.legacy("cpuacct") {
            insert(&mut usage, "total", number(&directory.join("cpuacct.usage")));
            let per_cpu = numbers(&directory.join("cpuacct.usage_percpu"));
            insert_list(&mut usage, "percpu", per_cpu);
            let all = fs::read_to_string(directory.join("cpuacct.usage_all")).unwrap_or_default();
            let column = |n: usize| -> Vec<u64> {
                all.lines().skip(1).filter_map(|line| line.split_whitespace().nth(n)?.parse().ok()).collect()
            };
            insert_list(&mut usage, "percpu_kernel", column(2));
            insert_list(&mut usage, "percpu_user", column(1));
            let ticks = table(&directory.join("cpuacct.stat"));
            let time = |name: &str| ticks.get(name).and_then(Value::as_u64).unwrap_or(0).saturating_mul(TICK);
            usage.insert("kernel".into(), time("system").into());
            usage.insert("user".into(), time("user").into());
        }
        let (statistics, scale) = match (self.legacy("cpu"), self.unified()) {
            (Some(directory), _) => (table(&directory.join("cpu.stat")), 1),
            (None, Some(directory)) => (table(&directory.join("cpu.stat")), 1000),
            (None, None) => (Map::new(), 1),
        };
        let get = |name: &str| statistics.get(name).and_then(Value::as_u64).unwrap_or(0);
        if usage.is_empty() {
            insert(&mut usage, "total", get("usage_usec") * 1000);
            usage.insert("kernel".into(), (get("system_usec") * 1000).into());
            usage.insert("user".into(), (get("user_usec") * 1000).into());
        }
        insert(&mut throttling, "periods", get("nr_periods"));
        insert(&mut throttling, "throttledPeriods", get("nr_throttled"));
        let throttled = if scale == 1 { get("throttled_time") } else { get("throttled_usec") * scale };
        insert(&mut throttling, "throttledTime", throttled);
        json!({ "usage": usage, "throttling": throttling })
    }

    fn cpuset(&self) -> Value {
        let mut set = Map::new();
        let directory = self.legacy("cpuset");
        let list = |name: &str| {
            directory.map(|d| expand(fs::read_to_string(d.join(name)).unwrap_or_default().trim())).unwrap_or_default()
        };
        let flag = |name: &str| -> i64 {
            let text = directory.and_then(|d| fs::read_to_string(d.join(name)).ok());
            text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        insert_list(&mut set, "cpus", list("cpuset.cpus"));
        set.insert("cpu_exclusive".into(), flag("cpuset.cpu_exclusive").into());
        insert_list(&mut set, "mems", list("cpuset.mems"));
        for name in [
            "mem_hardwall",
            "mem_exclusive",
            "memory_migrate",
            "memory_spread_page",
            "memory_spread_slab",
            "memory_pressure",
            "sched_load_balance",
            "sched_relax_domain_level",
        ] {
            set.insert(name.into(), flag(&format!("cpuset.{name}")).into());
        }
        set.into()
    }

    fn memory(&self) -> Value {
        if let Some(directory) = self.legacy("memory") {
            let raw = table(&directory.join("memory.stat"));
            let mut memory = Map::new();
            insert(&mut memory, "cache", raw.get("cache").and_then(Value::as_u64).unwrap_or(0));
            for (name, prefix) in
                [("usage", "memory."), ("swap", "memory.memsw."), ("kernel", "memory.kmem."), ("kernelTCP", "memory.kmem.tcp.")]
            {
                let file = |suffix: &str| number(&directory.join(format!("{prefix}{suffix}")));
                let (used, most) = (file("usage_in_bytes"), file("max_usage_in_bytes"));
                memory.insert(name.into(), entry(file("limit_in_bytes"), used, most, file("failcnt")));
            }
            memory.insert("raw".into(), raw.into());
            return memory.into();
        }
        let Some(directory) = self.unified() else {
            return json!({ "usage": entry(0, 0, 0, 0), "swap": entry(0, 0, 0, 0), "kernel": entry(0, 0, 0, 0),
                           "kernelTCP": entry(0, 0, 0, 0) });
        };
        let raw = table(&directory.join("memory.stat"));
        let mut memory = Map::new();
        insert(&mut memory, "cache", raw.get("file").and_then(Value::as_u64).unwrap_or(0));
        let file = |name: &str| number(&directory.join(name));
        let failures = table(&directory.join("memory.events")).get("max").and_then(Value::as_u64).unwrap_or(0);
        let (used, most, limit) = (file("memory.current"), file("memory.peak"), file("memory.max"));
        memory.insert("usage".into(), entry(limit, used, most, failures));
        // As version 1 counts: with the memory.
        let (swapped, swap_most) = (file("memory.swap.current"), file("memory.swap.max"));
        memory.insert("swap".into(), entry(limit.saturating_add(swap_most), used.saturating_add(swapped), 0, 0));
        memory.insert("kernel".into(), entry(0, 0, 0, 0));
        memory.insert("kernelTCP".into(), entry(0, 0, 0, 0));
        memory.insert("raw".into(), raw.into());
        memory.into()
    }

    fn pids(&self) -> Value {
        let mut pids = Map::new();
        if let Some(directory) = self.legacy("pids").or_else(|| self.unified()) {
            insert(&mut pids, "current", number(&directory.join("pids.current")));
            let limit = fs::read_to_string(directory.join("pids.max")).unwrap_or_default();
            insert(&mut pids, "limit", limit.trim().parse().unwrap_or(0));
        }
        pids.into()
    }

    fn blkio(&self) -> Value {
        let mut blkio = Map::new();
        if let Some(directory) = self.legacy("blkio") {
            for (name, file) in [("ioServiceBytesRecursive", "io_service_bytes"), ("ioServicedRecursive", "io_serviced")] {
                let entries = ["bfq", "throttle"]
                    .map(|policy| device_entries(&directory.join(format!("blkio.{policy}.{file}_recursive"))))
                    .into_iter()
                    .find(|entries| !entries.is_empty());
                if let Some(entries) = entries {
                    blkio.insert(name.into(), entries.into());
                }
            }
        } else if let Some(directory) = self.unified() {
            let text = fs::read_to_string(directory.join("io.stat")).unwrap_or_default();
            for (name, fields) in [
                ("ioServiceBytesRecursive", [("rbytes=", "Read"), ("wbytes=", "Write")]),
                ("ioServicedRecursive", [("rios=", "Read"), ("wios=", "Write")]),
            ] {
                let entries: Vec<Value> = text.lines().flat_map(|line| unified_entries(line, fields)).collect();
                if !entries.is_empty() {
                    blkio.insert(name.into(), entries.into());
                }
            }
        }
        blkio.into()
    }

    fn hugetlb(&self) -> Value {
        let mut sizes = Map::new();
        let Some(directory) = self.legacy("hugetlb") else { return sizes.into() };
        for file in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let Some(size) = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".usage_in_bytes")) else {
                continue;
            };
            if size.ends_with(".rsvd") {
                continue;
            }
            let of = |what: &str| number(&directory.join(format!("hugetlb.{size}.{what}")));
            let mut entry = Map::new();
            insert(&mut entry, "usage", of("usage_in_bytes"));
            insert(&mut entry, "max", of("max_usage_in_bytes"));
            entry.insert("failcnt".into(), of("failcnt").into());
            sizes.insert(size.into(), entry.into());
        }
        sizes.into()
    }
}

/// Leaves out zero.
fn insert(map: &mut Map<String, Value>, name: &str, value: u64) {
    if value != 0 {
        map.insert(name.into(), value.into());
    }
}

/// Leaves out an empty list.
fn insert_list(map: &mut Map<String, Value>, name: &str, values: Vec<u64>) {
    if !values.is_empty() {
        map.insert(name.into(), values.into());
    }
}

fn entry(limit: u64, usage: u64, most: u64, failures: u64) -> Value {
    let mut entry = Map::new();
    entry.insert("limit".into(), limit.into());
    insert(&mut entry, "usage", usage);
    insert(&mut entry, "max", most);
    entry.insert("failcnt".into(), failures.into());
    entry.into()
}

/// A file with one number; "max" is the largest.
fn number(file: &Path) -> u64 {
    match fs::read_to_string(file).unwrap_or_default().trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

fn numbers(file: &Path) -> Vec<u64> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// A file of lines `name number`.
fn table(file: &Path) -> Map<String, Value> {
    let line = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), Value::from(number.trim().parse::<u64>().ok()?)))
    };
    fs::read_to_string(file).unwrap_or_default().lines().filter_map(line).collect()
}

/// `0-2,5` as numbers.
fn expand(list: &str) -> Vec<u64> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u64>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Lines `8:0 Read 4096`.
fn device_entries(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        device_entry(major, minor, words.next()?, words.next()?.parse().ok()?)
    };
    text.lines().filter_map(line).collect()
}

fn unified_entries(line: &str, fields: [(&str, &str); 2]) -> Vec<Value> {
    let mut words = line.split_whitespace();
    let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { return Vec::new() };
    let found = fields.map(|(prefix, operation)| {
        let value = words.clone().find_map(|word| word.strip_prefix(prefix))?.parse().ok()?;
        device_entry(major, minor, operation, value)
    });
    found.into_iter().flatten().collect()
}

fn device_entry(major: &str, minor: &str, operation: &str, value: u64) -> Option<Value> {
    let mut entry = Map::new();
    insert(&mut entry, "major", major.parse().ok()?);
    insert(&mut entry, "minor", minor.parse().ok()?);
    entry.insert("op".into(), operation.into());
    insert(&mut entry, "value", value);
    Some(entry.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_expanded_and_lines_of_devices_read() {
        assert_eq!(expand("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(expand(""), [0; 0]);
        let entries = unified_entries("8:16 rbytes=10 wbytes=0 rios=1", [("rbytes=", "Read"), ("wbytes=", "Write")]);
        assert_eq!(entries[0], json!({ "major": 8, "minor": 16, "op": "Read", "value": 10 }));
        assert_eq!(entries[1], json!({ "major": 8, "minor": 16, "op": "Write" }));
    }
}
