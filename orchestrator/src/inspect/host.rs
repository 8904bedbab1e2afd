//! What the host says of a process of the sandbox, in /proc.

use std::fs;

use super::proto::supervisor::Confinement;
use crate::oci::CAPABILITY_NAMES;

/// Microseconds of a clock tick (USER_HZ is 100 on every Linux).
const TICK: u64 = 10_000;

/// Kinds of namespaces.
const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// What a process uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Its parent.
    pub parent: i32,
    /// Threads.
    pub threads: u32,
    /// Bytes in memory.
    pub resident: u64,
    /// CPU time in microseconds.
    pub cpu: u64,
}

/// `None` when it has gone.
pub fn usage(pid: i32) -> Option<Usage> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5); the name in parentheses may contain anything.
fn parse_stat(stat: &str) -> Option<Usage> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Usage {
        parent: number(4)? as i32,
        threads: number(20)? as u32,
        resident: number(24)?.saturating_mul(4096),
        cpu: number(14)?.saturating_add(number(15)?).saturating_mul(TICK),
    })
}

/// How a process is confined.
pub fn confinement(pid: i32) -> Option<Confinement> {
    let mut confinement = parse_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?);
    let namespace = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let is_own = |kind: &&&str| {
        let theirs = namespace(&pid.to_string(), kind);
        theirs.is_some() && theirs != namespace("self", kind)
    };
    confinement.own_namespaces = NAMESPACES.iter().filter(is_own).map(ToString::to_string).collect();
    Some(confinement)
}

/// proc_pid_status(5).
fn parse_status(status: &str) -> Confinement {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let number = |name: &str| field(name).and_then(|text| text.split_whitespace().next()?.parse::<u32>().ok()).unwrap_or(0);
    let capabilities = field("CapEff").and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
    let named = CAPABILITY_NAMES.iter().enumerate().filter(|(bit, _)| capabilities & 1 << bit != 0);
    Confinement {
        seccomp: match number("Seccomp") {
            0 => "none",
            1 => "strict",
            _ => "filter",
        }
        .to_owned(),
        filters: number("Seccomp_filters"),
        no_new_privileges: number("NoNewPrivs") == 1,
        capabilities: named.map(|(_, name)| (*name).to_owned()).collect(),
        own_namespaces: Vec::new(),
        uid: number("Uid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_described_by_what_the_host_says() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 5 0 1234 9999 321 18446744073709551615 1 1";
        assert_eq!(parse_stat(line), Some(Usage { parent: 3, threads: 5, resident: 321 * 4096, cpu: 30_000 }));
        assert_eq!(parse_stat("nonsense"), None);
        let status =
            "Name:\tx\nUid:\t65534\t1\t1\t1\nCapEff:\t000000000000001b\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let confinement = parse_status(status);
        assert_eq!((confinement.seccomp.as_str(), confinement.filters, confinement.uid), ("filter", 1, 65534));
        assert_eq!(confinement.capabilities, ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID"]);
        assert!(confinement.no_new_privileges);
        assert!(usage(std::process::id() as i32).is_some_and(|usage| usage.threads > 0));
    }
}
