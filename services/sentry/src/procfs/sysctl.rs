//! /proc/sys: a tree of small values. Those that mean something to the guest kernel are computed; the rest are what a program
//! expects to find, and those that the container's configuration sets (OCI `linux.sysctl`) are that.

use crate::{
    Errno,
    kernel::{Kernel, RELEASE, Uts},
    task::{PID_MAX, capability},
    tty::devpts::MOST,
};

/// What a value is.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// Always this.
    Fixed(&'static str),
    /// Computed.
    Read(fn(&Kernel) -> String),
    /// Computed; can be written with CAP_SYS_ADMIN.
    ReadWrite(fn(&Kernel) -> String, fn(&mut Uts, Vec<u8>)),
}

/// Path beneath /proc/sys and value, in order.
const VALUES: &[(&str, Value)] = &[
    ("fs/aio-max-nr", Value::Fixed("65536")),
    ("fs/aio-nr", Value::Fixed("0")),
    ("fs/file-max", Value::Fixed("9223372036854775807")),
    ("fs/file-nr", Value::Fixed("0\t0\t9223372036854775807")),
    ("fs/mqueue/msg_max", Value::Fixed("10")),
    ("fs/mqueue/msgsize_max", Value::Fixed("8192")),
    ("fs/mqueue/queues_max", Value::Fixed("256")),
    ("fs/nr_open", Value::Fixed("1048576")),
    ("fs/overflowgid", Value::Fixed("65534")),
    ("fs/overflowuid", Value::Fixed("65534")),
    ("fs/pipe-max-size", Value::Fixed("1048576")),
    ("fs/pipe-user-pages-hard", Value::Fixed("0")),
    ("fs/pipe-user-pages-soft", Value::Fixed("16384")),
    ("fs/protected_fifos", Value::Fixed("0")),
    ("fs/protected_hardlinks", Value::Fixed("0")),
    ("fs/protected_regular", Value::Fixed("0")),
    ("fs/protected_symlinks", Value::Fixed("0")),
    ("fs/suid_dumpable", Value::Fixed("0")),
    ("kernel/cap_last_cap", Value::Fixed("40")),
    ("kernel/core_pattern", Value::Fixed("core")),
    ("kernel/core_uses_pid", Value::Fixed("0")),
    ("kernel/dmesg_restrict", Value::Fixed("1")),
    ("kernel/domainname", Value::ReadWrite(|kernel| name(&kernel.uts.read().domainname), |uts, value| uts.domainname = value)),
    ("kernel/hostname", Value::ReadWrite(|kernel| name(&kernel.uts.read().hostname), |uts, value| uts.hostname = value)),
    ("kernel/kptr_restrict", Value::Fixed("2")),
    ("kernel/msgmax", Value::Fixed("8192")),
    ("kernel/msgmnb", Value::Fixed("16384")),
    ("kernel/msgmni", Value::Fixed("32000")),
    ("kernel/ngroups_max", Value::Fixed("65536")),
    ("kernel/osrelease", Value::Fixed(RELEASE)),
    ("kernel/ostype", Value::Fixed("Linux")),
    ("kernel/overflowgid", Value::Fixed("65534")),
    ("kernel/overflowuid", Value::Fixed("65534")),
    ("kernel/panic", Value::Fixed("0")),
    ("kernel/perf_event_paranoid", Value::Fixed("4")),
    ("kernel/pid_max", Value::Read(|_| PID_MAX.to_string())),
    ("kernel/printk", Value::Fixed("4\t4\t1\t7")),
    ("kernel/pty/max", Value::Read(|_| MOST.to_string())),
    ("kernel/pty/nr", Value::Read(|kernel| kernel.terminals.devpts(kernel).count().to_string())),
    ("kernel/pty/reserve", Value::Fixed("1024")),
    ("kernel/random/boot_id", Value::Read(|kernel| kernel.proc.boot_id.clone())),
    ("kernel/random/entropy_avail", Value::Fixed("256")),
    ("kernel/random/poolsize", Value::Fixed("256")),
    ("kernel/random/uuid", Value::Read(|_| super::random_uuid())),
    ("kernel/randomize_va_space", Value::Fixed("2")),
    ("kernel/sched_rr_timeslice_ms", Value::Fixed("100")),
    ("kernel/sem", Value::Fixed("32000\t1024000000\t500\t32000")),
    ("kernel/shmall", Value::Fixed("18446744073692774399")),
    ("kernel/shmmax", Value::Fixed("18446744073692774399")),
    ("kernel/shmmni", Value::Fixed("4096")),
    ("kernel/tainted", Value::Fixed("0")),
    ("kernel/threads-max", Value::Read(|_| PID_MAX.to_string())),
    ("kernel/version", Value::Fixed(super::system::VERSION)),
    ("kernel/yama/ptrace_scope", Value::Fixed("1")),
    ("net/core/optmem_max", Value::Fixed("131072")),
    ("net/core/rmem_default", Value::Fixed("212992")),
    ("net/core/rmem_max", Value::Fixed("212992")),
    ("net/core/somaxconn", Value::Fixed("4096")),
    ("net/core/wmem_default", Value::Fixed("212992")),
    ("net/core/wmem_max", Value::Fixed("212992")),
    ("net/unix/max_dgram_qlen", Value::Fixed("10")),
    ("vm/dirty_background_ratio", Value::Fixed("10")),
    ("vm/dirty_ratio", Value::Fixed("20")),
    ("vm/max_map_count", Value::Fixed("65530")),
    ("vm/min_free_kbytes", Value::Fixed("65536")),
    ("vm/mmap_min_addr", Value::Fixed("65536")),
    ("vm/nr_hugepages", Value::Fixed("0")),
    ("vm/overcommit_kbytes", Value::Fixed("0")),
    ("vm/overcommit_memory", Value::Fixed("0")),
    ("vm/overcommit_ratio", Value::Fixed("50")),
    ("vm/swappiness", Value::Fixed("60")),
];

fn name(bytes: &[u8]) -> String {
    if bytes.is_empty() { "(none)".to_owned() } else { String::from_utf8_lossy(bytes).into_owned() }
}

/// What a path beneath /proc/sys is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A value; whether it can be written.
    Value {
        /// Whether a write can succeed.
        writable: bool,
    },
}

/// Looks a path up ("" is /proc/sys itself).
pub fn find(path: &str) -> Option<Kind> {
    if path.is_empty() {
        return Some(Kind::Directory);
    }
    VALUES.iter().find_map(|&(key, value)| match key.strip_prefix(path) {
        Some("") => Some(Kind::Value { writable: matches!(value, Value::ReadWrite(..)) }),
        Some(rest) if rest.starts_with('/') => Some(Kind::Directory),
        _ => None,
    })
}

/// Names in a directory, each once.
pub fn list(path: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for (key, _) in VALUES {
        let rest = if path.is_empty() { Some(*key) } else { key.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')) };
        if let Some(name) = rest.and_then(|rest| rest.split('/').next())
            && names.last() != Some(&name)
        {
            names.push(name);
        }
    }
    names
}

/// Reads a value, with its newline.
pub fn read(kernel: &Kernel, path: &str) -> Result<Vec<u8>, Errno> {
    let (_, value) = VALUES.iter().find(|(key, _)| *key == path).ok_or(Errno::ENOENT)?;
    let configured = || {
        let dotted = path.replace('/', ".");
        kernel.settings.sysctls.iter().find(|(name, _)| *name == dotted).map(|(_, value)| value.clone())
    };
    let mut text = match value {
        Value::Fixed(text) => configured().unwrap_or_else(|| (*text).to_owned()),
        Value::Read(get) | Value::ReadWrite(get, _) => get(kernel),
    };
    text.push('\n');
    Ok(text.into_bytes())
}

/// Writes a value. EPERM without CAP_SYS_ADMIN, EACCES where it cannot be written, EINVAL where it makes no sense.
pub fn write(kernel: &Kernel, capabilities: u64, path: &str, bytes: &[u8]) -> Result<(), Errno> {
    let (_, value) = VALUES.iter().find(|(key, _)| *key == path).ok_or(Errno::ENOENT)?;
    let Value::ReadWrite(_, set) = value else { return Err(Errno::EACCES) };
    if capabilities & 1 << capability::SYS_ADMIN == 0 {
        return Err(Errno::EPERM);
    }
    let value = bytes.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
    if value.len() > 64 {
        return Err(Errno::EINVAL);
    }
    set(&mut kernel.uts.write(), value.to_vec());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_order_so_that_directories_are_listed_once() {
        assert!(VALUES.is_sorted_by_key(|(key, _)| *key));
        assert_eq!(list(""), ["fs", "kernel", "net", "vm"]);
        assert_eq!(list("kernel/yama"), ["ptrace_scope"]);
    }

    #[test]
    fn paths_are_directories_values_or_nothing() {
        assert_eq!(find(""), Some(Kind::Directory));
        assert_eq!(find("kernel"), Some(Kind::Directory));
        assert_eq!(find("kernel/hostname"), Some(Kind::Value { writable: true }));
        assert_eq!(find("kernel/host"), None);
        assert_eq!(find("kernel/hostname/x"), None);
    }
}
