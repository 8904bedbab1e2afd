//! The supervisor: one process per sandbox that starts the services, connects them, watches them, and whose exit status is the
//! container's. It reads nothing that the guest can write but the few reports of the services.
//!
//! - `service`: what the four services are, and one that runs
//! - `wiring`: what each is told, and which fds it gets
//! - `boot`: from a plan to a sandbox that is ready
//! - `watch`: the loop that supervises it
//! - `requests`: what commands ask of it meanwhile
//! - `control`: how they ask
//! - `journal`: what a service logs
//! - `cause`: why a service ended
//! - `debug`: what the supervisor answers on its debug socket

mod boot;
mod cause;
pub mod control;
mod debug;
mod journal;
mod listeners;
mod requests;
mod service;
mod watch;
mod wiring;

use std::os::fd::{AsFd, OwnedFd};

use bulkhead_ipc::{channel::Channel, service as service_scaffold};
use nix::{
    sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask},
    unistd::Pid,
};

use crate::{
    error::{Error, Result},
    host::{Forked, close_inherited, fork},
    id::ContainerId,
    log::Log,
    oci::Plan,
    state::{Status, Store},
};
use control::Supervisor;
use watch::End;
pub use watch::SI_KERNEL;

/// Exit status when a sandbox ended because one of its services did: no program's status by custom, and not one that a shell
/// makes of a signal.
pub const SANDBOX_FAILED: i32 = 200;

/// Signals that are handed on to the container's first process.
pub const FORWARDED: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
    Signal::SIGPWR,
];

/// Who looks after the container once it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Custody {
    /// The calling command waits for its end and deletes it.
    Attached,
    /// It stays, stopped, until it is deleted.
    Detached,
}

/// What a supervisor needs to know.
#[derive(Debug)]
pub struct Order<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// Where its directory is.
    pub store: &'a Store,
    /// What it is made from.
    pub plan: &'a Plan,
    /// What the program has beyond stdio, from 3 on.
    pub inherited: &'a [OwnedFd],
    /// See [`Custody`].
    pub custody: Custody,
    /// Messages.
    pub log: &'a Log,
}

/// A container that is created.
#[derive(Debug)]
pub struct Created {
    /// The supervisor's pid.
    pub pid: Pid,
    /// The way to ask it.
    pub supervisor: Supervisor,
    /// The master of the container's terminal, if it has one.
    pub master: Option<OwnedFd>,
}

/// Starts a supervisor in a process of its own and waits until the container is created. The caller has claimed the id, and
/// blocks the signals of [`FORWARDED`] if it means to forward them.
pub fn start(order: &Order<'_>) -> Result<Created> {
    let (ours, theirs) = Channel::pair().map_err(Error::ipc("make a channel to the supervisor"))?;
    match fork()? {
        Forked::Child => {
            drop(ours);
            std::process::exit(supervise(order, theirs))
        }
        Forked::Parent(pid) => {
            drop(theirs);
            let supervisor = Supervisor::new(ours);
            match supervisor.created() {
                Ok(master) => Ok(Created { pid, supervisor, master }),
                Err(error) => {
                    // It has told why and is on its way out.
                    let _ = nix::sys::wait::waitpid(pid, None);
                    Err(error)
                }
            }
        }
    }
}

/// The supervisor's whole life; returns its exit status.
fn supervise(order: &Order<'_>, owner: Channel) -> i32 {
    // A session of its own: the terminal's signals go to the command that waits, which forwards them.
    let _ = nix::unistd::setsid();
    close_inherited();
    let signals: SigSet = FORWARDED.into_iter().collect();
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None);
    let mut booted = match boot::boot(order, &signals) {
        Ok(booted) => booted,
        Err(error) => {
            match error {
                Error::Service { .. } => control::fail(&owner, &error.to_string()),
                _ => control::refuse(&owner, &error.to_string()),
            }
            let _ = order.store.remove(order.id);
            return error.exit_status();
        }
    };
    if order.custody == Custody::Detached {
        let null = booted.null.as_fd();
        let _ = nix::unistd::dup2_stdin(null);
        let _ = nix::unistd::dup2_stdout(null);
        let _ = nix::unistd::dup2_stderr(null);
    }
    let watched = watch::watch(order, &mut booted, owner);
    booted.services.iter().for_each(|service| service.process.kill());
    booted.services.iter().for_each(|service| service.reap());
    let status = match &watched.end {
        End::Container { status } => *status,
        End::NotStarted { .. } | End::Abandoned => 1,
        End::Service { service, cause } => {
            // Otherwise the command that waits for the start says it.
            if !watched.is_awaited() {
                order.log.error(&Error::Service { service, cause: cause.clone() }.to_string());
            }
            SANDBOX_FAILED
        }
    };
    clean_up(order, &booted, watched.owner_waits);
    // Only now, so that whoever is told finds everything in order.
    watched.answer();
    status
}

/// Starts the supervisor's own debug plane, with which the process has a second thread: nothing forks any more.
fn open_debug_plane(order: &Order<'_>, booted: &mut boot::Booted) -> Result<()> {
    let doing = "start the debug plane";
    let Some(listener) = booted.debug.take() else { return Ok(()) };
    let log = match &booted.sink {
        Some(sink) => sink.as_fd(),
        None => booted.null.as_fd(),
    };
    let log = log.try_clone_to_owned().map_err(Error::host(doing))?;
    let (id, filter, json) = (order.id.as_str(), order.log.service_filter(), order.log.json());
    let plane = debug::plane(debug::Facts {
        id: order.id.clone(),
        store: order.store.clone(),
        services: booted.services.iter().map(|service| (service.kind, service.process.pid.as_raw())).collect(),
        links: booted.links.clone(),
    });
    service_scaffold::oversee("supervisor", id, log, filter, json, listener.into(), plane).map_err(Error::ipc(doing))?;
    // There is nothing to do, and most of what was done will not be done again.
    bulkhead_ipc::code::unmap_for_now();
    Ok(())
}

/// Leaves a stopped container, or nothing when nobody will delete it.
fn clean_up(order: &Order<'_>, booted: &boot::Booted, owner_waits: bool) {
    if let Some(takeover) = &booted.takeover {
        takeover.give_back(order.log);
    }
    let abandoned = order.custody == Custody::Attached && !owner_waits;
    let recorded = booted.created.then(|| booted.state.clone());
    let Some(mut state) = recorded.filter(|_| !abandoned) else {
        booted.cgroup.leave();
        booted.cgroup.remove();
        if let Err(error) = order.store.remove(order.id) {
            order.log.error(&error.to_string());
        }
        return;
    };
    listeners::remove(&order.store.directory(order.id));
    state.status = Status::Stopped;
    if order.custody == Custody::Detached
        && let Err(error) = order.store.save(order.id, &state)
    {
        order.log.error(&error.to_string());
    }
}
