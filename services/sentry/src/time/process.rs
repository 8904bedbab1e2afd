//! The timers of a process: setitimer(2)'s three, and its POSIX timers by number.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::Mutex;

use super::{CpuKind, Schedule, posix::PosixTimer};
use crate::{
    executor::{self, Timer},
    signal::SignalInfo,
    task::{CpuAlarm, Process},
};

/// A timer that is set too fine would keep a worker busy by itself.
pub(super) const FINEST: u64 = 50_000;

/// Interval timers and POSIX timers. Held as `Process.timers`; a fork's child starts with none.
#[derive(Default)]
pub struct ProcessTimers {
    real: RealTimer,
    user: Mutex<Option<Arc<CpuTimer>>>,
    total: Mutex<Option<Arc<CpuTimer>>>,
    posix: Mutex<PosixTimers>,
}

#[derive(Default)]
struct PosixTimers {
    next: i32,
    by_id: BTreeMap<i32, Arc<PosixTimer>>,
}

#[derive(Default)]
struct RealTimer {
    schedule: Mutex<Schedule>,
    timer: OnceLock<Timer>,
}

/// ITIMER_*.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntervalKind {
    /// ITIMER_REAL: SIGALRM.
    Real,
    /// ITIMER_VIRTUAL: user time, SIGVTALRM.
    Virtual,
    /// ITIMER_PROF: user and system time, SIGPROF.
    Profile,
}

impl ProcessTimers {
    /// For execve: POSIX timers are gone, interval timers stay.
    pub fn reset_for_exec(&self) {
        let timers = std::mem::take(&mut *self.posix.lock()).by_id;
        timers.values().for_each(|timer| timer.delete());
    }
    /// For exit: nothing fires any more.
    pub fn stop(&self) {
        *self.real.schedule.lock() = Schedule::default();
        if let Some(timer) = self.real.timer.get() {
            timer.disarm();
        }
        for slot in [&self.user, &self.total] {
            if let Some(timer) = slot.lock().take() {
                timer.stop();
            }
        }
        self.reset_for_exec();
    }

    /// getitimer(2): (remaining, interval).
    pub fn interval_timer(&self, process: &Process, kind: IntervalKind) -> (u64, u64) {
        let told = |schedule: Schedule, now: u64| (schedule.remaining(now), schedule.interval);
        match kind {
            IntervalKind::Real => told(*self.real.schedule.lock(), executor::now()),
            IntervalKind::Virtual | IntervalKind::Profile => {
                let slot = self.cpu_slot(kind).0.lock();
                slot.as_ref().map_or((0, 0), |timer| told(*timer.schedule.lock(), timer.kind.of(process.cpu_times())))
            }
        }
    }

    /// setitimer(2): expires `value` from now (0 disarms) and then every `interval`; what was set before is returned.
    pub fn set_interval_timer(&self, process: &Arc<Process>, kind: IntervalKind, value: u64, interval: u64) -> (u64, u64) {
        let before = self.interval_timer(process, kind);
        let schedule = |now: u64| Schedule { next: (value != 0).then(|| now.saturating_add(value)), interval };
        if kind == IntervalKind::Real {
            let new = schedule(executor::now());
            let timer = self.real.timer.get_or_init(|| {
                let process = Arc::downgrade(process);
                Timer::new(move || {
                    if let Some(process) = process.upgrade() {
                        process.timers.real_expired(&process);
                    }
                })
            });
            *self.real.schedule.lock() = new;
            match new.next {
                Some(next) => timer.arm(next),
                None => timer.disarm(),
            }
            return before;
        }
        let (slot, cpu_kind, signal) = self.cpu_slot(kind);
        let new = (value != 0).then(|| {
            Arc::new(CpuTimer {
                process: Arc::downgrade(process),
                kind: cpu_kind,
                signal,
                schedule: Mutex::new(schedule(cpu_kind.of(process.cpu_times()))),
            })
        });
        let old = std::mem::replace(&mut *slot.lock(), new.clone());
        if let Some(old) = old {
            old.stop();
        }
        if let Some(new) = new {
            process.kernel.cpu_watch.watch(new);
        }
        before
    }

    fn cpu_slot(&self, kind: IntervalKind) -> (&Mutex<Option<Arc<CpuTimer>>>, CpuKind, i32) {
        if kind == IntervalKind::Virtual {
            (&self.user, CpuKind::User, libc::SIGVTALRM)
        } else {
            (&self.total, CpuKind::Total, libc::SIGPROF)
        }
    }

    fn real_expired(&self, process: &Process) {
        let now = executor::now();
        let (count, next) = {
            let mut schedule = self.real.schedule.lock();
            (schedule.take_due(now), schedule.next)
        };
        if let (Some(next), Some(timer)) = (next, self.real.timer.get()) {
            timer.arm(next.max(now.saturating_add(FINEST)));
        }
        if count > 0 {
            process.send_signal(SignalInfo::kernel(libc::SIGALRM));
        }
    }

    /// A number for a new POSIX timer: no two of a process are the same at one time.
    pub fn allocate_posix(&self) -> Option<i32> {
        let mut timers = self.posix.lock();
        for _ in 0..=timers.by_id.len() {
            let id = timers.next;
            timers.next = id.checked_add(1).unwrap_or(0);
            if !timers.by_id.contains_key(&id) {
                return Some(id);
            }
        }
        None
    }
    /// Adds a POSIX timer.
    pub fn insert_posix(&self, timer: Arc<PosixTimer>) {
        self.posix.lock().by_id.insert(timer.id(), timer);
    }
    /// A POSIX timer by its number.
    pub fn posix(&self, id: i32) -> Option<Arc<PosixTimer>> {
        self.posix.lock().by_id.get(&id).cloned()
    }
    /// Takes a POSIX timer out; it is to be deleted.
    pub fn remove_posix(&self, id: i32) -> Option<Arc<PosixTimer>> {
        self.posix.lock().by_id.remove(&id)
    }
    /// How many POSIX timers there are.
    pub fn posix_count(&self) -> usize {
        self.posix.lock().by_id.len()
    }
}

/// ITIMER_VIRTUAL or ITIMER_PROF, as it was set: another setting is another object.
struct CpuTimer {
    process: Weak<Process>,
    kind: CpuKind,
    signal: i32,
    schedule: Mutex<Schedule>,
}

impl CpuTimer {
    fn stop(&self) {
        *self.schedule.lock() = Schedule::default();
    }
}

impl CpuAlarm for CpuTimer {
    fn check(&self) -> Option<u64> {
        let process = self.process.upgrade()?;
        let now = self.kind.of(process.cpu_times());
        let (count, next) = {
            let mut schedule = self.schedule.lock();
            (schedule.take_due(now), schedule.next)
        };
        if count > 0 {
            process.send_signal(SignalInfo::kernel(self.signal));
        }
        next.map(|next| next.saturating_sub(now))
    }
    fn process(&self) -> Option<Arc<Process>> {
        self.process.upgrade()
    }
}
