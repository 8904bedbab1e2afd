//! `run`: create, start, and, unless detached, wait and delete.

use std::os::fd::{AsFd, OwnedFd};

use clap::Args;
use nix::{
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    Context, CreateFlags,
    create::{Outputs, create, load},
    discard::discard,
    parse_id,
    start::start,
};
use crate::{
    error::{Error, Result},
    id::ContainerId,
    oci::Plan,
    supervisor::{Created, Custody, FORWARDED, control::Supervisor},
    terminal::{OwnTerminal, Relay, wait_and_relay},
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
    let outputs = Outputs::of(flags);
    if arguments.detach {
        let created = create(context, &id, &plan, &inherited, custody, outputs)?;
        if let Err(error) = start(context, &id, &created.supervisor) {
            let _ = waitpid(created.pid, None);
            discard(context, &id);
            return Err(error);
        }
        return Ok(0);
    }
    // A kept container is one that nobody deletes.
    let custody = if arguments.keep { Custody::Detached } else { custody };
    attached(context, &id, plan, &inherited, custody, outputs)
}

/// Runs a container, forwards signals to it, and returns its exit status. If it has a terminal, that is shown on the caller's.
pub fn attached(
    context: &Context,
    id: &ContainerId,
    mut plan: Plan,
    inherited: &[OwnedFd],
    custody: Custody,
    outputs: Outputs<'_>,
) -> Result<i32> {
    let own = plan.program.terminal.then(OwnTerminal::find).transpose()?;
    plan.console_size = plan.console_size.or_else(|| own.as_ref()?.size());
    // From here on signals wait until there is somebody to forward them to.
    let signals: SigSet = FORWARDED.into_iter().chain([Signal::SIGCHLD]).collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).map_err(Error::host("block signals"))?;
    let Created { pid, supervisor, master } = create(context, id, &plan, inherited, custody, outputs)?;
    let relay = own.zip(master).map(|(own, master)| Relay::new(own, master)).transpose();
    let started = relay.and_then(|relay| start(context, id, &supervisor).map(|()| relay));
    if started.is_err() {
        // It ends itself, if it has not been told to begin.
        let _ = supervisor.signal(libc::SIGKILL, true);
        let _ = waitpid(pid, None);
    }
    let ended = started.and_then(|relay| forward_until_end(pid, &supervisor, &signals, relay));
    if custody == Custody::Attached {
        discard(context, id);
    }
    ended
}

fn forward_until_end(pid: Pid, supervisor: &Supervisor, signals: &SigSet, mut relay: Option<Relay>) -> Result<i32> {
    let doing = "wait for the container";
    let signals = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(Error::host(doing))?;
    loop {
        let ended = match waitpid(pid, Some(WaitPidFlag::WNOHANG)).map_err(Error::host(doing))? {
            WaitStatus::Exited(_, status) => Some(status),
            WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
            _ => None,
        };
        if let Some(status) = ended {
            relay.into_iter().for_each(Relay::finish);
            return Ok(status);
        }
        wait_and_relay([signals.as_fd()], relay.as_mut()).map_err(Error::host(doing))?;
        while let Ok(Some(signal)) = signals.read_signal() {
            match (signal.ssi_signo as i32, &relay) {
                (libc::SIGCHLD, _) => {}
                (libc::SIGWINCH, Some(relay)) => relay.resize(),
                (signal, _) => supervisor.forward(signal),
            }
        }
    }
}
