//! The scaffolding of every service's `main`: from the supervisor's first message to serving under lock and key.
//!
//! ```no_run
//! use bulkhead_ipc::{confine::Restrictions, debug::Plane, service, setup::Role};
//!
//! fn main() -> std::process::ExitCode {
//!     service::run("netstack", |role, fds, service| {
//!         let Role::Netstack(_) = role else { return Err(service.wrong_role()) };
//!         fds.finish()?;
//!         let prepared = service.prepare(&Restrictions::default())?;
//!         // Threads, mappings and the like are made here: under the filter they would need rules.
//!         let control = prepared.seal("include runtime\ninclude debug", Plane::new())?;
//!         control.wait_until_closed()
//!     })
//! }
//! ```
//!
//! Fd 3 is the control channel. [`run`] takes it, closes everything else that was inherited, receives the [`Setup`] and its
//! fds, and starts the log, which is stdout and stderr too from then on. An error ends the service after it was logged and
//! reported to the supervisor; so does a panic, which is only logged.

mod control;
mod fds;
mod log;
mod start;

pub use control::Control;
pub use fds::Fds;
pub use log::{BadFilter, LogFilter};

use crate::{
    DecodeError, affinity,
    channel::{Channel, ChannelError},
    code,
    confine::{ConfineError, Confinement, Policy, Restrictions},
    debug::{Common, Plane, Stats},
    rpc::RpcError,
    setup::{Report, Role},
};
use std::{error::Error, os::fd::OwnedFd, process::ExitCode, sync::Arc};

/// A service that has its set-up and can still do anything.
pub struct Service {
    name: &'static str,
    sandbox: String,
    control: Arc<Channel>,
    debug_listener: OwnedFd,
    log_filter: LogFilter,
    stats: Stats,
}

/// A service that has given up its namespaces' mounts and its capabilities.
#[must_use = "a service serves only when it is sealed"]
pub struct Prepared {
    service: Service,
    confinement: Confinement,
}

/// Why a service does not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Fd 3 is not what it has to be.
    #[error("this program is started by bulkhead's supervisor, not by hand")]
    NotStartedBySupervisor,
    /// The control channel.
    #[error("the control channel: {0}")]
    Control(#[from] ChannelError),
    /// The set-up or an order.
    #[error("a message of the supervisor: {0}")]
    Decode(#[from] DecodeError),
    /// The set-up is another service's.
    #[error("{0} was set up as another service")]
    WrongRole(&'static str),
    /// Too few fds came with the set-up.
    #[error("the set-up has no fd for {0}")]
    MissingFd(&'static str),
    /// Too many fds came with the set-up.
    #[error("the set-up has {0} fds too many")]
    SurplusFds(usize),
    /// The log.
    #[error(transparent)]
    Log(#[from] BadFilter),
    /// Lock-down.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// A connection to another service.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// A host call failed.
    #[error("cannot {0}: {1}")]
    Host(&'static str, crate::Errno),
}

/// What a service's `main` returns with; errors of the service's own are boxed by `?`.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Runs a service: `body` gets its role, the role's fds and the service itself, and returns when the service ends.
pub fn run(name: &'static str, body: impl FnOnce(Role, Fds, Service) -> Result<()>) -> ExitCode {
    let control = match start::take_control() {
        Ok(control) => Arc::new(control),
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = start::receive(name, &control).map_err(Box::from).and_then(|(role, fds, service)| body(role, fds, service));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            // If the supervisor has gone, there is nobody to tell.
            let _ = control::report_on(&control, &Report::Failed(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// The log and the debug plane of a process that is no service: the supervisor, which nothing confines. `log` is where its events
/// go, as a service's. Starts a thread.
pub fn oversee(
    name: &'static str,
    sandbox: &str,
    log: OwnedFd,
    filter: &str,
    json: bool,
    debug_listener: OwnedFd,
    plane: Plane,
) -> std::result::Result<(), ServiceError> {
    let log_filter = log::start(log::Settings { file: log, filter, json, service: name, sandbox: sandbox.to_owned() })?;
    let common = Common {
        service: name,
        sandbox: sandbox.to_owned(),
        log_filter,
        stats: Arc::new(Stats::new()),
        policy: Arc::new(Policy::parse("").map_err(ConfineError::from)?),
        landlock: false,
    };
    plane.start(debug_listener, common).map_err(|error| ServiceError::Host("start the debug plane", error.into()))
}

impl Service {
    /// The container's id.
    pub fn sandbox(&self) -> &str {
        &self.sandbox
    }

    /// For a role that is not this service's.
    pub fn wrong_role(&self) -> Box<dyn Error + Send + Sync> {
        Box::new(ServiceError::WrongRole(self.name))
    }

    /// The first phase of the lock-down: empty root, no capabilities, limits, Landlock (see [`Confinement::prepare`]). Has to come
    /// before the first thread is started.
    pub fn prepare(self, restrictions: &Restrictions<'_>) -> std::result::Result<Prepared, ServiceError> {
        let confinement = Confinement::prepare(restrictions)?;
        if !confinement.has_landlock() {
            tracing::info!("the host has no Landlock: the empty root and the seccomp filter have to do");
        }
        Ok(Prepared { service: self, confinement })
    }
}

impl Prepared {
    /// The second phase: starts the debug plane, installs the seccomp filter for every thread, and tells the supervisor that
    /// the service is ready.
    pub fn seal(self, policy: &str, plane: Plane) -> std::result::Result<Control, ServiceError> {
        let Prepared { service, confinement } = self;
        let policy = Arc::new(Policy::parse(policy).map_err(ConfineError::from)?);
        let common = Common {
            service: service.name,
            sandbox: service.sandbox,
            log_filter: service.log_filter,
            stats: Arc::new(service.stats),
            policy: policy.clone(),
            landlock: confinement.has_landlock(),
        };
        let failed = |error: std::io::Error| ServiceError::Host("start the debug plane", error.into());
        plane.start(service.debug_listener, common).map_err(failed)?;
        affinity::own_hash_key();
        code::unmap_for_now();
        confinement.seal(&policy)?;
        let control = Control::new(service.control);
        control.report(&Report::Ready)?;
        tracing::debug!("ready");
        Ok(control)
    }
}
