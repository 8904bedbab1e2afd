//! What is known of containers on disk: `<root>/<id>/state.json`. A directory made with mkdir(2) is the lock of its id; the
//! file is replaced whole or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use oci_spec::runtime::Hooks;
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Places,
    error::{Error, Result, describe},
    id::ContainerId,
    oci::SPEC_VERSION,
};

/// A container's stage, in the specification's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything is there, the program was not started.
    Created,
    /// The program runs.
    Running,
    /// All of its processes are stopped. Never recorded: its control group says so.
    Paused,
    /// It has ended, or the supervisor was killed.
    Stopped,
}

/// state.json.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The container's id.
    pub id: String,
    /// The supervisor's pid.
    pub pid: i32,
    /// When that process started (field 22 of its stat), which tells it from a later one of the same pid.
    pub pid_started: u64,
    /// As last recorded; see [`State::status`].
    pub status: Status,
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The root file system's absolute path.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// From config.json.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Cgroup directories that `delete` removes.
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
    /// Hooks that are still to run.
    #[serde(default)]
    pub hooks: Hooks,
}

impl State {
    /// The status now: a container whose supervisor is gone is stopped, whatever was recorded.
    pub fn status(&self) -> Status {
        if self.status == Status::Stopped || process_started(self.pid) != Some(self.pid_started) {
            Status::Stopped
        } else if Places::of(&self.cgroups).is_frozen() {
            Status::Paused
        } else {
            self.status
        }
    }

    /// The document that hooks get and `state` is about.
    pub fn oci(&self, status: Status) -> serde_json::Value {
        let mut document = serde_json::json!({
            "ociVersion": SPEC_VERSION,
            "id": self.id,
            "pid": if status == Status::Stopped { 0 } else { self.pid },
            "status": status,
            "bundle": self.bundle,
        });
        if !self.annotations.is_empty() {
            document["annotations"] = serde_json::json!(self.annotations);
        }
        document
    }
}

/// When a process started, in clock ticks since the host's start; `None` if there is none or it is a zombie.
pub fn process_started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// The directory of all containers (`--root`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// At `root`, which need not be there yet.
    pub fn new(root: &Path) -> Result<Store> {
        let root = std::path::absolute(root).map_err(Error::file("find", root))?;
        Ok(Store { root })
    }

    /// A container's directory.
    pub fn directory(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    fn file(&self, id: &ContainerId) -> PathBuf {
        self.directory(id).join("state.json")
    }

    /// Takes the id: makes its directory, which goes away with the claim unless it is kept.
    pub fn claim(&self, id: &ContainerId) -> Result<Claim> {
        let mode = 0o711;
        DirBuilder::new().mode(mode).recursive(true).create(&self.root).map_err(Error::file("make", &self.root))?;
        let directory = self.directory(id);
        match DirBuilder::new().mode(mode).create(&directory) {
            Ok(()) => Ok(Claim { directory: Some(directory) }),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::DuplicateId),
            Err(e) => Err(Error::File { doing: "make", path: directory, why: describe(&e) }),
        }
    }

    /// Reads a container's state.
    pub fn load(&self, id: &ContainerId) -> Result<State> {
        let file = self.file(id);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Error::NoContainer);
            }
            Err(e) => return Err(Error::File { doing: "read", path: file, why: describe(&e) }),
        };
        let state: State = match serde_json::from_slice(&text) {
            Ok(state) => state,
            Err(e) => return Err(Error::DamagedState { file, what: e.to_string() }),
        };
        if state.id != id.as_str() {
            return Err(Error::DamagedState { file, what: format!("it is of the container {:?}", state.id) });
        }
        if state.pid <= 0 {
            return Err(Error::DamagedState { file, what: format!("{} is no pid", state.pid) });
        }
        Ok(state)
    }

    /// Replaces a container's state.
    pub fn save(&self, id: &ContainerId, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state).map_err(Error::ipc("write the state"))?;
        write_atomically(&self.file(id), &text, 0o600)
    }

    /// All ids, sorted, each with the uid that owns its directory.
    pub fn ids(&self) -> Result<Vec<(ContainerId, u32)>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::File { doing: "list", path: self.root.clone(), why: describe(&e) }),
        };
        let mut ids: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let attributes = entry.metadata().ok().filter(|a| a.is_dir())?;
                Some((entry.file_name().to_str()?.parse().ok()?, attributes.uid()))
            })
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Removes everything that is kept of a container.
    pub fn remove(&self, id: &ContainerId) -> Result<()> {
        remove_directory(&self.directory(id))
    }
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { doing: "remove", path: directory.to_owned(), why: describe(&e) })
        }
        _ => Ok(()),
    }
}

/// Writes beside, syncs, renames: a reader, or a machine that lost power, has the old contents or the new.
pub fn write_atomically(file: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = (|| -> io::Result<()> {
        let mut new: File = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        new.write_all(contents)?;
        new.sync_all()?;
        fs::rename(&beside, file)
    })();
    written.map_err(|e| {
        let _ = fs::remove_file(&beside);
        Error::File { doing: "write", path: file.to_owned(), why: describe(&e) }
    })
}

/// An id that was taken and whose container is not complete yet.
#[derive(Debug)]
pub struct Claim {
    directory: Option<PathBuf>,
}

impl Claim {
    /// The container is complete: its directory stays.
    pub fn keep(mut self) {
        self.directory = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take() {
            // Nothing more can be done about a failure; `delete -f` can.
            let _ = remove_directory(&directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> Store {
        let root = std::env::temp_dir().join(format!("bulkhead-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        Store::new(&root).unwrap()
    }

    fn state(id: &str) -> State {
        State {
            id: id.into(),
            pid: std::process::id() as i32,
            pid_started: process_started(std::process::id() as i32).unwrap(),
            status: Status::Running,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-11-26T16:00:00.000000001Z".into(),
            annotations: BTreeMap::new(),
            cgroups: Vec::new(),
            hooks: Hooks::default(),
        }
    }

    #[test]
    fn a_claimed_id_is_taken_until_the_claim_is_dropped() {
        let store = scratch("claim");
        let id: ContainerId = "c1".parse().unwrap();
        let claim = store.claim(&id).unwrap();
        assert!(matches!(store.claim(&id), Err(Error::DuplicateId)));
        drop(claim);
        assert!(!store.directory(&id).is_dir());
        store.claim(&id).unwrap().keep();
        assert!(store.directory(&id).is_dir());
        fs::remove_dir_all(&store.root).unwrap();
    }

    #[test]
    fn a_torn_state_is_an_error_that_names_the_file() {
        let store = scratch("torn");
        let id: ContainerId = "c1".parse().unwrap();
        store.claim(&id).unwrap().keep();
        assert!(matches!(store.load(&id), Err(Error::NoContainer)));
        store.save(&id, &state("c1")).unwrap();
        assert_eq!(store.load(&id).unwrap(), state("c1"));
        let whole = fs::read(store.file(&id)).unwrap();
        for length in 0..whole.len() {
            fs::write(store.file(&id), &whole[..length]).unwrap();
            let error = store.load(&id).unwrap_err().to_string();
            assert!(error.contains("c1/state.json: damaged state file: ") && !error.contains('\n'), "{error}");
        }
        fs::write(store.file(&id), serde_json::to_vec(&state("other")).unwrap()).unwrap();
        assert!(matches!(store.load(&id), Err(Error::DamagedState { .. })));
        fs::remove_dir_all(&store.root).unwrap();
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_supervisor() {
        let mut state = state("c1");
        assert_eq!(state.status(), Status::Running);
        state.pid_started += 1;
        assert_eq!(state.status(), Status::Stopped);
    }
}
