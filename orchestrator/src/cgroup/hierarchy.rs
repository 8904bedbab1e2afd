//! The cgroup hierarchies of the host, and a container's place in each.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A mounted hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hierarchy {
    pub mount_point: PathBuf,
    /// Empty for version 2.
    pub controllers: Vec<String>,
    pub unified: bool,
}

impl Hierarchy {
    pub fn is_named(&self) -> bool {
        self.controllers.iter().any(|option| option.starts_with("name="))
    }

    pub fn has(&self, controller: &str) -> bool {
        self.unified || self.controllers.iter().any(|c| c == controller)
    }
}

pub(super) fn hierarchies() -> Vec<Hierarchy> {
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

/// A container's directories, by what controls them.
#[derive(Clone, Debug)]
pub struct Places(pub(super) Vec<(Hierarchy, PathBuf)>);

impl Places {
    /// Of directories as the state records them. Those outside of any hierarchy are left out.
    pub fn of(directories: &[PathBuf]) -> Places {
        let hierarchies = hierarchies();
        let place = |directory: &PathBuf| {
            let inside = |h: &&Hierarchy| directory.starts_with(&h.mount_point) && *directory != h.mount_point;
            // Where one is mounted beneath another, the inner one.
            let hierarchy = hierarchies.iter().filter(inside).max_by_key(|h| h.mount_point.components().count())?;
            Some((hierarchy.clone(), directory.clone()))
        };
        Places(directories.iter().filter_map(place).collect())
    }

    /// Where a controller of version 1 is.
    pub fn legacy(&self, controller: &str) -> Option<&Path> {
        self.0.iter().find(|(h, _)| !h.unified && h.has(controller)).map(|(_, directory)| directory.as_path())
    }

    /// The place in the hierarchy of version 2.
    pub fn unified(&self) -> Option<&Path> {
        self.0.iter().find(|(h, _)| h.unified).map(|(_, directory)| directory.as_path())
    }

    /// Host pids of the processes in it, ascending.
    pub fn members(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self
            .0
            .iter()
            .filter_map(|(_, directory)| fs::read_to_string(directory.join("cgroup.procs")).ok())
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
