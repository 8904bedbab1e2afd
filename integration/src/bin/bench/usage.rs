//! What everything in a sandbox uses together: the runtime, its supervisor and services, and the container, all beneath one cgroup of
//! the benchmark's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use bulkhead_integration::{bundle::unique, runtime::Runtime};

/// The cgroup, in every hierarchy: `NAME/runtime` for the runtime's processes, `NAME/box` for the container's.
#[derive(Debug)]
pub struct Group {
    name: String,
    hierarchies: Vec<Hierarchy>,
}

#[derive(Debug)]
struct Hierarchy {
    mount_point: PathBuf,
    /// Whether it is version 2.
    unified: bool,
    /// Whether memory or CPU time may be counted here. Others a runtime may make the container's cgroup in.
    counts: bool,
}

impl Group {
    /// Makes it.
    pub fn new() -> Group {
        let name = unique("bulkhead-bench");
        let hierarchies = hierarchies();
        for hierarchy in &hierarchies {
            if hierarchy.unified {
                // Where version 1 has the controllers, there are none to be had.
                for controller in ["+memory", "+cpu"] {
                    let _ = fs::write(hierarchy.mount_point.join("cgroup.subtree_control"), controller);
                }
            }
            if hierarchy.counts {
                let _ = fs::create_dir_all(hierarchy.mount_point.join(&name).join("runtime"));
            }
        }
        Group { name, hierarchies }
    }

    /// Where the container's cgroup is to be, as a bundle says it.
    pub fn container(&self) -> String {
        format!("/{}/box", self.name)
    }

    /// Where it is counted.
    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let counting = self.hierarchies.iter().filter(|hierarchy| hierarchy.counts);
        counting.map(|hierarchy| hierarchy.mount_point.join(&self.name)).filter(|directory| directory.is_dir())
    }

    /// The command that starts a runtime in the group, on one CPU if that is said.
    pub fn command(&self, runtime: &Runtime, held_to: Option<usize>, arguments: &[&str]) -> Command {
        let run = runtime.command(arguments);
        let mut command = Command::new("sh");
        command.args(["-c", "until [ \"$1\" = -- ]; do echo $$ >\"$1\" || exit 125; shift; done; shift; exec \"$@\"", "sh"]);
        command.args(self.directories().map(|directory| directory.join("runtime/cgroup.procs"))).arg("--");
        if let Some(cpu) = held_to {
            command.args(["taskset", "-c", &cpu.to_string()]);
        }
        command.arg(run.get_program()).args(run.get_args());
        command
    }

    /// CPU seconds used so far by all that is or was in the group; `None` when the host does not count them.
    pub fn cpu_seconds(&self) -> Option<f64> {
        self.directories().find_map(|directory| {
            if let Some(nanoseconds) = number(&directory.join("cpuacct.usage")) {
                return Some(nanoseconds / 1e9);
            }
            let statistics = fs::read_to_string(directory.join("cpu.stat")).ok()?;
            let microseconds = statistics.lines().find_map(|line| line.strip_prefix("usage_usec "))?.parse::<f64>().ok()?;
            // Version 2 counts also where its processes are not (all beneath version 1's controllers), and it is then zero.
            (microseconds > 0.0).then_some(microseconds / 1e6)
        })
    }

    /// The most memory that all in the group together had, in megabytes (10^6 bytes): anonymous, shared, the kernel's, and files'
    /// pages that nobody had read or written before.
    pub fn peak_megabytes(&self) -> Option<f64> {
        let peaks = ["memory.max_usage_in_bytes", "memory.peak"];
        self.directories().find_map(|directory| peaks.iter().find_map(|file| Some(number(&directory.join(file))? / 1e6)))
    }

    /// Threads in the group that may run elsewhere than on this CPU.
    pub fn not_held_to(&self, cpu: usize) -> Vec<String> {
        let mut found: Vec<String> = self.processes().into_iter().flat_map(|pid| astray(pid, cpu)).collect();
        found.sort();
        found.dedup();
        found
    }

    fn processes(&self) -> Vec<u32> {
        let mut processes = Vec::new();
        let mut directories: Vec<PathBuf> = self.directories().collect();
        while let Some(directory) = directories.pop() {
            let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            processes.extend(members.lines().filter_map(|pid| pid.parse::<u32>().ok()));
            directories.extend(subdirectories(&directory));
        }
        processes.sort_unstable();
        processes.dedup();
        processes
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last process may still be on its way out.
        let start = Instant::now();
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.mount_point.join(&self.name);
            while directory.is_dir() && !remove(&directory) && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchy = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let &[_, mount_point, kind, options, ..] = fields.as_slice() else { return None };
        let unified = kind == "cgroup2";
        let counts = unified || options.split(',').any(|option| option == "memory" || option == "cpuacct");
        (unified || kind == "cgroup").then(|| Hierarchy { mount_point: mount_point.into(), unified, counts })
    };
    mounts.lines().filter_map(hierarchy).collect()
}

fn number(file: &Path) -> Option<f64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes a cgroup and those beneath it.
fn remove(directory: &Path) -> bool {
    subdirectories(directory).iter().all(|below| remove(below)) && fs::remove_dir(directory).is_ok()
}

/// Threads of a process that may run elsewhere than on this CPU.
fn astray(pid: u32, cpu: usize) -> Vec<String> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        let allowed = field("Cpus_allowed_list:");
        if !allowed.is_empty() && allowed != cpu.to_string() {
            found.push(format!("{} on {allowed}", field("Name:")));
        }
    }
    found
}
