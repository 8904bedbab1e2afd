//! Files that stand for events: eventfd(2), timerfd_create(2), signalfd(2).

use std::sync::Arc;

use crate::{
    Errno,
    abi::{Arguments, FdNumber, SysResult},
    fs::{OpenFile, eventfd::EventFd, signalfd::SignalFd, timerfd::TimerFd},
    task::Thread,
    time::{Clock, RawItimerSpec},
};

/// Puts a new file at the lowest free descriptor.
pub(super) fn install(thread: &Thread, file: Arc<OpenFile>, close_on_exec: bool) -> SysResult {
    let limit = thread.limit(libc::RLIMIT_NOFILE).0;
    Ok(thread.files().install(file, close_on_exec, 0, limit)?.0 as u64)
}

/// The flags of a new file (*_NONBLOCK and *_CLOEXEC are O_NONBLOCK and O_CLOEXEC); EINVAL for others than these and `known`.
fn check_flags(flags: i32, known: i32) -> Result<(u32, bool), Errno> {
    if flags & !(libc::O_NONBLOCK | libc::O_CLOEXEC | known) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(((flags & libc::O_NONBLOCK) as u32, flags & libc::O_CLOEXEC != 0))
}

/// eventfd(2) of old.
pub fn eventfd(thread: &mut Thread, arguments: Arguments) -> SysResult {
    new_eventfd(thread, arguments.uint(0), 0)
}

/// eventfd2(2).
pub fn eventfd2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    new_eventfd(thread, arguments.uint(0), arguments.int(1))
}

fn new_eventfd(thread: &Thread, count: u32, flags: i32) -> SysResult {
    let (status, close_on_exec) = check_flags(flags, libc::EFD_SEMAPHORE)?;
    let ops = EventFd::new(u64::from(count), flags & libc::EFD_SEMAPHORE != 0);
    install(thread, OpenFile::new(Arc::new(ops), libc::O_RDWR as u32 | status, None), close_on_exec)
}

/// timerfd_create(2).
pub fn timerfd_create(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (status, close_on_exec) = check_flags(arguments.int(1), 0)?;
    let clock = match arguments.int(0) {
        number @ (libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME) => Clock::Host(number),
        // They would wake a sleeping machine, which needs a capability that no container has.
        libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    install(thread, OpenFile::new(TimerFd::new(clock), libc::O_RDWR as u32 | status, None), close_on_exec)
}

fn with_timerfd<T>(thread: &Thread, fd: FdNumber, f: impl FnOnce(&TimerFd) -> T) -> Result<T, Errno> {
    let file = thread.files().get(fd)?;
    file.downcast::<TimerFd>().map(f).ok_or(Errno::EINVAL)
}

/// timerfd_settime(2).
pub fn timerfd_settime(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = arguments.int(1);
    if flags & !(libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let memory = thread.memory();
    let new: RawItimerSpec = memory.read_value(arguments.address(2))?;
    let (value, interval) = (new.value.checked()?, new.interval.checked()?);
    let absolute = flags & libc::TFD_TIMER_ABSTIME != 0;
    let before = with_timerfd(thread, arguments.fd(0), |timer| timer.set(value, absolute, interval))?;
    if !arguments.address(3).is_null() {
        memory.write_value(arguments.address(3), &super::time::itimerspec(before))?;
    }
    Ok(0)
}

/// timerfd_gettime(2).
pub fn timerfd_gettime(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let told = with_timerfd(thread, arguments.fd(0), TimerFd::get)?;
    thread.memory().write_value(arguments.address(1), &super::time::itimerspec(told))?;
    Ok(0)
}

/// signalfd(2) of old.
pub fn signalfd(thread: &mut Thread, arguments: Arguments) -> SysResult {
    new_signalfd(thread, arguments, 0)
}

/// signalfd4(2).
pub fn signalfd4(thread: &mut Thread, arguments: Arguments) -> SysResult {
    new_signalfd(thread, arguments, arguments.int(3))
}

fn new_signalfd(thread: &Thread, arguments: Arguments, flags: i32) -> SysResult {
    let (status, close_on_exec) = check_flags(flags, 0)?;
    let wanted = super::signal::read_set(thread, arguments.address(1), arguments.size(2))?.as_mask();
    let fd = arguments.int(0);
    if fd == -1 {
        let ops = Arc::new(SignalFd::new(thread, wanted));
        return install(thread, OpenFile::new(ops, libc::O_RDWR as u32 | status, None), close_on_exec);
    }
    let file = thread.files().get(FdNumber(fd))?;
    file.downcast::<SignalFd>().ok_or(Errno::EINVAL)?.set(wanted);
    Ok(fd as u64)
}
