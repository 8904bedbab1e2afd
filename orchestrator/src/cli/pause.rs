//! `pause` and `resume`: stop all processes of a container, and let them go on. The supervisor is one of them, so both are done
//! by the command itself.

use clap::Args;

use super::{Context, parse_id};
use crate::{
    cgroup::Places,
    error::{Error, Result},
    state::Status,
};

/// Arguments of `pause` and `resume`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Pauses a container.
pub fn pause(context: &Context, arguments: &Arguments) -> Result<i32> {
    let state = context.store.load(&parse_id(&arguments.id)?)?;
    match state.status() {
        Status::Created | Status::Running => Places::of(&state.cgroups).freeze().map(|()| 0),
        Status::Paused | Status::Stopped => Err(Error::Usage("container not running".into())),
    }
}

/// Resumes a container.
pub fn resume(context: &Context, arguments: &Arguments) -> Result<i32> {
    let state = context.store.load(&parse_id(&arguments.id)?)?;
    match state.status() {
        Status::Paused => Places::of(&state.cgroups).thaw().map(|()| 0),
        _ => Err(Error::Usage("container not paused".into())),
    }
}
