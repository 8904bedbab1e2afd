//! What `delete` and the end of `run` do: remove a stopped container's traces.

use super::Context;
use crate::{
    cgroup,
    hooks::{self, Stage},
    id::ContainerId,
    state::Status,
};

/// Removes the cgroups and the directory, then runs the poststop hooks. What fails is told, and the rest is done.
pub fn discard(context: &Context, id: &ContainerId) {
    // Gone or damaged: then there is only the directory to remove.
    let state = context.store.load(id).ok();
    if let Some(state) = &state {
        cgroup::remove(&state.cgroups);
    }
    if let Err(error) = context.store.remove(id) {
        context.log.warning(&error.to_string());
    }
    if let Some(state) = &state {
        hooks::run_all(&state.hooks, Stage::Poststop, &state.oci(Status::Stopped).to_string(), &context.log);
    }
}
