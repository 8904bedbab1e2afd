//! `delete`: removes a stopped container, or with `--force` any.

use std::time::{Duration, Instant};

use clap::Args;
use nix::{sys::signal::Signal, unistd::Pid};

use super::{Context, discard::discard, parse_id};
use crate::{
    cgroup::Places,
    error::{Error, Result},
    state::{State, Status},
};

/// How long a killed supervisor may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `delete`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// End it if it runs
    #[arg(long, short)]
    force: bool,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Deletes a container.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let id = parse_id(&arguments.id)?;
    match context.store.load(&id) {
        Ok(state) => match state.status() {
            Status::Stopped => {}
            status @ (Status::Running | Status::Paused) if !arguments.force => {
                let status = if status == Status::Paused { "paused" } else { "running" };
                return Err(Error::Usage(format!("cannot delete container {id} that is not stopped: {status}")));
            }
            Status::Created | Status::Running | Status::Paused => end(&state)?,
        },
        // As runc.
        Err(Error::NoContainer) if arguments.force => return Ok(0),
        // Half made or damaged: what there is can only be removed.
        Err(_) if arguments.force => {}
        Err(error) => return Err(error),
    }
    discard(context, &id);
    Ok(0)
}

/// Kills the supervisor, and the services with it, and waits until it is gone.
fn end(state: &State) -> Result<()> {
    let doing = "end the container";
    match nix::sys::signal::kill(Pid::from_raw(state.pid), Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(error) => return Err(Error::host(doing)(error)),
    }
    // What is frozen does not die.
    let places = Places::of(&state.cgroups);
    if places.is_frozen() {
        places.thaw()?;
    }
    let deadline = Instant::now() + PATIENCE;
    while state.status() != Status::Stopped {
        if Instant::now() > deadline {
            return Err(Error::Host { doing, why: format!("the supervisor {} does not end", state.pid) });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
