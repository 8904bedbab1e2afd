//! The texts of /proc/PID (proc(5)), each as Linux formats it.

use std::{
    fmt::Write,
    sync::{Arc, atomic::Ordering},
};

use bulkhead_ipc::vfs::{Reply, Request};

use super::Clock;
use crate::{
    Errno,
    executor::Executor,
    fs::OpenFile,
    memory::{MapLine, MemoryUsage},
    signal::SignalSet,
    task::{Process, Relations, RunState, Task},
    tty::ioctl::encode_device,
};

/// A process and the thread of it that is looked at: its leader, or one of /proc/PID/task.
#[derive(Clone)]
pub struct Subject {
    /// The process.
    pub process: Arc<Process>,
    /// The thread; `None` when all have ended (a zombie).
    pub task: Option<Arc<Task>>,
}

impl Subject {
    fn relations(&self) -> Relations {
        self.process.kernel.pids.relations(self.process.pid).unwrap_or(Relations {
            parent: 0,
            group: 0,
            session: 0,
            zombie: true,
        })
    }

    fn task(&self) -> Result<&Arc<Task>, Errno> {
        self.task.as_ref().ok_or(Errno::ESRCH)
    }

    fn number(&self) -> i32 {
        self.task.as_ref().map_or(self.process.pid, |task| task.tid())
    }

    fn name(&self) -> String {
        self.task.as_ref().map(|task| String::from_utf8_lossy(&task.name.lock()).into_owned()).unwrap_or_default()
    }

    fn state(&self) -> RunState {
        self.task.as_ref().map_or(RunState::Zombie, |task| task.cpu.state())
    }

    fn usage(&self) -> MemoryUsage {
        self.task.as_ref().map(|task| task.memory().usage()).unwrap_or_default()
    }

    /// /proc/PID/comm.
    pub fn comm(&self) -> Vec<u8> {
        let mut name = self.name().into_bytes();
        name.push(b'\n');
        name
    }

    /// A range of the process's memory, as far as it can be read: its arguments or environment.
    fn memory_range(&self, start: u64, end: u64) -> Result<Vec<u8>, Errno> {
        /// More than execve(2) lets pass.
        const MOST: u64 = 8 << 20;
        let mut bytes = vec![0; end.saturating_sub(start).min(MOST) as usize];
        if bytes.is_empty() {
            return Ok(bytes);
        }
        let length = self.task()?.memory().read_some(crate::abi::UserAddress(start), &mut bytes).unwrap_or(0);
        bytes.truncate(length);
        Ok(bytes)
    }

    /// /proc/PID/cmdline.
    pub fn command_line(&self) -> Result<Vec<u8>, Errno> {
        let Some(task) = &self.task else { return Ok(Vec::new()) };
        let (start, end) = task.memory().layout().arguments;
        self.memory_range(start, end)
    }

    /// /proc/PID/environ.
    pub fn environment(&self) -> Result<Vec<u8>, Errno> {
        let (start, end) = self.task()?.memory().layout().environment;
        self.memory_range(start, end)
    }

    /// /proc/PID/auxv.
    pub fn auxiliary(&self) -> Result<Vec<u8>, Errno> {
        let layout = self.task()?.memory().layout();
        let pairs = layout.auxiliary.iter().flat_map(|&(kind, value)| [kind, value]);
        Ok(pairs.flat_map(u64::to_le_bytes).collect())
    }

    /// /proc/PID/stat (proc_pid_stat(5)).
    pub fn stat(&self, whole_process: bool) -> Vec<u8> {
        let relations = self.relations();
        let usage = self.usage();
        let layout = self.task.as_ref().map(|task| task.memory().layout()).unwrap_or_default();
        let times = match &self.task {
            Some(task) if !whole_process => task.cpu_times(),
            _ => self.process.cpu_times(),
        };
        let children = self.process.children_cpu_times();
        let (nice, priority, policy) = self.task.as_ref().map_or((0, 0, 0), |task| {
            let scheduling = task.scheduling.lock();
            (scheduling.nice, scheduling.priority, scheduling.policy)
        });
        let started = self.task.as_ref().filter(|_| !whole_process).map_or(self.process.started, |task| task.started);
        let clock = Clock::new(&self.process.kernel);
        let (pending, blocked) = self.task.as_ref().map_or((0, 0), |task| (task.signals.pending().0, task.signals.mask().0));
        let (ignored, caught) = self.dispositions();
        let terminal = self.process.terminal.lock().clone();
        let mut text = format!("{} ({}) {} ", self.number(), self.name(), self.state().letter() as char);
        let fields: [i128; 49] = [
            relations.parent.into(),
            relations.group.into(),
            relations.session.into(),
            terminal.as_ref().map_or(0, |pty| encode_device(pty).into()), // tty_nr
            terminal.as_ref().map_or(-1, |pty| pty.foreground().group.into()), // tpgid
            0x40_0000,                                                    // flags: PF_RANDOMIZE
            0,                                                            // faults are the host's business
            0,
            0,
            0,
            Clock::ticks(times.user).into(),
            Clock::ticks(times.system).into(),
            Clock::ticks(children.user).into(),
            Clock::ticks(children.system).into(),
            (if priority > 0 { -1 - priority } else { 20 + nice }).into(),
            nice.into(),
            self.process.thread_count().max(1) as i128,
            0,
            Clock::ticks(clock.since_boot(started)).into(),
            usage.virtual_size.into(),
            (usage.resident / 4096).into(),
            self.process.limits.lock().get(libc::RLIMIT_RSS).0.into(),
            layout.code_start.into(),
            layout.code_end.into(),
            layout.stack_start.into(),
            0, // kstkesp
            0, // kstkeip
            (pending & 0x7fff_ffff).into(),
            (blocked & 0x7fff_ffff).into(),
            (ignored.0 & 0x7fff_ffff).into(),
            (caught.0 & 0x7fff_ffff).into(),
            0, // wchan
            0,
            0,
            self.process.exit_signal.load(Ordering::Relaxed).into(),
            0, // processor
            priority.into(),
            policy.into(),
            0,
            0,
            0,
            layout.data_start.into(),
            layout.data_end.into(),
            layout.brk_start.into(),
            layout.arguments.0.into(),
            layout.arguments.1.into(),
            layout.environment.0.into(),
            layout.environment.1.into(),
            0, // exit_code, shown to ptrace-like readers only
        ];
        for (position, field) in fields.iter().enumerate() {
            let _ = write!(text, "{}{field}", if position == 0 { "" } else { " " });
        }
        text.push('\n');
        text.into_bytes()
    }

    fn dispositions(&self) -> (SignalSet, SignalSet) {
        self.process.signals.actions().summary()
    }

    /// /proc/PID/statm (proc_pid_statm(5)).
    pub fn statm(&self) -> Vec<u8> {
        let usage = self.usage();
        let pages = |bytes: u64| bytes / 4096;
        format!(
            "{} {} {} {} 0 {} 0\n",
            pages(usage.virtual_size),
            pages(usage.resident),
            pages(usage.shared),
            pages(usage.text),
            pages(usage.data + usage.stack)
        )
        .into_bytes()
    }

    /// /proc/PID/status (proc_pid_status(5)).
    pub fn status(&self) -> Vec<u8> {
        let relations = self.relations();
        let state = self.state();
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name}:\t{value}");
        };
        line("Name", &self.name());
        if let Some(task) = &self.task {
            line("Umask", &format!("{:04o}", task.fs().umask.load(Ordering::Relaxed)));
        }
        line("State", &format!("{} ({})", state.letter() as char, state.word()));
        line("Tgid", &self.process.pid.to_string());
        line("Ngid", "0");
        line("Pid", &self.number().to_string());
        line("PPid", &relations.parent.to_string());
        line("TracerPid", "0");
        if let Some(task) = &self.task {
            let who = task.credentials();
            line("Uid", &format!("{}\t{}\t{}\t{}", who.uid, who.euid, who.suid, who.fsuid));
            line("Gid", &format!("{}\t{}\t{}\t{}", who.gid, who.egid, who.sgid, who.fsgid));
            line(
                "FDSize",
                &task.files().list().last().map_or(64, |(fd, ..)| (fd.0 as usize + 1).next_power_of_two().max(64)).to_string(),
            );
            let groups = who.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ") + " ";
            line("Groups", &groups);
        }
        line("NStgid", &self.process.pid.to_string());
        line("NSpid", &self.number().to_string());
        line("NSpgid", &relations.group.to_string());
        line("NSsid", &relations.session.to_string());
        line("Kthread", "0");
        if self.task.is_some() {
            let usage = self.usage();
            for (name, bytes) in [
                ("VmPeak", usage.peak_virtual),
                ("VmSize", usage.virtual_size),
                ("VmLck", 0),
                ("VmPin", 0),
                ("VmHWM", usage.peak_resident),
                ("VmRSS", usage.resident),
                ("RssAnon", usage.resident.saturating_sub(usage.shared)),
                ("RssFile", usage.shared.min(usage.resident)),
                ("RssShmem", 0),
                ("VmData", usage.data),
                ("VmStk", usage.stack),
                ("VmExe", usage.text),
                ("VmLib", 0),
                ("VmPTE", 0),
                ("VmSwap", 0),
            ] {
                line(name, &format!("{:8} kB", bytes / 1024));
            }
            line("CoreDumping", "0");
            line("THP_enabled", "0");
        }
        line("Threads", &self.process.thread_count().max(1).to_string());
        if let Some(task) = &self.task {
            let (ignored, caught) = self.dispositions();
            let queued = task.signals.pending_count() + self.process.signals.pending_count();
            line("SigQ", &format!("{queued}/{}", self.process.limits.lock().get(libc::RLIMIT_SIGPENDING).0));
            for (name, set) in [
                ("SigPnd", task.signals.pending()),
                ("ShdPnd", self.process.signals.pending()),
                ("SigBlk", task.signals.mask()),
                ("SigIgn", ignored),
                ("SigCgt", caught),
            ] {
                line(name, &format!("{:016x}", set.0));
            }
            let who = task.credentials();
            for (name, set) in [
                ("CapInh", who.capabilities.inheritable),
                ("CapPrm", who.capabilities.permitted),
                ("CapEff", who.capabilities.effective),
                ("CapBnd", who.capabilities.bounding),
                ("CapAmb", who.capabilities.ambient),
            ] {
                line(name, &format!("{set:016x}"));
            }
            line("NoNewPrivs", if who.no_new_privileges { "1" } else { "0" });
            line("Seccomp", if self.process.kernel.filter.is_some() { "2" } else { "0" });
            line("Seccomp_filters", if self.process.kernel.filter.is_some() { "1" } else { "0" });
            let cpus = Executor::cpus();
            let allowed = task.scheduling.lock().affinity & (u64::MAX >> (64 - cpus.clamp(1, 64)));
            line("Cpus_allowed", &format!("{allowed:x}"));
            line("Cpus_allowed_list", &ranges(allowed));
            line("Mems_allowed", "1");
            line("Mems_allowed_list", "0");
            line("voluntary_ctxt_switches", &task.cpu.waits().to_string());
            line("nonvoluntary_ctxt_switches", "0");
        }
        text.into_bytes()
    }

    /// /proc/PID/limits.
    pub fn limits(&self) -> Vec<u8> {
        const ROWS: [(u32, &str, &str); 16] = [
            (libc::RLIMIT_CPU, "Max cpu time", "seconds"),
            (libc::RLIMIT_FSIZE, "Max file size", "bytes"),
            (libc::RLIMIT_DATA, "Max data size", "bytes"),
            (libc::RLIMIT_STACK, "Max stack size", "bytes"),
            (libc::RLIMIT_CORE, "Max core file size", "bytes"),
            (libc::RLIMIT_RSS, "Max resident set", "bytes"),
            (libc::RLIMIT_NPROC, "Max processes", "processes"),
            (libc::RLIMIT_NOFILE, "Max open files", "files"),
            (libc::RLIMIT_MEMLOCK, "Max locked memory", "bytes"),
            (libc::RLIMIT_AS, "Max address space", "bytes"),
            (libc::RLIMIT_LOCKS, "Max file locks", "locks"),
            (libc::RLIMIT_SIGPENDING, "Max pending signals", "signals"),
            (libc::RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"),
            (libc::RLIMIT_NICE, "Max nice priority", ""),
            (libc::RLIMIT_RTPRIO, "Max realtime priority", ""),
            (libc::RLIMIT_RTTIME, "Max realtime timeout", "us"),
        ];
        let limits = *self.process.limits.lock();
        let shown = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
        let mut text = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
        for (resource, name, unit) in ROWS {
            let (soft, hard) = limits.get(resource);
            let _ = writeln!(text, "{name:<25} {:<20} {:<20} {unit:<10}", shown(soft), shown(hard));
        }
        text.into_bytes()
    }

    /// /proc/PID/maps.
    pub fn maps(&self) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        for line in self.task()?.memory().maps() {
            text.extend(map_line(&line));
        }
        Ok(text)
    }

    /// /proc/PID/smaps: what programs read of it, sizes and residence.
    pub fn smaps(&self) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        for line in self.task()?.memory().maps() {
            text.extend(map_line(&line));
            text.extend(smaps_figures(line.end - line.start, line.resident).into_bytes());
        }
        Ok(text)
    }

    /// /proc/PID/smaps_rollup.
    pub fn smaps_rollup(&self) -> Result<Vec<u8>, Errno> {
        let lines = self.task()?.memory().maps();
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(Vec::new()) };
        let resident = lines.iter().map(|line| line.resident).sum();
        let mut text = format!("{:08x}-{:08x} ---p 00000000 00:00 0                          [rollup]\n", first.start, last.end);
        let figures = smaps_figures(0, resident);
        text.push_str(
            figures.split_once("MMUPageSize:").and_then(|(_, rest)| rest.split_once('\n')).map_or("", |(_, rest)| rest),
        );
        Ok(text.into_bytes())
    }

    /// /proc/PID/mounts (fstab(5)) and /proc/PID/mountinfo (proc_pid_mountinfo(5)).
    pub fn mounts(&self, long: bool) -> Result<Vec<u8>, Errno> {
        let task = self.task()?;
        let root = task.fs().root_node();
        let (Reply::Mounts(mounts), _) = self.process.kernel.vfs.call(&Request::Mounts { root })? else { return Err(Errno::EIO) };
        let mut text = Vec::new();
        for mount in mounts {
            let flags = mount_options(mount.flags);
            let options = if mount.options.is_empty() { String::new() } else { format!(",{}", mount.options) };
            let write_mode = if mount.flags & libc::ST_RDONLY as u32 != 0 { "ro" } else { "rw" };
            if long {
                let (major, minor) = (libc::major(mount.device), libc::minor(mount.device));
                text.write(format_args!("{} {} {major}:{minor} ", mount.id, mount.parent));
                text.extend(escaped(&mount.root));
                text.push(b' ');
                text.extend(escaped(&mount.mountpoint));
                text.write(format_args!(" {flags} - {} ", mount.fstype));
                text.extend(escaped(mount.source.as_bytes()));
                text.write(format_args!(" {write_mode}{options}\n"));
            } else {
                text.extend(escaped(mount.source.as_bytes()));
                text.push(b' ');
                text.extend(escaped(&mount.mountpoint));
                text.write(format_args!(" {} {flags}{options} 0 0\n", mount.fstype));
            }
        }
        Ok(text)
    }

    /// /proc/PID/io: what is counted. Storage is the host's business.
    pub fn io(&self) -> Vec<u8> {
        b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n".to_vec()
    }

    /// /proc/PID/fdinfo/N.
    pub fn fd_info(&self, file: &OpenFile) -> Vec<u8> {
        let flags = file.flags.load(Ordering::Relaxed);
        format!("pos:\t{}\nflags:\t0{flags:o}\nmnt_id:\t0\nino:\t0\n", *file.position.lock()).into_bytes()
    }
}

/// `write!` into bytes.
trait WriteBytes {
    fn write(&mut self, text: std::fmt::Arguments<'_>);
}

impl WriteBytes for Vec<u8> {
    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.extend(text.to_string().into_bytes());
    }
}

/// One line of maps.
fn map_line(line: &MapLine) -> Vec<u8> {
    let mut text = format!(
        "{:08x}-{:08x} {} {:08x} {:02x}:{:02x} {} ",
        line.start,
        line.end,
        line.access(),
        line.offset,
        libc::major(line.device),
        libc::minor(line.device),
        line.inode,
    )
    .into_bytes();
    if !line.name.is_empty() {
        // Linux pads to this column.
        while text.len() < 73 {
            text.push(b' ');
        }
        text.extend(line.name.iter().flat_map(|&byte| if byte == b'\n' { b"\\012".to_vec() } else { vec![byte] }));
    }
    text.push(b'\n');
    text
}

fn smaps_figures(size: u64, resident: u64) -> String {
    let kilobytes = |bytes: u64| bytes / 1024;
    let mut text = String::new();
    for (name, value) in [
        ("Size", size),
        ("KernelPageSize", 4096),
        ("MMUPageSize", 4096),
        ("Rss", resident),
        ("Pss", resident),
        ("Shared_Clean", 0),
        ("Shared_Dirty", 0),
        ("Private_Clean", 0),
        ("Private_Dirty", resident),
        ("Referenced", resident),
        ("Anonymous", resident),
        ("AnonHugePages", 0),
        ("Swap", 0),
        ("Locked", 0),
    ] {
        let _ = writeln!(text, "{:<16}{:8} kB", format!("{name}:"), kilobytes(value));
    }
    text
}

/// ST_* flags as mount options.
fn mount_options(flags: u32) -> String {
    let flags = u64::from(flags);
    let mut text = String::from(if flags & libc::ST_RDONLY != 0 { "ro" } else { "rw" });
    for (flag, name) in [
        (libc::ST_NOSUID, "nosuid"),
        (libc::ST_NODEV, "nodev"),
        (libc::ST_NOEXEC, "noexec"),
        (libc::ST_NOATIME, "noatime"),
        (libc::ST_NODIRATIME, "nodiratime"),
        (libc::ST_RELATIME, "relatime"),
    ] {
        if flags & flag != 0 {
            text.push(',');
            text.push_str(name);
        }
    }
    text
}

/// As the kernel escapes names in mount tables.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => out.extend(format!("\\{byte:03o}").into_bytes()),
            _ => out.push(byte),
        }
    }
    out
}

/// A CPU mask as a list ("0-3,6").
pub(super) fn ranges(mask: u64) -> String {
    let mut parts = Vec::new();
    let mut bit = 0;
    while bit < 64 {
        if mask >> bit & 1 == 0 {
            bit += 1;
            continue;
        }
        let start = bit;
        while bit < 64 && mask >> bit & 1 == 1 {
            bit += 1;
        }
        parts.push(if bit - start == 1 { start.to_string() } else { format!("{start}-{}", bit - 1) });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Protection;

    #[test]
    fn cpu_masks_are_shown_as_lists() {
        assert_eq!(ranges(0b1), "0");
        assert_eq!(ranges(0b1011), "0-1,3");
        assert_eq!(ranges(u64::MAX), "0-63");
        assert_eq!(ranges(0), "");
    }

    #[test]
    fn names_in_mount_tables_are_escaped() {
        assert_eq!(escaped(b"/a b\\c"), b"/a\\040b\\134c");
    }

    #[test]
    fn a_line_of_maps_has_its_name_at_the_usual_column() {
        let line = MapLine {
            start: 0x5555_5555_4000,
            end: 0x5555_5555_8000,
            protection: Protection::READ | Protection::EXECUTE,
            shared: false,
            offset: 0x1000,
            device: 0x801,
            inode: 1234,
            name: b"/bin/cat".to_vec(),
            resident: 0,
        };
        let text = String::from_utf8(map_line(&line)).unwrap();
        assert_eq!(text, "555555554000-555555558000 r-xp 00001000 08:01 1234                       /bin/cat\n");
    }
}
