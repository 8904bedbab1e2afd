//! `process` to the sentry's `Program`.

use std::os::unix::ffi::OsStrExt;

use bulkhead_ipc::setup::{CapabilitySets, Program};
use nix::pty::Winsize;
use oci_spec::runtime::{LinuxPersonalityDomain, Process, Spec};

use super::{complaint::Complaint, limits};
use crate::log::Log;

/// `process`, whose absence and gaps are complained about in runc's words.
pub fn convert(process: Option<&Process>, capabilities: CapabilitySets) -> Result<Program, Complaint> {
    let process = process.ok_or_else(|| Complaint::new("process", "process property must not be empty"))?;
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
    if let Some(index) = environment.iter().position(|entry| !entry.contains('=') || entry.starts_with('=')) {
        let what = format!("invalid environment variable {:?}: no name or no \"=\"", environment[index]);
        return Err(Complaint::new(format!("process.env[{index}]"), what));
    }
    let mut variables = Vec::new();
    environment.iter().for_each(|entry| set_variable(&mut variables, entry.clone().into_bytes()));
    let user = process.user();
    Ok(Program {
        arguments: arguments.iter().map(|a| a.clone().into_bytes()).collect(),
        environment: variables,
        directory: process.cwd().as_os_str().as_bytes().to_vec(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        capabilities,
        limits: limits::convert(process.rlimits().as_deref().unwrap_or_default())?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adjust: process.oom_score_adj().unwrap_or(0),
        personality: 0,
        terminal: process.terminal().unwrap_or(false),
    })
}

/// `linux.personality` as personality(2) has it.
pub fn personality(spec: &Spec, log: &Log) -> u32 {
    const PER_LINUX32: u32 = 8;
    let Some(personality) = spec.linux().as_ref().and_then(|linux| linux.personality().as_ref()) else { return 0 };
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        log.warning("linux.personality.flags: ignored, as runc does");
    }
    match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    }
}

/// `process.consoleSize`, if the process has a terminal.
pub fn console_size(process: Option<&Process>) -> Option<Winsize> {
    let process = process.filter(|process| process.terminal() == Some(true))?;
    let size = process.console_size()?;
    let cells = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
    Some(Winsize { ws_row: cells(size.height()), ws_col: cells(size.width()), ws_xpixel: 0, ws_ypixel: 0 })
}

/// Sets a variable (`NAME=value`), which replaces one of the same name, as for runc.
pub fn set_variable(environment: &mut Vec<Vec<u8>>, entry: Vec<u8>) {
    let name = |entry: &[u8]| entry.iter().position(|&byte| byte == b'=').map_or(entry.len(), |end| end + 1);
    let prefix = &entry[..name(&entry)];
    match environment.iter_mut().find(|earlier| earlier.starts_with(prefix)) {
        Some(earlier) => *earlier = entry,
        None => environment.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::set_variable;

    #[test]
    fn a_later_variable_replaces_an_earlier_one_in_its_place() {
        let mut environment = Vec::new();
        for entry in ["A=1", "AB=2", "A=3", "C=", "C=4"] {
            set_variable(&mut environment, entry.into());
        }
        assert_eq!(environment, [b"A=3".to_vec(), b"AB=2".to_vec(), b"C=4".to_vec()]);
    }
}
