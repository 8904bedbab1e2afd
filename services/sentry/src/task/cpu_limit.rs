//! RLIMIT_CPU: SIGXCPU at the soft limit and once a second after, SIGKILL at the hard one; also for a guest that makes no calls.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use super::{CpuAlarm, Process, limits::INFINITY};
use crate::signal::SignalInfo;

const SECOND: u64 = 1_000_000_000;

/// Has the process's limit looked after, if it has one. Called when it is made and when the limit was changed.
pub(crate) fn watch(process: &Arc<Process>) {
    let (soft, hard) = process.limits.lock().get(libc::RLIMIT_CPU);
    if soft != INFINITY || hard != INFINITY {
        process.kernel.cpu_watch.watch(Arc::new(CpuLimit {
            process: Arc::downgrade(process),
            soft,
            hard,
            next: AtomicU64::new(soft),
        }));
    }
}

struct CpuLimit {
    process: Weak<Process>,
    /// The limit that this alarm is for: another one means that it was replaced.
    soft: u64,
    hard: u64,
    /// Seconds at which SIGXCPU is due.
    next: AtomicU64,
}

impl CpuAlarm for CpuLimit {
    fn check(&self) -> Option<u64> {
        let process = self.process()?;
        if process.signals.exit_status().is_some() || process.limits.lock().get(libc::RLIMIT_CPU) != (self.soft, self.hard) {
            return None;
        }
        let used = process.cpu_times().total();
        // A limit of 0 acts as one of 1 second.
        let due = |seconds: u64| seconds.max(1).saturating_mul(SECOND);
        if used >= due(self.hard) {
            process.send_signal(SignalInfo::kernel(libc::SIGKILL));
            return None;
        }
        let mut next = self.next.load(Ordering::Relaxed);
        if used >= due(next) {
            process.send_signal(SignalInfo::kernel(libc::SIGXCPU));
            next = used / SECOND + 1;
            self.next.store(next, Ordering::Relaxed);
        }
        Some(due(next).min(due(self.hard)).saturating_sub(used))
    }
    fn process(&self) -> Option<Arc<Process>> {
        self.process.upgrade()
    }
}
