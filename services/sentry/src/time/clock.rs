//! Clocks by their numbers (clock_gettime(2)).

use std::sync::Arc;

use bulkhead_ipc::Errno;

use crate::{
    executor,
    kernel::Kernel,
    task::{CpuTimes, Process, Task, Thread},
};

/// A clock.
#[derive(Clone)]
pub enum Clock {
    /// One of the host's: its CLOCK_* number.
    Host(i32),
    /// CPU time of a process.
    Process(Arc<Process>, CpuKind),
    /// CPU time of a thread.
    Thread(Arc<Task>, CpuKind),
}

/// Which CPU time counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuKind {
    /// User and system (CPUCLOCK_PROF, CPUCLOCK_SCHED).
    Total,
    /// User only (CPUCLOCK_VIRT).
    User,
}

impl CpuKind {
    /// The part that counts.
    pub fn of(self, times: CpuTimes) -> u64 {
        match self {
            CpuKind::Total => times.total(),
            CpuKind::User => times.user,
        }
    }
}

/// CLOCK_*, the host's.
fn host(clock: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; a clock that the host does not have leaves it as it is.
    unsafe { libc::clock_gettime(clock, &mut time) };
    (time.tv_sec.max(0) as u64).saturating_mul(super::SECOND).saturating_add(time.tv_nsec as u64)
}

impl Clock {
    /// The clock with this number, as `thread` sees it; EINVAL when there is none.
    pub fn find(thread: &Thread, number: i32) -> Result<Clock, Errno> {
        match number {
            libc::CLOCK_PROCESS_CPUTIME_ID => Ok(Clock::Process(thread.process.clone(), CpuKind::Total)),
            libc::CLOCK_THREAD_CPUTIME_ID => Ok(Clock::Thread(thread.task.clone(), CpuKind::Total)),
            libc::CLOCK_REALTIME
            | libc::CLOCK_MONOTONIC
            | libc::CLOCK_MONOTONIC_RAW
            | libc::CLOCK_REALTIME_COARSE
            | libc::CLOCK_MONOTONIC_COARSE
            | libc::CLOCK_BOOTTIME
            | libc::CLOCK_REALTIME_ALARM
            | libc::CLOCK_BOOTTIME_ALARM
            | libc::CLOCK_TAI => Ok(Clock::Host(number)),
            i32::MIN..0 => Clock::dynamic(&thread.kernel, thread, number),
            _ => Err(Errno::EINVAL),
        }
    }

    /// clock_getcpuclockid(3): the inverted pid in the upper bits, then "of a thread", then which time.
    fn dynamic(kernel: &Kernel, thread: &Thread, number: i32) -> Result<Clock, Errno> {
        let kind = match number & 3 {
            0 | 2 => CpuKind::Total,
            1 => CpuKind::User,
            _ => return Err(Errno::EINVAL),
        };
        let pid = !(number >> 3);
        if number & 4 != 0 {
            let task = if pid == 0 { Some(thread.task.clone()) } else { kernel.pids.task(pid) };
            let task = task.filter(|task| Arc::ptr_eq(&task.process, &thread.process)).ok_or(Errno::EINVAL)?;
            return Ok(Clock::Thread(task, kind));
        }
        let process = if pid == 0 { Some(thread.process.clone()) } else { kernel.pids.process(pid) };
        Ok(Clock::Process(process.ok_or(Errno::EINVAL)?, kind))
    }

    /// Its time.
    pub fn now(&self) -> u64 {
        match self {
            Clock::Host(libc::CLOCK_REALTIME_ALARM) => host(libc::CLOCK_REALTIME),
            Clock::Host(libc::CLOCK_BOOTTIME_ALARM) => host(libc::CLOCK_BOOTTIME),
            Clock::Host(libc::CLOCK_MONOTONIC) => executor::now(),
            Clock::Host(number) => host(*number),
            Clock::Process(process, kind) => kind.of(process.cpu_times()),
            Clock::Thread(task, kind) => kind.of(task.cpu_times()),
        }
    }

    /// How fine it is, in nanoseconds.
    pub fn resolution(&self) -> u64 {
        match self {
            // A tick of a kernel with 250 of them in a second, as most have.
            Clock::Host(libc::CLOCK_REALTIME_COARSE | libc::CLOCK_MONOTONIC_COARSE) => 4_000_000,
            _ => 1,
        }
    }

    /// Whether one can sleep on it or set a timer by it.
    pub fn has_timers(&self) -> bool {
        !matches!(self, Clock::Host(libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_MONOTONIC_COARSE))
    }

    /// Whether it goes with the CPU rather than by itself.
    pub fn is_cpu(&self) -> bool {
        !matches!(self, Clock::Host(_))
    }

    /// A time of this clock (not a CPU clock's) in executor time.
    pub fn to_executor(&self, time: u64) -> u64 {
        match self {
            Clock::Host(libc::CLOCK_MONOTONIC) => time,
            _ => executor::now().saturating_add(time.saturating_sub(self.now())),
        }
    }

    /// A deadline: `time` from now, or at `time`.
    pub fn deadline(&self, time: u64, absolute: bool) -> u64 {
        if absolute { time } else { self.now().saturating_add(time) }
    }
}
