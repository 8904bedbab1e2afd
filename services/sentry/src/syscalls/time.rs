//! Time: clocks, sleeping, timers (time(7)).

use std::sync::Arc;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    abi::{Arguments, SysResult, UserAddress},
    executor,
    signal::{RestartBlock, SignalInfo, checked},
    task::{Task, Thread},
    time::{
        Clock, IntervalKind, RawItimerSpec, RawItimerVal, RawTimespec, RawTimeval, SECOND,
        posix::{Notify, PosixTimer},
        read_timespec,
    },
};

/// TIMER_ABSTIME.
const ABSOLUTE: i32 = 1;
/// RLIMIT_SIGPENDING bounds a process's POSIX timers, as each has a place for a signal.
const MOST_TIMERS: u64 = 1 << 16;

/// clock_gettime(2).
pub fn clock_gettime(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let now = Clock::find(thread, arguments.int(0))?.now();
    thread.memory().write_value(arguments.address(1), &RawTimespec::new(now))?;
    Ok(0)
}

/// clock_getres(2).
pub fn clock_getres(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let resolution = Clock::find(thread, arguments.int(0))?.resolution();
    if !arguments.address(1).is_null() {
        thread.memory().write_value(arguments.address(1), &RawTimespec::new(resolution))?;
    }
    Ok(0)
}

/// clock_settime(2): a container does not set the host's clocks.
pub fn clock_settime(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let number = arguments.int(0);
    Clock::find(thread, number)?;
    read_timespec(&thread.memory(), arguments.address(1))?;
    Err(if number == libc::CLOCK_REALTIME || number < 0 { Errno::EPERM } else { Errno::EINVAL })
}

/// gettimeofday(2).
pub fn gettimeofday(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let memory = thread.memory();
    if !arguments.address(0).is_null() {
        memory.write_value(arguments.address(0), &RawTimeval::new(Clock::Host(libc::CLOCK_REALTIME).now()))?;
    }
    if !arguments.address(1).is_null() {
        memory.write_value(arguments.address(1), &[0i32; 2])?;
    }
    Ok(0)
}

/// settimeofday(2): a container does not set the host's clocks.
pub fn settimeofday(_: &mut Thread, _: Arguments) -> SysResult {
    Err(Errno::EPERM)
}

/// time(2).
pub fn time(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let seconds = Clock::Host(libc::CLOCK_REALTIME).now() / SECOND;
    if !arguments.address(0).is_null() {
        thread.memory().write_value(arguments.address(0), &seconds)?;
    }
    Ok(seconds)
}

/// nanosleep(2).
pub async fn nanosleep(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let time = read_timespec(&thread.memory(), arguments.address(0))?;
    let deadline = executor::now().saturating_add(time);
    sleep(thread, libc::CLOCK_MONOTONIC, deadline, Some(arguments.address(1))).await
}

/// clock_nanosleep(2).
pub async fn clock_nanosleep(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let number = arguments.int(0);
    let clock = Clock::find(thread, number)?;
    if !clock.has_timers() {
        return Err(Errno::EOPNOTSUPP);
    }
    if matches!(clock, Clock::Thread(..)) {
        return Err(Errno::EINVAL);
    }
    let time = read_timespec(&thread.memory(), arguments.address(2))?;
    let absolute = arguments.int(1) & ABSOLUTE != 0;
    // A relative sleep is not changed when the clock is set.
    let number = if number == libc::CLOCK_REALTIME && !absolute { libc::CLOCK_MONOTONIC } else { number };
    let deadline = if absolute { time } else { Clock::find(thread, number)?.deadline(time, false) };
    sleep(thread, number, deadline, (!absolute).then_some(arguments.address(3))).await
}

/// Sleeps until a time of a clock. `remaining` is where a relative sleep says what is left of it (it may be NULL); an absolute
/// one has none.
pub(super) async fn sleep(thread: &Thread, number: i32, deadline: u64, remaining: Option<UserAddress>) -> SysResult {
    let clock = Clock::find(thread, number)?;
    loop {
        let now = clock.now();
        if now >= deadline {
            return Ok(0);
        }
        let until = if clock.is_cpu() {
            // CPU time passes at most as fast as all CPUs let it.
            executor::now().saturating_add(((deadline - now) / executor::Executor::cpus().max(1) as u64).max(1_000_000))
        } else {
            clock.to_executor(deadline)
        };
        if thread.interruptible_until(Some(until), std::future::pending::<()>()).await.is_ok() {
            continue;
        }
        let Some(remaining) = remaining else { return Err(Errno::ERESTARTNOHAND) };
        let left = deadline.saturating_sub(clock.now());
        if left == 0 {
            return Ok(0);
        }
        if !remaining.is_null() {
            thread.memory().write_value(remaining, &RawTimespec::new(left))?;
        }
        thread.signals.set_restart(RestartBlock::Sleep { clock: number, deadline, remaining });
        return Err(Errno::ERESTART_RESTARTBLOCK);
    }
}

fn interval_kind(which: i32) -> Result<IntervalKind, Errno> {
    match which {
        0 => Ok(IntervalKind::Real),
        1 => Ok(IntervalKind::Virtual),
        2 => Ok(IntervalKind::Profile),
        _ => Err(Errno::EINVAL),
    }
}

fn itimerval((value, interval): (u64, u64)) -> RawItimerVal {
    // What is armed is not told as zero.
    let value = if value == 0 { 0 } else { value.max(1000) };
    RawItimerVal { interval: RawTimeval::new(interval), value: RawTimeval::new(value) }
}

/// getitimer(2).
pub fn getitimer(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let kind = interval_kind(arguments.int(0))?;
    let told = thread.process.timers.interval_timer(&thread.process, kind);
    thread.memory().write_value(arguments.address(1), &itimerval(told))?;
    Ok(0)
}

/// setitimer(2).
pub fn setitimer(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let memory = thread.memory();
    // As Linux: no new value disarms.
    let new = match arguments.address(1) {
        UserAddress::NULL => RawItimerVal::default(),
        address => memory.read_value(address)?,
    };
    let kind = interval_kind(arguments.int(0))?;
    let (value, interval) = (new.value.checked()?, new.interval.checked()?);
    let before = thread.process.timers.set_interval_timer(&thread.process, kind, value, interval);
    if !arguments.address(2).is_null() {
        memory.write_value(arguments.address(2), &itimerval(before))?;
    }
    Ok(0)
}

/// alarm(2).
pub fn alarm(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let value = u64::from(arguments.uint(0)) * SECOND;
    let (before, _) = thread.process.timers.set_interval_timer(&thread.process, IntervalKind::Real, value, 0);
    Ok(alarm_seconds(before))
}

/// What alarm(2) returns for the time that was left: rounded, but not to 0.
fn alarm_seconds(left: u64) -> u64 {
    let rounded = left.saturating_add(SECOND / 2) / SECOND;
    if left > 0 { rounded.max(1) } else { 0 }
}

/// struct sigevent.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawSigevent {
    value: u64,
    signal: i32,
    notify: i32,
    tid: i32,
    rest: [i32; 11],
}

const _: () = assert!(size_of::<RawSigevent>() == 64);

/// timer_create(2).
pub fn timer_create(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let number = arguments.int(0);
    let clock = Clock::find(thread, number)?;
    if !clock.has_timers() {
        return Err(Errno::EOPNOTSUPP);
    }
    let memory = thread.memory();
    let event = match arguments.address(1) {
        UserAddress::NULL => None,
        address => Some(memory.read_value::<RawSigevent>(address)?),
    };
    let timers = &thread.process.timers;
    if timers.posix_count() as u64 >= thread.limit(libc::RLIMIT_SIGPENDING).0.min(MOST_TIMERS) {
        return Err(Errno::EAGAIN);
    }
    let id = timers.allocate_posix().ok_or(Errno::EAGAIN)?;
    let notify = notify(thread, event, id)?;
    memory.write_value(arguments.address(2), &id)?;
    timers.insert_posix(PosixTimer::new(id, clock, notify, &thread.process));
    Ok(0)
}

fn notify(thread: &Thread, event: Option<RawSigevent>, id: i32) -> Result<Notify, Errno> {
    let Some(event) = event else {
        return Ok(Notify::Process(SignalInfo::timer(libc::SIGALRM, id, u64::from(id as u32))));
    };
    let info = || Ok::<_, Errno>(SignalInfo::timer(checked(event.signal)?, id, event.value));
    match event.notify {
        libc::SIGEV_NONE => Ok(Notify::Nothing),
        libc::SIGEV_SIGNAL | libc::SIGEV_THREAD => Ok(Notify::Process(info()?)),
        libc::SIGEV_THREAD_ID => {
            let same_process = |task: &Arc<Task>| Arc::ptr_eq(&task.process, &thread.process);
            let task = thread.kernel.pids.task(event.tid).filter(same_process).ok_or(Errno::EINVAL)?;
            Ok(Notify::Thread(Arc::downgrade(&task), info()?))
        }
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn itimerspec((value, interval): (u64, u64)) -> RawItimerSpec {
    RawItimerSpec { interval: RawTimespec::new(interval), value: RawTimespec::new(value) }
}

/// timer_settime(2).
pub fn timer_settime(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let memory = thread.memory();
    let new: RawItimerSpec = memory.read_value(arguments.address(2))?;
    let (value, interval) = (new.value.checked()?, new.interval.checked()?);
    let timer = thread.process.timers.posix(arguments.int(0)).ok_or(Errno::EINVAL)?;
    let before = timer.set(value, arguments.int(1) & ABSOLUTE != 0, interval);
    if !arguments.address(3).is_null() {
        memory.write_value(arguments.address(3), &itimerspec(before))?;
    }
    Ok(0)
}

/// timer_gettime(2).
pub fn timer_gettime(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let timer = thread.process.timers.posix(arguments.int(0)).ok_or(Errno::EINVAL)?;
    thread.memory().write_value(arguments.address(1), &itimerspec(timer.get()))?;
    Ok(0)
}

/// timer_getoverrun(2).
pub fn timer_getoverrun(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let timer = thread.process.timers.posix(arguments.int(0)).ok_or(Errno::EINVAL)?;
    Ok(timer.overrun() as u64)
}

/// timer_delete(2).
pub fn timer_delete(thread: &mut Thread, arguments: Arguments) -> SysResult {
    thread.process.timers.remove_posix(arguments.int(0)).ok_or(Errno::EINVAL)?.delete();
    Ok(0)
}

/// struct timex.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawTimex {
    modes: u32,
    pad: u32,
    offset: i64,
    frequency: i64,
    max_error: i64,
    estimated_error: i64,
    status: i32,
    pad2: u32,
    constant: i64,
    precision: i64,
    tolerance: i64,
    time: RawTimeval,
    tick: i64,
    pps: [i64; 2],
    pps_shift: i32,
    pad3: u32,
    pps_counts: [i64; 5],
    tai: i32,
    rest: [i32; 11],
}

const _: () = assert!(size_of::<RawTimex>() == 208);

/// ADJ_OFFSET_SS_READ: reads only.
const ADJUST_READ: u32 = 0xa001;

/// adjtimex(2): a container sees a clock that is kept by somebody else.
pub fn adjtimex(thread: &mut Thread, arguments: Arguments) -> SysResult {
    read_clock_state(thread, arguments.address(0))
}

/// clock_adjtime(2).
pub fn clock_adjtime(thread: &mut Thread, arguments: Arguments) -> SysResult {
    match arguments.int(0) {
        libc::CLOCK_REALTIME => read_clock_state(thread, arguments.address(1)),
        other => Clock::find(thread, other).and(Err(Errno::EOPNOTSUPP)),
    }
}

fn read_clock_state(thread: &Thread, address: UserAddress) -> SysResult {
    let memory = thread.memory();
    let asked: RawTimex = memory.read_value(address)?;
    if asked.modes != 0 && asked.modes != ADJUST_READ {
        return Err(Errno::EPERM);
    }
    let state = RawTimex {
        status: libc::STA_PLL,
        max_error: 16_000,
        estimated_error: 16_000,
        constant: 2,
        precision: 1,
        tolerance: 32_768_000,
        time: RawTimeval::new(Clock::Host(libc::CLOCK_REALTIME).now()),
        tick: 10_000,
        modes: asked.modes,
        ..RawTimex::new_zeroed()
    };
    memory.write_value(address, &state)?;
    Ok(libc::TIME_OK as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarm_rounds_but_never_tells_an_armed_timer_as_none() {
        assert_eq!(alarm_seconds(0), 0);
        assert_eq!(alarm_seconds(1), 1);
        assert_eq!(alarm_seconds(SECOND * 3 / 2), 2);
        assert_eq!(alarm_seconds(SECOND * 5 / 4), 1);
    }
}
