//! What the supervisor tells each service before it starts, and the messages between the supervisor and a running sentry.
//! `schema/control.capnp` is their form on the wire, `encode` and `decode` turn one into the other. Decoding checks every
//! length and every value that has a range, also of what comes from the supervisor: a service starts with what it understands
//! or not at all.
#![forbid(unsafe_code)]

pub(crate) mod decode;
pub(crate) mod encode;
mod network;
mod profile;

pub use network::{AddressSpec, InterfaceSpec, NeighbourSpec, Network, RouteSpec};
pub use profile::{Comparison, Condition, FilterAction, FilterRule, Profile};

/// A program to run in the container (OCI `process`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// argv; the first is looked up in `PATH` of `environment` when it has no slash.
    pub arguments: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// Working directory.
    pub directory: Vec<u8>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Capability sets.
    pub capabilities: CapabilitySets,
    /// Limits; those not named have the sentry's defaults.
    pub limits: Vec<ResourceLimit>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// /proc/self/oom_score_adj.
    pub oom_score_adjust: i32,
    /// personality(2).
    pub personality: u32,
    /// It has a terminal: stdin, stdout and stderr are the same terminal of the host, in raw mode, that does not wait
    /// (O_NONBLOCK).
    pub terminal: bool,
}

/// capabilities(7), bit n = capability number n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct CapabilitySets {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// getrlimit(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResourceLimit {
    /// RLIMIT_*.
    pub resource: u32,
    /// Soft limit; `u64::MAX` is RLIM_INFINITY.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The sentry's set-up. Its fds, in this order: one RPC client end to vfs per CPU (two fds each, see `rpc`), then the
/// container's stdin, stdout, stderr and what are to be its fds 3, 4 and so on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SentrySetup {
    /// The container's first program.
    pub program: Program,
    /// UTS host name.
    pub hostname: Vec<u8>,
    /// UTS domain name.
    pub domainname: Vec<u8>,
    /// Host CPUs that workers may run on; one worker and one RPC connection each.
    pub cpus: Vec<u32>,
    /// Bytes of guest memory at most (`MemTotal`).
    pub memory_limit: u64,
    /// The paths that read as empty or cannot be written within the sentry's own file systems (OCI maskedPaths, readonlyPaths).
    pub masked_paths: Vec<Vec<u8>>,
    /// See `masked_paths`.
    pub readonly_paths: Vec<Vec<u8>>,
    /// sysctl settings, `name=value`.
    pub sysctls: Vec<(String, String)>,
    /// Options of the mount of devpts, comma-separated (gid=, mode=, ptmxmode=, max=).
    pub devpts_options: String,
    /// Programs' call sites are not rewritten, so that each call traps.
    pub keep_call_sites: bool,
    /// Guest threads at most (OCI resources.pids); `None` is no limit but the guest kernel's own.
    pub task_limit: Option<u64>,
    /// Which system calls the container may make (OCI linux.seccomp).
    pub profile: Option<Profile>,
}

/// A mount of the container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountSpec {
    /// Absolute path in the container; `/` only for the first. Missing directories are made in the writable layer.
    pub destination: Vec<u8>,
    /// What is mounted.
    pub kind: MountKind,
    /// ST_* flags of statvfs(3): ST_RDONLY, ST_NOSUID, ST_NODEV, ST_NOEXEC, ST_NOATIME, ST_RELATIME.
    pub flags: u32,
    /// File-system type as mountinfo shows it.
    pub fstype: String,
    /// Source as mountinfo shows it.
    pub source: String,
    /// File-system options as in config.json, comma-separated (tmpfs: size=, mode=, uid=, gid=, nr_inodes=).
    pub options: String,
}

/// What backs a mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MountKind {
    /// Gofer root `root`, directly (bind mounts, read-only roots).
    Gofer {
        /// Index of the gofer's root.
        root: u32,
    },
    /// A writable layer in memory over gofer root `lower`.
    Overlay {
        /// Index of the gofer's root.
        lower: u32,
    },
    /// Memory.
    Tmpfs,
    /// The sentry implements it.
    Foreign(crate::vfs::ForeignFs),
}

/// A node to make under /dev (or elsewhere) after the mounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeSpec {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Type and permission bits; S_IFLNK with `target`.
    pub mode: u32,
    /// Device number, encoded as in stat(2).
    pub device: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// A symbolic link's target.
    pub target: Vec<u8>,
}

/// The set-up of vfs. Its fds: one RPC server end to the sentry per CPU, then one RPC client end to the gofer per CPU.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VfsSetup {
    /// CPUs, as in [`SentrySetup::cpus`]: one thread per CPU, pinned.
    pub cpus: Vec<u32>,
    /// In mounting order; the first is `/`.
    pub mounts: Vec<MountSpec>,
    /// Made after the mounts.
    pub nodes: Vec<NodeSpec>,
}

/// A directory (or single file) of the host that the gofer serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootSpec {
    /// Host path, for messages only: the gofer gets an fd.
    pub path: Vec<u8>,
    /// Whether nothing may be changed.
    pub readonly: bool,
}

/// The gofer's set-up. Its fds: one RPC server end to vfs per CPU, then one O_PATH fd (of a detached mount) per root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GoferSetup {
    /// As in [`SentrySetup::cpus`].
    pub cpus: Vec<u32>,
    /// The roots.
    pub roots: Vec<RootSpec>,
}

/// Netstack's set-up. Its fds: one RPC server end to the sentry per CPU, then the [readiness](crate::net::readiness) memory and
/// eventfd.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetstackSetup {
    /// As in [`SentrySetup::cpus`].
    pub cpus: Vec<u32>,
}

/// What a service is. The setup message's first two fds are always the log's (a pipe or file to write events to) and the
/// debug plane's listening socket.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process, and it is taken apart at once")]
pub enum Role {
    Sentry(SentrySetup),
    Vfs(VfsSetup),
    Gofer(GoferSetup),
    Netstack(NetstackSetup),
}

/// The first message a service gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// The container's id, for logs.
    pub sandbox: String,
    /// tracing filter directive, such as "info".
    pub log_filter: String,
    /// Events as JSON.
    pub log_json: bool,
    /// What to be.
    pub role: Role,
}

/// A further program in a running container (OCI `exec`). Its fds, in this order: stdin, stdout, stderr, then those that become
/// 3, 4 and so on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Execution {
    /// What to run.
    pub program: Program,
}

/// Supervisor to sentry (but for `Network`), after `Setup`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Make the container's first process, with all but its program, and find that (the end of OCI `create`).
    Prepare,
    /// Run the program that was found (OCI `start`).
    Start,
    /// Send a signal to the container's init (or to every process with `all`).
    Signal {
        /// Signal number.
        signal: i32,
        /// Every process.
        all: bool,
    },
    /// Run a further program. The answers are `Report::Execution`s of this number.
    Execute {
        /// The supervisor's name for it; no two at a time have the same.
        number: u32,
        /// What to run, and its fds.
        execution: Execution,
    },
    /// The window of a terminal of the host may have another size now.
    WindowChanged,
    /// Send a signal to the process that an `Execute` made; one that has ended by now does not mind.
    SignalExecution {
        /// Which.
        number: u32,
        /// Signal number.
        signal: i32,
    },
    /// Another [`SentrySetup::task_limit`]. Those that are there stay.
    LimitTasks(Option<u64>),
    /// Another [`SentrySetup::memory_limit`].
    LimitMemory(u64),
    /// To netstack: the network is its own from now on. Its fds: one packet socket per interface, in order. Answered by
    /// `Report::Connected`.
    Network(Network),
}

/// A service to its supervisor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// Set up, locked down, serving.
    Ready,
    /// Cannot start, or cannot go on: why, in one line.
    Failed(String),
    /// The container's program was found (answers `Order::Prepare`). When it cannot be run the answer is `Failed`.
    Prepared,
    /// Netstack has the network (answers `Order::Network`).
    Connected,
    /// The container's program runs (answers `Order::Start`). If it turns out not to be one, the process says so on its standard
    /// error and exits.
    Started,
    /// The container's init ended with this wait status (wait(2) encoding).
    Exited(i32),
    /// What became of an `Order::Execute`.
    Execution {
        /// Its number.
        number: u32,
        /// The news.
        news: ExecutionNews,
    },
}

/// What became of an execution: first `Started` or `Failed`, and `Ended` after `Started`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExecutionNews {
    /// The program runs, as this pid of the container.
    Started(i32),
    /// It cannot be run: why, in one line.
    Failed(String),
    /// It ended with this wait status.
    Ended(i32),
}

#[cfg(test)]
mod tests;
