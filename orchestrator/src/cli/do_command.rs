//! `do`: runs a command with the host's files as a read-only lower layer under a writable layer in memory.

use std::{
    env,
    ffi::OsString,
    io::IsTerminal,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use bulkhead_ipc::setup::{CapabilitySets, Program};
use clap::Args;
use serde_json::json;

use super::{Context, create::Outputs, run::attached};
use crate::{
    error::{Error, Result},
    id::ContainerId,
    oci::{ALL_CAPABILITIES, Config, NetworkMode, Overlay, Plan, default_mounts},
    supervisor::Custody,
};

/// Arguments of `do`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Working directory, instead of the caller's
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs the command and returns its exit status.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let directory = match &arguments.cwd {
        Some(directory) => std::path::absolute(directory).map_err(Error::file("find", directory))?,
        None => env::current_dir().map_err(Error::host("tell the working directory"))?,
    };
    // A command at a terminal has one of its own; one in a pipeline reads and writes that.
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut plan = Plan::of(&config(&directory, terminal)?, Overlay::Memory, NetworkMode::None, &context.log)?;
    plan.rewriting &= context.rewriting;
    // Not by way of the configuration, which holds only valid UTF-8.
    plan.program = Program { terminal, ..program(&arguments.command, &directory) };
    attached(context, &ContainerId::generate(), plan, &[], Custody::Attached, Outputs::default())
}

fn config(directory: &Path, terminal: bool) -> Result<Config> {
    let mut mounts = default_mounts();
    if let Some(list) = mounts.as_array_mut()
        // The caller's directory must not be hidden.
        && !directory.starts_with("/tmp")
    {
        let options = ["nosuid", "nodev", "mode=1777"];
        list.push(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": options }));
    }
    let hostname = nix::unistd::gethostname().map_err(Error::host("tell the host's name"))?;
    let spec = json!({
        "ociVersion": crate::oci::SPEC_VERSION,
        "process": { "terminal": terminal, "user": {}, "args": ["sh"], "cwd": "/" },
        "root": { "path": "/", "readonly": false },
        "hostname": hostname.to_string_lossy(),
        "mounts": mounts,
    });
    let spec = serde_json::from_value(spec).map_err(Error::ipc("make the configuration"))?;
    Ok(Config { bundle: "/".into(), spec, capabilities: CapabilitySets::default(), profile: None })
}

/// With the caller's user, environment and directory. Capabilities are the guest kernel's, so its root may have all.
fn program(command: &[OsString], directory: &Path) -> Program {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let all = if uid.is_root() { ALL_CAPABILITIES } else { 0 };
    let groups = nix::unistd::getgroups().unwrap_or_default();
    Program {
        arguments: command.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        environment: env::vars_os().map(|(name, value)| [name.into_vec(), value.into_vec()].join(&b'=')).collect(),
        directory: directory.as_os_str().as_bytes().to_vec(),
        uid: uid.as_raw(),
        gid: gid.as_raw(),
        groups: groups.into_iter().map(|group| group.as_raw()).collect(),
        capabilities: CapabilitySets { bounding: ALL_CAPABILITIES, effective: all, permitted: all, ..Default::default() },
        ..Default::default()
    }
}
