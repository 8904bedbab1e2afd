//! POSIX timers (timer_create(2)).
//!
//! A timer has one signal in flight at most. While that waits to be taken the timer is not armed; what would have expired
//! meanwhile is counted as overrun when it is taken.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::{Clock, Schedule, process::FINEST};
use crate::{
    executor::{self, Timer},
    signal::{self, SignalInfo},
    task::{CpuAlarm, Process, Task},
};

/// What a timer does when it expires (sigevent(3type)).
#[derive(Clone)]
pub enum Notify {
    /// SIGEV_NONE.
    Nothing,
    /// SIGEV_SIGNAL.
    Process(SignalInfo),
    /// SIGEV_THREAD_ID.
    Thread(Weak<Task>, SignalInfo),
}

/// DELAYTIMER_MAX.
const MOST_OVERRUNS: u64 = i32::MAX as u64;

#[derive(Default)]
struct State {
    /// In the clock's own time for CPU clocks, else in executor time.
    schedule: Schedule,
    in_flight: bool,
    /// Expiries since the signal was sent, apart from the one it tells of.
    overrun: u64,
    /// What the signal taken last said.
    last_overrun: i32,
    deleted: bool,
}

/// One timer.
pub struct PosixTimer {
    id: i32,
    clock: Clock,
    notify: Notify,
    process: Weak<Process>,
    state: Mutex<State>,
    timer: OnceLock<Timer>,
    alarm: Mutex<Option<Arc<CpuWaker>>>,
}

impl PosixTimer {
    /// Disarmed.
    pub fn new(id: i32, clock: Clock, notify: Notify, process: &Arc<Process>) -> Arc<PosixTimer> {
        let timer = Arc::new(PosixTimer {
            id,
            clock,
            notify,
            process: Arc::downgrade(process),
            state: Mutex::default(),
            timer: OnceLock::new(),
            alarm: Mutex::new(None),
        });
        let weak = Arc::downgrade(&timer);
        timer.timer.get_or_init(|| {
            Timer::new(move || {
                if let Some(timer) = weak.upgrade() {
                    timer.expired();
                }
            })
        });
        timer
    }

    /// Its number.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The time that its schedule is in.
    fn now(&self) -> u64 {
        if self.clock.is_cpu() { self.clock.now() } else { executor::now() }
    }

    /// timer_gettime(2): (remaining, interval).
    pub fn get(&self) -> (u64, u64) {
        let now = self.now();
        let state = self.state.lock();
        let single_and_over = state.schedule.interval == 0 && state.schedule.next.is_some_and(|next| next <= now);
        let nobody_told = matches!(self.notify, Notify::Nothing) && single_and_over;
        (if nobody_told { 0 } else { state.schedule.remaining(now) }, state.schedule.interval)
    }

    /// timer_settime(2): expires at or after `value` (0 disarms), then every `interval`; what was set before is returned.
    pub fn set(self: &Arc<Self>, value: u64, absolute: bool, interval: u64) -> (u64, u64) {
        let before = self.get();
        let next = (value != 0).then(|| {
            if self.clock.is_cpu() || !absolute {
                if absolute { value } else { self.now().saturating_add(value) }
            } else {
                self.clock.to_executor(value)
            }
        });
        {
            let mut state = self.state.lock();
            state.schedule = Schedule { next, interval };
            state.overrun = 0;
            state.last_overrun = 0;
        }
        if let Some(process) = self.process.upgrade() {
            signal::discard_timer(&process, self);
        }
        self.state.lock().in_flight = false;
        self.arm();
        before
    }

    /// timer_getoverrun(2).
    pub fn overrun(&self) -> i32 {
        self.state.lock().last_overrun
    }

    /// Ends it: it never fires again, and what it sent is dropped.
    pub fn delete(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            state.deleted = true;
            state.schedule = Schedule::default();
        }
        self.arm();
        if let Some(process) = self.process.upgrade() {
            signal::discard_timer(&process, self);
        }
    }

    /// Its signal was taken (or dropped): the overrun count that goes with it. Takes no lock but its own and the executor's.
    pub fn signal_taken(self: &Arc<Self>) -> i32 {
        let now = self.now();
        let overrun = {
            let mut state = self.state.lock();
            state.in_flight = false;
            let missed = if state.schedule.interval == 0 { 0 } else { state.schedule.take_due(now) };
            let overrun = state.overrun.saturating_add(missed).min(MOST_OVERRUNS) as i32;
            state.overrun = 0;
            state.last_overrun = overrun;
            overrun
        };
        self.arm();
        overrun
    }

    /// Has it looked at when it is due.
    fn arm(self: &Arc<Self>) {
        let next = self.state.lock().schedule.next;
        if self.clock.is_cpu() {
            let waker = next.map(|_| Arc::new(CpuWaker { timer: Arc::downgrade(self), live: Mutex::new(true) }));
            let old = std::mem::replace(&mut *self.alarm.lock(), waker.clone());
            if let Some(old) = old {
                *old.live.lock() = false;
            }
            if let (Some(waker), Some(process)) = (waker, self.process.upgrade()) {
                process.kernel.cpu_watch.watch(waker);
            }
            return;
        }
        if matches!(self.notify, Notify::Nothing) {
            return;
        }
        let Some(timer) = self.timer.get() else { return };
        match next {
            Some(next) => timer.arm(next.max(executor::now().saturating_add(FINEST))),
            None => timer.disarm(),
        }
    }

    /// Sends its signal if it is due.
    fn expired(self: &Arc<Self>) {
        let now = self.now();
        let (send, again) = {
            let mut state = self.state.lock();
            let count = if state.in_flight || state.deleted { 0 } else { state.schedule.take_due(now) };
            if count > 0 {
                state.in_flight = true;
                state.overrun = count - 1;
            }
            (count > 0, !state.in_flight && state.schedule.next.is_some())
        };
        if again {
            self.arm();
        }
        if !send {
            return;
        }
        let Some(process) = self.process.upgrade() else { return };
        match &self.notify {
            Notify::Nothing => {
                self.signal_taken();
            }
            Notify::Process(info) => signal::send_timer(&process, None, *info, self.clone()),
            Notify::Thread(task, info) => {
                if let Some(task) = task.upgrade() {
                    signal::send_timer(&process, Some(&task), *info, self.clone());
                }
            }
        }
    }
}

/// Has a timer by a CPU clock looked at, until it is set anew.
struct CpuWaker {
    timer: Weak<PosixTimer>,
    live: Mutex<bool>,
}

impl CpuAlarm for CpuWaker {
    fn check(&self) -> Option<u64> {
        if !*self.live.lock() {
            return None;
        }
        let timer = self.timer.upgrade()?;
        let left = |timer: &PosixTimer| {
            let (now, state) = (timer.now(), timer.state.lock());
            // While its signal waits nothing is to be done; when that is taken it is armed anew.
            if state.in_flight { None } else { state.schedule.next.map(|next| next.saturating_sub(now)) }
        };
        match left(&timer)? {
            0 => {
                timer.expired();
                None
            }
            more => Some(more),
        }
    }
    fn process(&self) -> Option<Arc<Process>> {
        self.timer.upgrade()?.process.upgrade()
    }
}
