//! The container's network namespace, and how the sandbox takes over what is in it.
//!
//! The supervisor lives in the namespace, because whoever sets it up (Docker's hooks, CNI) finds it by the container's pid. When the
//! container starts, netstack gets a packet socket for each interface and is told addresses, routes and neighbours, and the host's
//! kernel loses the addresses: it would answer for them otherwise.
//!
//! - `netlink`: asking and changing the host's tables
//! - `takeover`: what is taken, and put back in a namespace that outlives the container

mod netlink;
mod takeover;

use std::{fs::File, path::PathBuf};

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};

pub use takeover::Takeover;

/// Where the container's network is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Namespace {
    /// A namespace that is made for it.
    New,
    /// One that is there.
    Existing(PathBuf),
    /// It has none of its own. The host's cannot be taken over, so it has a loopback interface.
    Host,
}

impl Namespace {
    /// Moves this process, which has one thread, into it.
    pub fn enter(&self) -> Result<()> {
        match self {
            Namespace::New => unshare(CloneFlags::CLONE_NEWNET).map_err(Error::host("make a network namespace")),
            Namespace::Existing(path) => {
                let namespace = File::open(path).map_err(Error::file("open the network namespace", path))?;
                setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Error::file("enter the network namespace", path))
            }
            Namespace::Host => Ok(()),
        }
    }
}
