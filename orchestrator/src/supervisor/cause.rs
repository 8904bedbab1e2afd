//! Why a service ended, in words.

use std::{fs::OpenOptions, io::Read, os::unix::fs::OpenOptionsExt};

use nix::sys::{signal::Signal, wait::WaitStatus};

use super::service::Service;
use crate::{error::describe, signals};

/// What there is to say about the end of `service`, whose last words are handed on.
pub fn describe_end(service: &mut Service, status: WaitStatus) -> String {
    if let Some((step, error)) = service.process.setup_failure() {
        return format!("cannot {}: {}", step.describe(), describe(&error));
    }
    service.journal.pump();
    let last = service.journal.last();
    match status {
        WaitStatus::Signaled(pid, Signal::SIGSYS, _) => {
            let killed = "seccomp: killed by a forbidden host system call";
            // The service's own handler names the call, unless the filter did not let it come to that.
            match (last.and_then(|line| line.strip_prefix("seccomp: ")), forbidden_call(pid.as_raw())) {
                (Some(call), _) => format!("{killed}: {call}"),
                (None, Some(number)) => format!("{killed}, number {number}"),
                (None, None) => killed.to_owned(),
            }
        }
        WaitStatus::Signaled(_, signal, _) => match (signal, last) {
            (Signal::SIGABRT, Some(line)) => format!("killed by SIGABRT: {line}"),
            _ => format!("killed by {}", signals::name(signal as i32)),
        },
        WaitStatus::Exited(_, code) => match last {
            Some(line) if code != 0 => format!("exited with status {code}: {line}"),
            _ => format!("exited with status {code}"),
        },
        _ => "ended".to_owned(),
    }
}

/// The number of the system call that a process was killed for, from the host kernel's audit records, where it writes them
/// to its log.
fn forbidden_call(pid: i32) -> Option<u32> {
    let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let mut record = vec![0; 8192];
    let mut found = None;
    // One read is one record; EPIPE says that some were overwritten meanwhile.
    loop {
        match log.read(&mut record) {
            Ok(length) => found = parse_audit(&String::from_utf8_lossy(&record[..length]), pid).or(found),
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => return found,
        }
    }
}

/// The last record of that pid is the one: earlier ones are of processes that had the pid before.
fn parse_audit(record: &str, pid: i32) -> Option<u32> {
    /// AUDIT_SECCOMP.
    const KIND: &str = "type=1326 ";
    let (_, fields) = record.split_once(KIND)?;
    let field = |name: &str| fields.split_whitespace().find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    if field("pid")? != pid.to_string() { None } else { field("syscall")?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_is_read_from_an_audit_record() {
        let record = "5,1130,7723,-;audit: type=1326 audit(1700.123:45): auid=0 uid=65534 gid=65534 ses=1 pid=4321 \
                      comm=\"vfs\" exe=\"/bin/x\" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000\n";
        assert_eq!(parse_audit(record, 4321), Some(41));
        assert_eq!(parse_audit(record, 432), None);
        assert_eq!(parse_audit("5,1,2,-;hello pid=4321 syscall=2", 4321), None);
    }
}
