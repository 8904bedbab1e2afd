//! `kill`: a signal to a container.

use clap::Args;

use super::{Context, parse_id};
use crate::{
    cgroup::Places,
    error::{Error, Result},
    signals,
    state::{Status, process_started},
    supervisor::control::Supervisor,
};

/// Arguments of `kill`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Send it to all processes of the container
    #[arg(long, short)]
    all: bool,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
    /// Name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    signal: String,
}

/// Sends a signal.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let id = parse_id(&arguments.id)?;
    let signal = signals::parse(&arguments.signal)?;
    let state = context.store.load(&id)?;
    let status = state.status();
    if status == Status::Stopped {
        // As runc: with --all there may be processes left to signal, and it is no error that there are none.
        return if arguments.all { Ok(0) } else { Err(Error::Usage("container not running".into())) };
    }
    if status == Status::Paused {
        // The supervisor is stopped as well, and reads this when it goes on: at once for SIGKILL, as with runc.
        Supervisor::connect(&context.store.directory(&id))?.order(signal, arguments.all)?;
        return if signal == libc::SIGKILL { Places::of(&state.cgroups).thaw().map(|()| 0) } else { Ok(0) };
    }
    let asked = Supervisor::connect(&context.store.directory(&id)).and_then(|s| s.signal(signal, arguments.all));
    match asked {
        Ok(()) => Ok(0),
        // The supervisor does not answer: its death takes the services with it.
        Err(_) if signal == libc::SIGKILL && process_started(state.pid) == Some(state.pid_started) => {
            let pid = nix::unistd::Pid::from_raw(state.pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).map_err(Error::host("kill the supervisor"))?;
            Ok(0)
        }
        Err(Error::SupervisorGone) => Err(Error::Usage("container not running".into())),
        Err(error) => Err(error),
    }
}
