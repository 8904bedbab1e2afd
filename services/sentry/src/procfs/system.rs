//! The texts of /proc that tell of the whole system (proc(5)): the container's figures, not the host's.

use std::{fmt::Write, time::SystemTime};

use super::Clock;
use crate::{
    executor::Executor,
    kernel::{Kernel, RELEASE},
    task::{CpuTimes, RunState},
};

/// What `uname -v` says.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC";

/// /proc/version.
pub fn version() -> Vec<u8> {
    format!("Linux version {RELEASE} (bulkhead@bulkhead) (rustc) {VERSION}\n").into_bytes()
}

/// /proc/uptime: since the container started; idle time is that of all CPUs.
pub fn uptime(kernel: &Kernel) -> Vec<u8> {
    let up = Clock::new(kernel).uptime();
    let idle = (up * Executor::cpus() as u64).saturating_sub(cpu_times(kernel).total());
    let hundredths = |nanoseconds: u64| (nanoseconds / 1_000_000_000, nanoseconds / 10_000_000 % 100);
    let ((up, up_part), (idle, idle_part)) = (hundredths(up), hundredths(idle));
    format!("{up}.{up_part:02} {idle}.{idle_part:02}\n").into_bytes()
}

/// CPU time of all processes there are, and of the children they waited for.
fn cpu_times(kernel: &Kernel) -> CpuTimes {
    kernel
        .pids
        .processes()
        .iter()
        .fold(CpuTimes::default(), |sum, process| sum + process.cpu_times() + process.children_cpu_times())
}

/// /proc/stat.
pub fn stat(kernel: &Kernel) -> Vec<u8> {
    let clock = Clock::new(kernel);
    let cpus = Executor::cpus() as u64;
    let times = cpu_times(kernel);
    let line = |name: &str, share: u64| {
        let (user, system) = (times.user / share, times.system / share);
        let idle = (clock.uptime() * (cpus / share)).saturating_sub(user + system);
        format!("{name} {} 0 {} {} 0 0 0 0 0 0\n", Clock::ticks(user), Clock::ticks(system), Clock::ticks(idle))
    };
    let mut text = line("cpu ", 1);
    for cpu in 0..cpus {
        text.push_str(&line(&format!("cpu{cpu}"), cpus));
    }
    let boot = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |now| now.as_secs().saturating_sub(clock.uptime() / 1_000_000_000));
    let (running, _) = counts(kernel);
    let _ = write!(
        text,
        "intr 0\nctxt 0\nbtime {boot}\nprocesses {}\nprocs_running {running}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
        kernel.pids.last()
    );
    text.into_bytes()
}

/// (running threads, all threads).
fn counts(kernel: &Kernel) -> (usize, usize) {
    let mut running = 0;
    let mut all = 0;
    for process in kernel.pids.processes() {
        process.with_threads(|threads| {
            all += threads.len();
            running += threads.iter().filter(|task| task.cpu.state() == RunState::Running).count();
        });
    }
    (running, all)
}

/// /proc/loadavg: the CPU time that the container used, averaged as the kernel averages its run queue.
pub fn load_average(kernel: &Kernel) -> Vec<u8> {
    let loads = kernel.proc.load.sample(crate::executor::now(), cpu_times(kernel).total());
    let (running, all) = counts(kernel);
    format!("{:.2} {:.2} {:.2} {running}/{all} {}\n", loads[0], loads[1], loads[2], kernel.pids.last()).into_bytes()
}

/// /proc/meminfo.
pub fn meminfo(kernel: &Kernel) -> Vec<u8> {
    let total = kernel.memory.limit();
    let used = kernel.memory.used().min(total);
    let free = total - used;
    let mut text = String::new();
    for (name, bytes) in [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used),
        ("Inactive", 0),
        ("Active(anon)", used),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used),
        ("Mapped", 0),
        ("Shmem", 0),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", total),
        ("Committed_AS", used),
        ("VmallocTotal", 0),
        ("VmallocUsed", 0),
    ] {
        let _ = writeln!(text, "{:<16}{:8} kB", format!("{name}:"), bytes / 1024);
    }
    text.push_str("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\nHugepagesize:       2048 kB\n");
    text.into_bytes()
}

/// /proc/filesystems: what can be mounted.
pub fn filesystems() -> Vec<u8> {
    b"nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevpts\nnodev\tmqueue\nnodev\toverlay\n".to_vec()
}

/// /proc/devices: the character devices there are.
pub fn devices() -> Vec<u8> {
    b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n".to_vec()
}
