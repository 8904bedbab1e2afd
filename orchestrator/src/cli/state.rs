//! `state`: one container as JSON.

use clap::Args;
use serde_json::{Value, json};

use super::{Context, parse_id};
use crate::{
    error::Result,
    oci::SPEC_VERSION,
    state::{State, Status},
};

/// Arguments of `state`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Prints a container's state.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let state = context.store.load(&parse_id(&arguments.id)?)?;
    println!("{:#}", document(&state, ""));
    Ok(0)
}

/// runc's fields in runc's order.
pub fn document(state: &State, owner: &str) -> Value {
    let status = state.status();
    let mut document = json!({
        "ociVersion": SPEC_VERSION,
        "id": state.id,
        "pid": if status == Status::Stopped { 0 } else { state.pid },
        "status": status,
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created,
    });
    if !state.annotations.is_empty() {
        document["annotations"] = json!(state.annotations);
    }
    document["owner"] = owner.into();
    document
}
