//! `create`: everything but the program; and what `run` has in common with it.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use clap::Args;

use super::{Context, CreateFlags, parse_id};
use crate::{
    error::{Error, Result},
    hooks::{self, Stage},
    host::{Inherited, inherited_fds},
    id::ContainerId,
    oci::{Config, Plan, set_variable},
    state::{Status, write_atomically},
    supervisor::{self, Created, Custody, Order},
    terminal::send_master,
};

/// Arguments of `create`.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    flags: CreateFlags,
}

/// Creates a container.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let flags = &arguments.flags;
    let id = parse_id(&flags.id)?;
    let (plan, inherited) = load(context, flags, Custody::Detached)?;
    create(context, &id, &plan, &inherited, Custody::Detached, Outputs::of(flags))?;
    Ok(0)
}

/// Reads the bundle that the flags name, and takes the files that the container is to inherit.
pub fn load(context: &Context, flags: &CreateFlags, custody: Custody) -> Result<(Plan, Vec<OwnedFd>)> {
    flags.tell_ignored(&context.log);
    let config = Config::load(&flags.bundle, &context.log)?;
    let mut plan = Plan::of(&config, context.overlay, context.network, &context.log)?;
    plan.rewriting &= context.rewriting;
    let Inherited { fds, environment } = inherited_fds(flags.preserve_fds)?;
    environment.into_iter().for_each(|entry| set_variable(&mut plan.program.environment, entry));
    let detached = custody == Custody::Detached;
    let usage = |text: &str| Err(Error::Usage(text.to_owned()));
    match (plan.program.terminal, detached, flags.console_socket.is_some()) {
        (true, true, false) => usage("cannot allocate tty if bulkhead will detach without setting console socket"),
        (_, false, true) | (false, _, true) => usage("cannot use console socket if bulkhead will not detach or allocate tty"),
        _ => Ok((plan, fds)),
    }
}

/// Where `create` and `run` put what is made.
#[derive(Clone, Copy, Default, Debug)]
pub struct Outputs<'a> {
    /// For the supervisor's pid.
    pub pid_file: Option<&'a Path>,
    /// For the terminal's master.
    pub console_socket: Option<&'a Path>,
}

impl Outputs<'_> {
    /// As the flags say.
    pub fn of(flags: &CreateFlags) -> Outputs<'_> {
        Outputs { pid_file: flags.pid_file.as_deref(), console_socket: flags.console_socket.as_deref() }
    }
}

/// Starts the supervisor, writes the pid file and runs the hooks of this stage. On a failure nothing is left.
pub fn create(
    context: &Context,
    id: &ContainerId,
    plan: &Plan,
    inherited: &[OwnedFd],
    custody: Custody,
    outputs: Outputs<'_>,
) -> Result<Created> {
    let claim = context.store.claim(id)?;
    let order = Order { id, store: &context.store, plan, inherited, custody, log: &context.log };
    let created = supervisor::start(&order)?;
    let finished = finish(context, id, plan, &created, outputs);
    match finished {
        Ok(()) => {
            claim.keep();
            Ok(created)
        }
        Err(error) => {
            // The program does not run yet, so this ends the sandbox.
            let _ = created.supervisor.signal(libc::SIGKILL, true);
            let _ = nix::sys::wait::waitpid(created.pid, None);
            super::discard::discard(context, id);
            Err(error)
        }
    }
}

fn finish(context: &Context, id: &ContainerId, plan: &Plan, created: &Created, outputs: Outputs<'_>) -> Result<()> {
    if let (Some(socket), Some(master)) = (outputs.console_socket, &created.master) {
        send_master(socket, master.as_fd())?;
    }
    if plan.hooks != Default::default() {
        let state = context.store.load(id)?.oci(Status::Created).to_string();
        for stage in [Stage::Prestart, Stage::CreateRuntime, Stage::CreateContainer] {
            hooks::run(&plan.hooks, stage, &state)?;
        }
    }
    created.supervisor.prepare().map_err(Error::not_started)?;
    match outputs.pid_file {
        Some(file) => write_atomically(file, created.pid.to_string().as_bytes(), 0o644),
        None => Ok(()),
    }
}
