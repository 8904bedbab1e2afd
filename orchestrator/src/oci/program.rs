//! `process` to the sentry's `Program`.

use std::os::unix::ffi::OsStrExt;

use bulkhead_ipc::setup::Program;

use super::{Config, complaint::Complaint, limits};

/// `process`, whose absence and gaps are complained about in runc's words.
pub fn convert(config: &Config) -> Result<Program, Complaint> {
    let process =
        config.spec.process().as_ref().ok_or_else(|| Complaint::new("process", "process property must not be empty"))?;
    let arguments = process.args().as_deref().unwrap_or_default();
    if arguments.is_empty() {
        return Err(Complaint::new("process.args", "args must not be empty"));
    }
    if process.cwd().as_os_str().is_empty() {
        return Err(Complaint::new("process.cwd", "Cwd property must not be empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(Complaint::new("process.cwd", format!("Cwd must be an absolute path, not {}", process.cwd().display())));
    }
    let environment = process.env().as_deref().unwrap_or_default();
    for (list, name) in [(arguments, "args"), (environment, "env")] {
        if let Some(index) = list.iter().position(|text| text.contains('\0')) {
            return Err(Complaint::new(format!("process.{name}[{index}]"), "a NUL byte"));
        }
    }
    let user = process.user();
    Ok(Program {
        arguments: arguments.iter().map(|a| a.clone().into_bytes()).collect(),
        environment: environment.iter().map(|e| e.clone().into_bytes()).collect(),
        directory: process.cwd().as_os_str().as_bytes().to_vec(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        capabilities: config.capabilities,
        limits: limits::convert(process.rlimits().as_deref().unwrap_or_default())?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adjust: process.oom_score_adj().unwrap_or(0),
    })
}
