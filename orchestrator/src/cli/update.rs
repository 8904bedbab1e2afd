//! `update`: other limits for a container.

use std::{io::Read, path::PathBuf};

use clap::Args;
use oci_spec::runtime::LinuxResources;

use super::{Context, parse_id};
use crate::{
    cgroup::Places,
    error::{Error, Result},
    oci::resources::Resources,
    state::Status,
    supervisor::control::Supervisor,
};

/// Arguments of `update`. Those of the specification's file replace all others.
#[derive(Args, Debug)]
pub struct Arguments {
    /// File with OCI resources in JSON, or - for standard input
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Period of the CPU quota in microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// CPU time in a period in microseconds, -1 for no limit
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Weight among containers; 1024 is usual
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Real-time period in microseconds (refused by most hosts)
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<u64>,
    /// Real-time share in microseconds (refused by most hosts)
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPUs to use, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Bytes of memory, such as 512m
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_size)]
    memory: Option<i64>,
    /// Soft limit of memory
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_size)]
    memory_reservation: Option<i64>,
    /// Bytes of memory and swap together, -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_size)]
    memory_swap: Option<i64>,
    /// Without effect: the host has no limit of its kernel's memory any more
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory: Option<String>,
    /// As --kernel-memory
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory_tcp: Option<String>,
    /// Processes at most
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Refused: Intel RDT is not supported
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Refused: Intel RDT is not supported
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Changes the limits.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let id = parse_id(&arguments.id)?;
    let state = context.store.load(&id)?;
    let status = state.status();
    if status == Status::Stopped {
        return Err(Error::Usage("container not running".into()));
    }
    let resources = match &arguments.resources {
        Some(file) => read(file)?,
        None => given(context, arguments)?,
    };
    Places::of(&state.cgroups).update(&resources)?;
    let paused = status == Status::Paused;
    if resources.processes.is_some() {
        Supervisor::connect(&context.store.directory(&id))?.limit_tasks(resources.task_limit(), paused)?;
    }
    if resources.memory.is_some() {
        Supervisor::connect(&context.store.directory(&id))?.limit_memory(resources.guest_memory(), paused)?;
    }
    Ok(0)
}

fn read(file: &PathBuf) -> Result<Resources> {
    let mut text = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut text).map_err(Error::host("read the resources from standard input"))?;
    } else {
        text = std::fs::read(file).map_err(Error::file("read", file))?;
    }
    let wrong = |what: String| Error::Config { file: file.clone(), what };
    let resources: LinuxResources = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&text))
        .map_err(|error| wrong(format!("{}: {}", error.path(), error.inner())))?;
    Ok(Resources::from_oci(&resources))
}

fn given(context: &Context, arguments: &Arguments) -> Result<Resources> {
    for (flag, given) in [("--l3-cache-schema", &arguments.l3_cache_schema), ("--mem-bw-schema", &arguments.mem_bw_schema)] {
        if given.is_some() {
            return Err(Error::Usage(format!("{flag}: Intel RDT is not supported")));
        }
    }
    if arguments.kernel_memory.is_some() || arguments.kernel_memory_tcp.is_some() {
        context.log.information("update --kernel-memory: without effect");
    }
    let set = |value: Option<i64>| value.filter(|&v| v != 0);
    Ok(Resources {
        memory: set(arguments.memory),
        memory_and_swap: set(arguments.memory_swap),
        memory_reservation: set(arguments.memory_reservation),
        cpu_shares: arguments.cpu_share.filter(|&v| v != 0),
        cpu_quota: set(arguments.cpu_quota),
        cpu_period: arguments.cpu_period.filter(|&v| v != 0),
        realtime_period: arguments.cpu_rt_period.filter(|&v| v != 0),
        realtime_runtime: set(arguments.cpu_rt_runtime),
        cpus: arguments.cpuset_cpus.clone().filter(|list| !list.is_empty()),
        memory_nodes: arguments.cpuset_mems.clone().filter(|list| !list.is_empty()),
        processes: set(arguments.pids_limit),
        block_weight: arguments.blkio_weight.filter(|&v| v != 0),
        ..Default::default()
    })
}

/// A number of bytes with one of the letters that Docker takes, or -1.
fn parse_size(text: &str) -> std::result::Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let invalid = || format!("invalid size: {text:?}");
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let number: f64 = lower[..end].parse().map_err(|_| invalid())?;
    let unit = lower[end..].trim_start();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(invalid()),
    };
    let bytes = number * (1_u64 << shift) as f64;
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_have_letters() {
        for (text, bytes) in [("512", 512), ("1k", 1024), ("64M", 64 << 20), ("1.5GiB", 3 << 29), ("2 mb", 2 << 20), ("-1", -1)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "1x", "-2", "9999999p"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
