//! What a process costs, asked without /proc: its own line there was opened before the root became empty.

use super::proto::GetStatsResponse;
use crate::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use std::{fs::File, os::unix::fs::FileExt, time::Instant};

/// Where the numbers come from.
#[derive(Debug)]
pub(crate) struct Stats {
    started: Instant,
    /// /proc/self/stat; without it, what is in use now is not known.
    own: Option<File>,
    page_size: u64,
}

impl Stats {
    /// To be made at the start of the process, while /proc is in sight.
    pub(crate) fn new() -> Stats {
        let page_size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
        Stats { started: Instant::now(), own: File::open("/proc/self/stat").ok(), page_size: page_size as u64 }
    }

    pub(crate) fn now(&self) -> Result<GetStatsResponse, Errno> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let microseconds = |time: nix::sys::time::TimeVal| (time.tv_sec() as u64) * 1_000_000 + time.tv_usec() as u64;
        let peak = usage.max_rss() as u64 * 1024;
        let (threads, pages) = self.threads_and_pages().unwrap_or((0, 0));
        Ok(GetStatsResponse {
            resident_bytes: pages * self.page_size,
            resident_bytes_peak: peak,
            user_microseconds: microseconds(usage.user_time()),
            system_microseconds: microseconds(usage.system_time()),
            threads,
            uptime_microseconds: self.started.elapsed().as_micros() as u64,
        })
    }

    fn threads_and_pages(&self) -> Option<(u32, u64)> {
        let mut buffer = [0; 1024];
        let length = self.own.as_ref()?.read_at(&mut buffer, 0).ok()?;
        parse_stat(std::str::from_utf8(&buffer[..length]).ok()?)
    }
}

/// Fields 20 (threads) and 24 (resident pages) of proc_pid_stat(5). The command's name, field 2, may contain anything.
fn parse_stat(line: &str) -> Option<(u32, u64)> {
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let threads = fields.nth(20 - 3)?.parse().ok()?;
    let pages = fields.nth(24 - 21)?.parse().ok()?;
    Some((threads, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_pages_are_found_whatever_the_command_is_called() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 5 0 1234 9999 321 18446744073709551615 1 1";
        assert_eq!(parse_stat(line), Some((5, 321)));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_running_process_has_threads_and_memory() {
        let now = Stats::new().now().unwrap();
        assert!(now.threads >= 1 && now.resident_bytes > 0 && now.resident_bytes_peak >= now.resident_bytes / 2);
    }
}
