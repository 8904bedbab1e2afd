//! The host's processes of a running sandbox, seen from outside.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The services that a sandbox has besides its supervisor.
pub const SERVICES: [&str; 4] = ["sentry", "vfs", "netstack", "gofer"];

/// Processes whose parent is `parent`, with their names.
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
        for child in fs::read_to_string(thread.path().join("children")).unwrap_or_default().split_whitespace() {
            if let Ok(pid) = child.parse() {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                found.push((pid, name.trim_end().to_owned()));
            }
        }
    }
    found
}

/// The sandbox's service of this name below a `bulkhead run` process: the one that its supervisor started.
pub fn service(run: u32, name: &str) -> Option<u32> {
    let program = format!("bulkhead-{name}");
    let mut processes = vec![run];
    while let Some(parent) = processes.pop() {
        for (pid, _) in children(parent) {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
            if Path::new(&*String::from_utf8_lossy(first)).file_name().is_some_and(|file| *file == *program) {
                return Some(pid);
            }
            processes.push(pid);
        }
    }
    None
}

/// Threads of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect()
}

/// CPU time that a process, those below it that live, and those that they have waited for have used.
pub fn cpu_time(root: u32) -> Duration {
    let mut ticks = 0;
    let mut processes = vec![root];
    while let Some(pid) = processes.pop() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name: state is the third field; utime, stime, cutime and cstime are the 14th to the 17th.
        let fields = stat.rsplit_once(") ").map_or("", |(_, behind)| behind).split(' ').skip(11).take(4);
        ticks += fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        processes.extend(children(pid).into_iter().map(|(child, _)| child));
    }
    // USER_HZ.
    Duration::from_millis(ticks * 10)
}

/// Ends a process of the test's own.
pub fn kill(pid: u32) {
    let killed = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
    assert!(killed.is_ok(), "{pid}: {killed:?}");
}

/// What a process holds of the host.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    /// Memory of its own, in kilobytes.
    pub private_kilobytes: u64,
    /// Memory that it shares with others (the guest's memory among it), in kilobytes.
    pub shared_kilobytes: u64,
    /// Memory files that it has open, as far as they take memory, in kilobytes.
    pub memory_file_kilobytes: u64,
    /// Open files.
    pub files: usize,
    /// Threads.
    pub threads: usize,
}

impl Holdings {
    /// Of a process that runs.
    pub fn of(pid: u32) -> Holdings {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let kilobytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
            line.trim_start_matches(':').trim().split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        let files: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().map(|fd| fd.path()).collect();
        let is_memory = |file: &&PathBuf| fs::read_link(file).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:"));
        let memory = files.iter().filter(is_memory).filter_map(|file| fs::metadata(file).ok());
        // One memory file may be open more than once.
        let memory: BTreeMap<u64, u64> = memory.map(|memory| (memory.ino(), memory.blocks() / 2)).collect();
        Holdings {
            memory_file_kilobytes: memory.values().sum(),
            private_kilobytes: kilobytes("RssAnon"),
            shared_kilobytes: kilobytes("RssShmem"),
            files: files.len(),
            threads: threads(pid).len(),
        }
    }
}
