//! What a runtime left behind.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use crate::runtime::Runtime;

/// The places where a sandbox could leave something.
#[derive(Debug)]
pub struct Leftovers {
    root: PathBuf,
}

impl Leftovers {
    /// Of the containers of this runtime's state directory.
    pub fn of(runtime: &Runtime) -> Leftovers {
        Leftovers { root: runtime.root().to_owned() }
    }

    /// State directories, processes that name the state directory or one of its containers, and mounts beneath it.
    pub fn list(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            found.push(format!("directory {}", entry.path().display()));
        }
        let root = self.root.to_string_lossy().into_owned();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if names(&command, &root) {
                found.push(format!("process {}: {command}", process.file_name().to_string_lossy()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        found.extend(mounts.lines().filter(|line| names(line, &root)).map(|line| format!("mount {line}")));
        found
    }

    /// Nothing is left (within five seconds: the host reaps asynchronously).
    pub fn assert_none(&self) {
        let start = Instant::now();
        loop {
            let left = self.list();
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(5), "left behind: {left:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a text names a directory, and not one with a longer number.
fn names(text: &str, directory: &str) -> bool {
    text.match_indices(directory).any(|(at, _)| !text[at + directory.len()..].starts_with(|next: char| next.is_ascii_digit()))
}

/// Directories of this name in the host's cgroup hierarchies.
pub fn cgroups(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == *id {
                    found.push(entry.path());
                }
                directories.push(entry.path());
            }
        }
    }
    found
}
