//! The sandbox's cgroup, in every hierarchy that is mounted writable. The supervisor and the services are moved into it before
//! the services are told what to be, so that all that they do and start is accounted there. Not before they are started,
//! because the first move takes the host kernel ten to twenty milliseconds, in which they can get going.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use nix::unistd::Pid;

use crate::{
    error::{Error, Result, describe},
    id::ContainerId,
    log::Log,
    oci::resources::Resources,
};

/// A mounted hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Hierarchy {
    mount_point: PathBuf,
    /// Empty for version 2.
    controllers: Vec<String>,
    unified: bool,
}

impl Hierarchy {
    fn is_named(&self) -> bool {
        self.controllers.iter().any(|option| option.starts_with("name="))
    }

    fn has(&self, controller: &str) -> bool {
        self.unified || self.controllers.iter().any(|c| c == controller)
    }
}

/// What was made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// The sandbox's directory in each hierarchy.
    pub directories: Vec<PathBuf>,
}

/// Where the cgroup lies, from a hierarchy's root.
pub fn location(configured: Option<&Path>, id: &ContainerId) -> PathBuf {
    let Some(configured) = configured.filter(|path| !path.as_os_str().is_empty()) else {
        return Path::new("bulkhead").join(id.as_str());
    };
    // systemd's form: slice:prefix:name.
    let text = configured.to_string_lossy();
    if let [slice, prefix, name] = text.split(':').collect::<Vec<_>>().as_slice() {
        let scope = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        return Path::new(slice).join(scope);
    }
    // `..` must not lead out of the hierarchy.
    configured.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

impl Membership {
    /// Makes the cgroup at `location`, sets its limits and moves this process and `others` into it. Unless `required`, what the
    /// host does not allow is left out. What was made is noted here also when that fails.
    pub fn enter(&mut self, location: &Path, resources: &Resources, required: bool, others: &[Pid], log: &Log) -> Result<()> {
        for hierarchy in hierarchies() {
            let directory = hierarchy.mount_point.join(location);
            let entered = make(&hierarchy, location)
                .and_then(|()| apply(&hierarchy, &directory, resources))
                .and_then(|()| join(&directory, others));
            if directory.is_dir() {
                self.directories.push(directory);
            }
            match entered {
                Ok(()) => {}
                // Hierarchies without controllers (systemd's own) limit nothing.
                Err(error) if required && (hierarchy.unified || !hierarchy.is_named()) => return Err(error),
                Err(error) => log.debug(&error.to_string()),
            }
        }
        Ok(())
    }

    /// Moves this process out, to the top of each hierarchy.
    pub fn leave(&self) {
        for hierarchy in hierarchies() {
            if self.directories.iter().any(|d| d.starts_with(&hierarchy.mount_point)) {
                // If that fails, the directory stays until `delete`.
                let _ = write(&hierarchy.mount_point.join("cgroup.procs"), "0");
            }
        }
    }

    /// Removes the directories, once their processes have ended.
    pub fn remove(&self) {
        remove(&self.directories);
    }
}

/// Moves this process into cgroups that are there; one that has gone meanwhile is none to be in.
pub fn join_existing(directories: &[PathBuf]) {
    for directory in directories {
        let _ = fs::write(directory.join("cgroup.procs"), "0");
    }
}

fn join(directory: &Path, others: &[Pid]) -> Result<()> {
    let members = directory.join("cgroup.procs");
    write(&members, "0")?;
    for pid in others {
        match fs::write(&members, pid.to_string()) {
            Ok(()) => {}
            // It has ended; whoever watches it says so.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(Error::file("write", &members)(error)),
        }
    }
    Ok(())
}

/// Removes cgroup directories, once their processes have ended; those that have not within two seconds are killed.
pub fn remove(directories: &[PathBuf]) {
    let deadline = Instant::now() + Duration::from_secs(2);
    let hierarchies = hierarchies();
    for directory in directories {
        // A damaged state file must not make us remove something else.
        if !hierarchies.iter().any(|h| directory.starts_with(&h.mount_point) && *directory != h.mount_point) {
            continue;
        }
        while let Err(error) = fs::remove_dir(directory) {
            if error.raw_os_error() != Some(libc::EBUSY) || Instant::now() > deadline + Duration::from_secs(1) {
                break;
            }
            if Instant::now() > deadline {
                kill_members(directory);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(parent) = directory.parent().filter(|p| p.ends_with("bulkhead")) {
            // Stays while other sandboxes are in it.
            let _ = fs::remove_dir(parent);
        }
    }
}

fn kill_members(directory: &Path) {
    let own = std::process::id() as i32;
    let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&pid| pid > 1 && pid != own) {
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

fn hierarchies() -> Vec<Hierarchy> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// The writable cgroup mounts of a mountinfo file (proc_pid_mountinfo(5)).
fn parse_mounts(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let (mount, filesystem): (Vec<_>, Vec<_>) = (mount.split(' ').collect(), filesystem.split(' ').collect());
        let ([_, _, _, _, mount_point, flags, ..], [kind, _, options]) = (mount.as_slice(), filesystem.as_slice()) else {
            continue;
        };
        if !matches!(*kind, "cgroup" | "cgroup2") || !flags.split(',').any(|flag| flag == "rw") {
            continue;
        }
        let options = options.split(',').filter(|o| !matches!(*o, "rw" | "ro"));
        let hierarchy = Hierarchy {
            mount_point: PathBuf::from(mount_point.replace("\\040", " ")),
            controllers: if *kind == "cgroup" { options.map(str::to_owned).collect() } else { Vec::new() },
            unified: *kind == "cgroup2",
        };
        if !found.iter().any(|h| h.unified == hierarchy.unified && h.controllers == hierarchy.controllers) {
            found.push(hierarchy);
        }
    }
    found
}

fn make(hierarchy: &Hierarchy, location: &Path) -> Result<()> {
    let mut directory = hierarchy.mount_point.clone();
    for part in location.components() {
        if hierarchy.unified {
            // Those that the host does not have at this place, or that are in use elsewhere, stay off.
            for controller in ["+memory", "+cpu", "+pids", "+cpuset"] {
                let _ = fs::write(directory.join("cgroup.subtree_control"), controller);
            }
        }
        let parent = directory.clone();
        directory.push(part);
        match fs::create_dir(&directory) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::File { doing: "make the cgroup", path: directory, why: describe(&e) }),
        }
        if !hierarchy.unified && hierarchy.has("cpuset") {
            // In version 1 they start empty, and nothing can enter then.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let own = fs::read_to_string(directory.join(file)).unwrap_or_default();
                if own.trim().is_empty() {
                    let inherited = fs::read_to_string(parent.join(file)).unwrap_or_default();
                    write(&directory.join(file), inherited.trim())?;
                }
            }
        }
    }
    Ok(())
}

fn apply(hierarchy: &Hierarchy, directory: &Path, resources: &Resources) -> Result<()> {
    for (controller, file, value) in settings(resources, hierarchy.unified) {
        // In a mixed set-up the controller is in one of the two.
        let path = directory.join(file);
        if hierarchy.has(controller) && (!hierarchy.unified || path.exists()) {
            write(&path, &value)?;
        }
    }
    Ok(())
}

/// Controller, file and value of each limit.
fn settings(resources: &Resources, unified: bool) -> Vec<(&'static str, &'static str, String)> {
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
    } else {
        settings.extend(resources.memory.map(|m| ("memory", "memory.limit_in_bytes", m.to_string())));
        settings.extend(resources.memory_reservation.map(|m| ("memory", "memory.soft_limit_in_bytes", m.to_string())));
        settings.extend(resources.memory_and_swap.map(|m| ("memory", "memory.memsw.limit_in_bytes", m.to_string())));
        settings.extend(resources.cpu_shares.map(|s| ("cpu", "cpu.shares", s.to_string())));
        settings.extend(resources.cpu_period.map(|p| ("cpu", "cpu.cfs_period_us", p.to_string())));
        settings.extend(resources.cpu_quota.map(|q| ("cpu", "cpu.cfs_quota_us", q.to_string())));
    }
    settings.extend(resources.cpus.clone().map(|list| ("cpuset", "cpuset.cpus", list)));
    settings.extend(resources.memory_nodes.clone().map(|list| ("cpuset", "cpuset.mems", list)));
    settings.extend(resources.processes.map(|n| ("pids", "pids.max", if n <= 0 { "max".to_owned() } else { n.to_string() })));
    settings
}

fn write(file: &Path, value: &str) -> Result<()> {
    fs::write(file, value).map_err(Error::file("write", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_stay_within_the_hierarchy() {
        let id: ContainerId = "c1".parse().unwrap();
        for (configured, expected) in [
            (None, "bulkhead/c1"),
            (Some("/docker/abc"), "docker/abc"),
            (Some("../../etc/x"), "etc/x"),
            (Some("system.slice:docker:abc"), "system.slice/docker-abc.scope"),
        ] {
            assert_eq!(location(configured.map(Path::new), &id), Path::new(expected));
        }
    }

    #[test]
    fn writable_hierarchies_are_found_once_each() {
        let found = parse_mounts(
            "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n\
             31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n\
             32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             33 30 0:28 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct\n\
             34 30 0:29 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
        );
        assert_eq!(found.len(), 2);
        assert!(found[0].unified && found[1].has("cpu") && !found[1].has("memory"));
    }

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
        assert!(v2.contains(&("memory", "memory.swap.max", (2 << 20).to_string())));
        assert!(v2.contains(&("cpu", "cpu.max", "50000 100000".into())));
        let v1 = settings(&resources, false);
        assert!(v1.contains(&("memory", "memory.memsw.limit_in_bytes", (3 << 20).to_string())));
        assert!(v1.contains(&("pids", "pids.max", "10".into())));
    }
}
