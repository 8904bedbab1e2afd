//! `start`: runs a created container's program.

use std::time::{Duration, Instant};

use clap::Args;

use super::{Context, parse_id};
use crate::{
    error::{Error, Result},
    hooks::{self, Stage},
    id::ContainerId,
    state::{State, Status, process_started},
    supervisor::control::Supervisor,
};

/// Arguments of `start`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Starts a container.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let id = parse_id(&arguments.id)?;
    match context.store.load(&id)?.status() {
        Status::Created => {}
        Status::Stopped => return Err(Error::Usage("cannot start a container that has stopped".into())),
        Status::Paused => return Err(Error::Usage("cannot start a container in the paused state".into())),
        Status::Running => return Err(Error::Usage("cannot start an already running container".into())),
    }
    let supervisor = Supervisor::connect(&context.store.directory(&id))?;
    start(context, &id, &supervisor)?;
    Ok(0)
}

/// Orders the start and runs the hooks around it.
pub fn start(context: &Context, id: &ContainerId, supervisor: &Supervisor) -> Result<()> {
    // Read before the start: the program may have ended, and its state be gone, right after.
    let state = context.store.load(id)?;
    hooks::run(&state.hooks, Stage::StartContainer, &state.oci(Status::Created).to_string()).inspect_err(|_| {
        // The container does not start any more. One that has ended meanwhile does not mind.
        let _ = supervisor.signal(libc::SIGKILL, true);
        wait_for_end(&state);
    })?;
    supervisor.start().map_err(|error| {
        wait_for_end(&state);
        Error::not_started(error)
    })?;
    hooks::run_all(&state.hooks, Stage::Poststart, &state.oci(Status::Running).to_string(), &context.log);
    Ok(())
}

/// A container that did not start ends. Whoever is told of the failure finds it stopped: containerd deletes it at once then, which it
/// cannot while it takes it for created.
fn wait_for_end(state: &State) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while process_started(state.pid) == Some(state.pid_started) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}
