//! Stopping all processes of a container, and letting them go on.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{Places, write};
use crate::error::{Error, Result};

/// How long the host may take to stop everything.
const PATIENCE: Duration = Duration::from_secs(10);

impl Places {
    /// Whether it is frozen, or about to be.
    pub fn is_frozen(&self) -> bool {
        if let Some(directory) = self.legacy("freezer") {
            return read(&directory.join("freezer.state")) != "THAWED" && directory.join("freezer.state").exists();
        }
        self.unified().is_some_and(|directory| read(&directory.join("cgroup.freeze")) == "1")
    }

    /// Freezes it; everything has stopped when this returns. On a failure everything goes on.
    pub fn freeze(&self) -> Result<()> {
        let frozen = self.set("FROZEN", "1").and_then(|()| self.wait_until_frozen());
        if frozen.is_err() {
            let _ = self.thaw();
        }
        frozen
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.set("THAWED", "0")
    }

    fn set(&self, legacy: &str, unified: &str) -> Result<()> {
        match (self.legacy("freezer"), self.unified()) {
            (Some(directory), _) => write(&directory.join("freezer.state"), legacy),
            (None, Some(directory)) => write(&directory.join("cgroup.freeze"), unified),
            (None, None) => Err(none()),
        }
    }

    fn wait_until_frozen(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let frozen = match (self.legacy("freezer"), self.unified()) {
                (Some(directory), _) => read(&directory.join("freezer.state")) == "FROZEN",
                (None, Some(directory)) => read(&directory.join("cgroup.events")).lines().any(|line| line == "frozen 1"),
                (None, None) => return Err(none()),
            };
            if frozen {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Host { doing: "freeze the container", why: "not all of its processes stop".into() });
            }
            // One that was being cloned just then escapes the first order of version 1.
            self.set("FROZEN", "1")?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn none() -> Error {
    Error::Usage("the container has no control group with a freezer on this host".into())
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}
