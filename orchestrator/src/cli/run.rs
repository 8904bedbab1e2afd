//! `run`: create, start, and, unless detached, wait and delete.

use std::os::fd::OwnedFd;

use clap::Args;
use nix::{
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    Context, CreateFlags,
    create::{Created, create, load},
    discard::discard,
    parse_id,
    start::start,
};
use crate::{
    error::{Error, Result},
    id::ContainerId,
    oci::Plan,
    supervisor::{Custody, FORWARDED, control::Supervisor},
};

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    flags: CreateFlags,
    /// Return when the program runs
    #[arg(long, short)]
    detach: bool,
    /// Do not delete the container when it has ended
    #[arg(long)]
    keep: bool,
    /// Accepted for compatibility
    #[arg(long)]
    no_subreaper: bool,
}

/// Runs a container.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let flags = &arguments.flags;
    let id = parse_id(&flags.id)?;
    let custody = if arguments.detach { Custody::Detached } else { Custody::Attached };
    let (plan, inherited) = load(context, flags, custody)?;
    if arguments.detach {
        let created = create(context, &id, &plan, &inherited, custody, flags.pid_file.as_deref())?;
        if let Err(error) = start(context, &id, &created.supervisor) {
            let _ = waitpid(created.pid, None);
            discard(context, &id);
            return Err(error);
        }
        return Ok(0);
    }
    // A kept container is one that nobody deletes.
    let custody = if arguments.keep { Custody::Detached } else { custody };
    attached(context, &id, &plan, &inherited, custody, flags.pid_file.as_deref())
}

/// Runs a container, forwards signals to it, and returns its exit status.
pub fn attached(
    context: &Context,
    id: &ContainerId,
    plan: &Plan,
    inherited: &[OwnedFd],
    custody: Custody,
    pid_file: Option<&std::path::Path>,
) -> Result<i32> {
    // From here on signals wait until there is somebody to forward them to.
    let signals: SigSet = FORWARDED.into_iter().chain([Signal::SIGCHLD]).collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).map_err(Error::host("block signals"))?;
    let Created { pid, supervisor } = create(context, id, plan, inherited, custody, pid_file)?;
    let started = start(context, id, &supervisor);
    if started.is_err() {
        // It ends itself.
        let _ = waitpid(pid, None);
    }
    let ended = started.and_then(|()| forward_until_end(pid, &supervisor, &signals));
    if custody == Custody::Attached {
        discard(context, id);
    }
    ended
}

fn forward_until_end(pid: Pid, supervisor: &Supervisor, signals: &SigSet) -> Result<i32> {
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)).map_err(Error::host("wait for the container"))? {
            WaitStatus::Exited(_, status) => return Ok(status),
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as i32),
            _ => {}
        }
        match signals.wait().map_err(Error::host("wait for the container"))? {
            Signal::SIGCHLD => {}
            signal => supervisor.forward(signal as i32),
        }
    }
}
