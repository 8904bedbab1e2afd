//! What a process costs, asked without /proc: its own files there were opened before the root became empty.
#![forbid(unsafe_code)]

use super::proto::GetStatsResponse;
use crate::Errno;
use nix::unistd::{SysconfVar, sysconf};
use std::{fs::File, io, os::unix::fs::FileExt, time::Instant};

/// Where the numbers come from.
#[derive(Debug)]
pub(crate) struct Stats {
    started: Instant,
    /// /proc/self/stat and /proc/self/status.
    files: Option<(File, File)>,
    page_size: u64,
    ticks_per_second: u64,
}

impl Stats {
    /// To be made at the start of the process, while /proc is in sight.
    pub(crate) fn new() -> Stats {
        let ask = |what, otherwise| sysconf(what).ok().flatten().map_or(otherwise, |value| value as u64);
        let open = || Some((File::open("/proc/self/stat").ok()?, File::open("/proc/self/status").ok()?));
        Stats {
            started: Instant::now(),
            files: open(),
            page_size: ask(SysconfVar::PAGE_SIZE, 4096),
            ticks_per_second: ask(SysconfVar::CLK_TCK, 100),
        }
    }

    pub(crate) fn now(&self) -> Result<GetStatsResponse, Errno> {
        let (stat, status) = self.files.as_ref().ok_or(Errno::ENOENT)?;
        let stat = parse_stat(&read(stat)?).ok_or(Errno::EIO)?;
        let peak = parse_peak(&read(status)?).ok_or(Errno::EIO)?;
        let microseconds = |ticks: u64| ticks * (1_000_000 / self.ticks_per_second.max(1));
        Ok(GetStatsResponse {
            resident_bytes: stat.pages * self.page_size,
            resident_bytes_peak: peak,
            user_microseconds: microseconds(stat.user),
            system_microseconds: microseconds(stat.system),
            threads: stat.threads,
            uptime_microseconds: self.started.elapsed().as_micros() as u64,
        })
    }
}

fn read(file: &File) -> Result<String, Errno> {
    let mut buffer = vec![0; 4096];
    let length = file.read_at(&mut buffer, 0).map_err(|error: io::Error| Errno::from(error))?;
    buffer.truncate(length);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// Fields of proc_pid_stat(5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    user: u64,
    system: u64,
    threads: u32,
    pages: u64,
}

/// Fields 14, 15, 20 and 24. The command's name, field 2, may contain anything.
fn parse_stat(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { user: field(14)?, system: field(15)?, threads: field(20)? as u32, pages: field(24)? })
}

/// The most that was ever resident, in bytes: "VmHWM:     1234 kB" of proc_pid_status(5).
fn parse_peak(status: &str) -> Option<u64> {
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    Some(kilobytes.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_command_is_called() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 31 42 0 0 20 0 5 0 1234 9999 321 18446744073709551615 1 1";
        assert_eq!(parse_stat(line), Some(Stat { user: 31, system: 42, threads: 5, pages: 321 }));
        assert_eq!(parse_stat("nonsense"), None);
        assert_eq!(parse_peak("Name:\tVmHWM: 3\nVmHWM:\t    1234 kB\nVmRSS: 1 kB\n"), Some(1234 << 10));
        assert_eq!(parse_peak("nonsense"), None);
    }

    #[test]
    fn a_running_process_has_threads_and_memory() {
        let now = Stats::new().now().unwrap();
        assert!(now.threads >= 1 && now.resident_bytes > 0 && now.resident_bytes_peak >= now.resident_bytes / 2);
    }
}
