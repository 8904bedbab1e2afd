//! OCI hooks: programs of the caller's that run at stages of a container's life, with its state on stdin. All of them run in
//! the runtime's namespaces.

use std::{
    io::Write,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use oci_spec::runtime::{Hook, Hooks};

use crate::{
    error::{Error, Result, describe},
    log::Log,
    signals,
};

/// When a hook runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Between create and start.
    Prestart,
    /// At create.
    CreateRuntime,
    /// At create.
    CreateContainer,
    /// Before the program runs.
    StartContainer,
    /// After it was started.
    Poststart,
    /// After the container was deleted.
    Poststop,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Prestart => "prestart",
            Stage::CreateRuntime => "createRuntime",
            Stage::CreateContainer => "createContainer",
            Stage::StartContainer => "startContainer",
            Stage::Poststart => "poststart",
            Stage::Poststop => "poststop",
        }
    }

    #[allow(deprecated, reason = "Docker still sets prestart hooks")]
    fn of(self, hooks: &Hooks) -> &[Hook] {
        let list = match self {
            Stage::Prestart => hooks.prestart(),
            Stage::CreateRuntime => hooks.create_runtime(),
            Stage::CreateContainer => hooks.create_container(),
            Stage::StartContainer => hooks.start_container(),
            Stage::Poststart => hooks.poststart(),
            Stage::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }
}

/// Runs a stage's hooks in order, each with `state` (JSON) on stdin; the first failure ends it.
pub fn run(hooks: &Hooks, stage: Stage, state: &str) -> Result<()> {
    for (index, hook) in stage.of(hooks).iter().enumerate() {
        run_one(hook, state).map_err(|what| Error::Hook { kind: stage.name(), index, what })?;
    }
    Ok(())
}

/// As [`run`], for stages whose failures are only told.
pub fn run_all(hooks: &Hooks, stage: Stage, state: &str, log: &Log) {
    for (index, hook) in stage.of(hooks).iter().enumerate() {
        if let Err(what) = run_one(hook, state) {
            log.warning(&Error::Hook { kind: stage.name(), index, what }.to_string());
        }
    }
}

fn run_one(hook: &Hook, state: &str) -> std::result::Result<(), String> {
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_deref().unwrap_or_default().split_first() {
        command.arg0(name).args(arguments);
    }
    command.env_clear().envs(hook.env().iter().flatten().filter_map(|entry| entry.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{}: {}", hook.path().display(), describe(&e)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read it.
        let _ = stdin.write_all(state.as_bytes());
    }
    let deadline = hook.timeout().and_then(|s| u64::try_from(s).ok()).map(|s| Instant::now() + Duration::from_secs(s));
    if let Some(deadline) = deadline
        && !ends_before(&mut child, deadline)?
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{}: timed out", hook.path().display()));
    }
    let output = child.wait_with_output().map_err(|e| describe(&e))?;
    if output.status.success() {
        return Ok(());
    }
    let ended = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => signals::name(signal),
        (None, None) => "ended".to_owned(),
    };
    Err(format!("{}: {ended}, stderr: {}", hook.path().display(), String::from_utf8_lossy(&output.stderr).trim()))
}

fn ends_before(child: &mut Child, deadline: Instant) -> std::result::Result<bool, String> {
    loop {
        if child.try_wait().map_err(|e| describe(&e))?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(script: &str, timeout: Option<i64>) -> Hooks {
        let hook = serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": timeout});
        serde_json::from_value(serde_json::json!({ "createRuntime": [hook] })).unwrap()
    }

    #[test]
    fn a_hook_gets_the_state_and_its_failure_is_named() {
        assert!(run(&hooks("grep -q c1", None), Stage::CreateRuntime, r#"{"id":"c1"}"#).is_ok());
        let error = run(&hooks("echo no >&2; exit 3", None), Stage::CreateRuntime, "{}").unwrap_err();
        assert_eq!(error.to_string(), "error running hook #0 (createRuntime): /bin/sh: exit status 3, stderr: no");
        let late = run(&hooks("exec sleep 60", Some(0)), Stage::CreateRuntime, "{}").unwrap_err();
        assert!(late.to_string().ends_with("timed out"), "{late}");
    }
}
