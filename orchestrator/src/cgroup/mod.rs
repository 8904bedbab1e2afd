//! The sandbox's cgroup, in every hierarchy that is mounted writable. The supervisor and the services are moved into it before
//! the services are told what to be, so that all that they do and start is accounted there. Not before they are started,
//! because the first move takes the host kernel ten to twenty milliseconds, in which they can get going.
//!
//! - `hierarchy`: what the host has, and a container's place in it
//! - `settings`: limits
//! - `freezer`: stopping everything
//! - `stats`: what is used

mod freezer;
mod hierarchy;
mod settings;
mod stats;

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use nix::unistd::Pid;

use hierarchy::{Hierarchy, hierarchies};
use settings::apply;

pub use hierarchy::Places;

use crate::{
    error::{Error, Result, describe},
    id::ContainerId,
    log::Log,
    oci::resources::Resources,
};

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
        return slice_path(slice).join(scope);
    }
    // `..` must not lead out of the hierarchy.
    configured.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Where systemd has a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn slice_path(slice: &str) -> PathBuf {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    // The root slice is `-.slice`.
    ends.filter(|&end| end > 0 && name != "-").map(|end| format!("{}.slice", &name[..end])).collect()
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
            (Some("user-1000.slice:x:abc"), "user.slice/user-1000.slice/x-abc.scope"),
            (Some("-.slice::abc"), "abc.scope"),
        ] {
            assert_eq!(location(configured.map(Path::new), &id), Path::new(expected));
        }
    }
}
