//! The four services, and one of them running.

use std::{ffi::CStr, fs, path::PathBuf};

use bulkhead_ipc::channel::Channel;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::os::fd::AsFd;

use super::journal::Journal;
use crate::{
    error::{Error, Result},
    host::{IdMap, ServiceProcess},
    oci::ids::IdMappings,
};

/// Which service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "ARCHITECTURE.md says what they are")]
pub enum Kind {
    Sentry,
    Vfs,
    Gofer,
    Netstack,
}

impl Kind {
    /// All, in the order in which they are started: the one with most to do first.
    pub const ALL: [Kind; 4] = [Kind::Sentry, Kind::Vfs, Kind::Gofer, Kind::Netstack];

    /// As shown, and the name of its debug socket.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sentry => "sentry",
            Kind::Vfs => "vfs",
            Kind::Gofer => "gofer",
            Kind::Netstack => "netstack",
        }
    }

    /// Its binary's file name.
    pub fn binary(self) -> &'static CStr {
        match self {
            Kind::Sentry => c"bulkhead-sentry",
            Kind::Vfs => c"bulkhead-vfs",
            Kind::Gofer => c"bulkhead-gofer",
            Kind::Netstack => c"bulkhead-netstack",
        }
    }

    /// Its user. Only the gofer needs other ids than one: those that own the files it serves, which `mapped` may say.
    pub fn ids(self, mapped: Option<&IdMappings>) -> IdMap<'_> {
        /// nobody.
        const UNPRIVILEGED: u32 = 65_534;
        match self {
            Kind::Gofer => mapped.map_or(IdMap::Identity, IdMap::Mapped),
            Kind::Sentry | Kind::Vfs | Kind::Netstack => IdMap::Single(UNPRIVILEGED),
        }
    }

    /// Open files at most: a guest's files are fds of vfs, the gofer and the sentry.
    pub fn open_files(self) -> u64 {
        match self {
            Kind::Sentry | Kind::Vfs | Kind::Gofer => 1 << 20,
            Kind::Netstack => 1 << 12,
        }
    }

    /// Finds its binary beside our own, or in ../libexec/bulkhead.
    pub fn find(self) -> Result<PathBuf> {
        let own = fs::read_link("/proc/self/exe").map_err(Error::host("find the own executable"))?;
        let name = self.binary().to_str().unwrap_or_default();
        let beside = own.parent().map(PathBuf::from).unwrap_or_default();
        let libexec = beside.parent().map(|prefix| prefix.join("libexec/bulkhead")).unwrap_or_default();
        let found = [&beside, &libexec].map(|directory| directory.join(name)).into_iter().find(|path| path.is_file());
        found.ok_or(Error::NoService { name, beside, libexec })
    }
}

/// A service that was started.
#[derive(Debug)]
pub struct Service {
    /// Which.
    pub kind: Kind,
    /// Its process.
    pub process: ServiceProcess,
    /// Its control channel.
    pub channel: Channel,
    /// What it logs.
    pub journal: Journal,
    /// Whether it has reported to be ready.
    pub ready: bool,
}

impl Service {
    /// How it ended, if it has; leaves it to be reaped.
    pub fn ended(&self) -> Option<WaitStatus> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::PIDFd(self.process.pidfd.as_fd()), flags) {
            Ok(WaitStatus::StillAlive) | Err(_) => None,
            Ok(status) => Some(status),
        }
    }

    /// Waits for its end and reaps it.
    pub fn reap(&self) {
        while let Err(nix::errno::Errno::EINTR) = waitid(Id::PIDFd(self.process.pidfd.as_fd()), WaitPidFlag::WEXITED) {}
    }
}
