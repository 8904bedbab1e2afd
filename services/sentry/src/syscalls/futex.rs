//! Futexes (futex(2), futex_waitv(2), and the calls that replace futex(2)).

use std::{future::poll_fn, task::Poll};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    abi::{Arguments, SysResult, UserAddress},
    executor,
    futex::{ANY, Locked, Waiting, WakeOp},
    signal::RestartBlock,
    task::Thread,
    time::{Clock, read_timespec},
};

/// FUTEX_PRIVATE_FLAG.
const PRIVATE: i32 = 128;
/// FUTEX_CLOCK_REALTIME.
const REALTIME: i32 = 256;
/// FUTEX_LOCK_PI2.
const LOCK_PI2: i32 = 13;
/// FUTEX2_SIZE_U32.
const SIZE_U32: u32 = 2;
/// FUTEX2_PRIVATE.
const PRIVATE2: u32 = 128;
/// FUTEX_WAITV_MAX.
const MOST_WAITERS: u32 = 128;

/// struct futex_waitv.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawWaiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// A deadline in executor time from a timespec on CLOCK_REALTIME or CLOCK_MONOTONIC.
fn read_deadline(thread: &Thread, address: UserAddress, realtime: bool, absolute: bool) -> Result<Option<u64>, Errno> {
    if address.is_null() {
        return Ok(None);
    }
    let time = read_timespec(&thread.memory(), address)?;
    if !absolute {
        return Ok(Some(executor::now().saturating_add(time)));
    }
    let clock = Clock::Host(if realtime { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC });
    Ok(Some(clock.to_executor(time)))
}

/// futex(2).
pub async fn futex(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let operation = arguments.int(1);
    let (private, realtime) = (operation & PRIVATE != 0, operation & REALTIME != 0);
    let command = operation & !(PRIVATE | REALTIME);
    let may_be_realtime = matches!(command, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI | LOCK_PI2);
    if realtime && !may_be_realtime {
        return Err(Errno::ENOSYS);
    }
    let address = arguments.address(0);
    let value = arguments.uint(2);
    let table = &thread.kernel.futexes;
    match command {
        libc::FUTEX_WAIT => {
            let deadline = read_deadline(thread, arguments.address(3), realtime, false)?;
            wait_until(thread, arguments, deadline).await
        }
        libc::FUTEX_WAIT_BITSET => {
            let deadline = read_deadline(thread, arguments.address(3), realtime, true)?;
            wait_until(thread, arguments, deadline).await
        }
        libc::FUTEX_WAKE => wake(thread, address, private, value, ANY),
        libc::FUTEX_WAKE_BITSET => wake(thread, address, private, value, arguments.uint(5)),
        libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE => {
            let (wake, requeue) = (count(arguments.int(2))?, count(arguments.int(3))?);
            let compare = command == libc::FUTEX_CMP_REQUEUE;
            let expected = compare.then(|| arguments.uint(5));
            let (to, memory) = (arguments.address(4), thread.memory());
            let (woken, moved) = table.requeue(&memory, (address, private), (to, private), wake, requeue, expected)?;
            Ok(u64::from(if compare { woken.saturating_add(moved) } else { woken }))
        }
        libc::FUTEX_WAKE_OP => {
            let operation = WakeOp::decode(arguments.uint(5))?;
            let words = (address, arguments.address(4), private);
            let counts = (arguments.uint(2).max(1), arguments.uint(3).max(1));
            Ok(u64::from(table.wake_op(&thread.memory(), words, counts, operation)?))
        }
        libc::FUTEX_LOCK_PI | LOCK_PI2 => {
            let realtime = realtime || command == libc::FUTEX_LOCK_PI;
            let deadline = read_deadline(thread, arguments.address(3), realtime, true)?;
            lock_pi(thread, address, private, deadline).await
        }
        libc::FUTEX_TRYLOCK_PI => {
            let lives = |tid| thread.kernel.pids.task(tid).is_some();
            table.lock_pi(&thread.memory(), address, private, thread.tid(), true, lives)?;
            Ok(0)
        }
        libc::FUTEX_UNLOCK_PI => {
            table.unlock_pi(&thread.memory(), address, private, thread.tid())?;
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// A number of waiters; EINVAL when it is negative.
fn count(number: i32) -> Result<u32, Errno> {
    u32::try_from(number).map_err(|_| Errno::EINVAL)
}

fn wake(thread: &Thread, address: UserAddress, private: bool, count: u32, bitset: u32) -> SysResult {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    // As Linux: at least one is woken, whatever the number says.
    let count = if (count as i32) < 1 { 1 } else { count };
    Ok(u64::from(thread.kernel.futexes.wake_waiters(&thread.memory(), address, private, count, bitset)?))
}

/// FUTEX_WAIT and FUTEX_WAIT_BITSET until a deadline in executor time; also what restart_syscall(2) carries on with.
pub(super) async fn wait_until(thread: &Thread, arguments: Arguments, deadline: Option<u64>) -> SysResult {
    let operation = arguments.int(1);
    let private = operation & PRIVATE != 0;
    let plain = operation & !(PRIVATE | REALTIME) == libc::FUTEX_WAIT;
    let bitset = if plain { ANY } else { arguments.uint(5) };
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let memory = thread.memory();
    let waiting = thread.kernel.futexes.enter(&memory, arguments.address(0), private, arguments.uint(2), bitset)?;
    match wait_woken(thread, waiting, deadline).await {
        Err(Errno::ERESTARTSYS) => {
            let Some(deadline) = deadline else { return Err(Errno::ERESTARTSYS) };
            thread.signals.set_restart(RestartBlock::Futex { arguments, deadline });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        other => other,
    }
}

/// A wake-up that comes together with a signal or with the deadline counts: whoever woke has counted it.
async fn wait_woken(thread: &Thread, waiting: Waiting<'_>, deadline: Option<u64>) -> SysResult {
    let result = thread.interruptible_until(deadline, waiting.woken()).await;
    match result {
        Ok(Some(())) => Ok(0),
        _ if waiting.leave() => Ok(0),
        Ok(None) => Err(Errno::ETIMEDOUT),
        Err(errno) => Err(errno),
    }
}

async fn lock_pi(thread: &Thread, address: UserAddress, private: bool, deadline: Option<u64>) -> SysResult {
    let memory = thread.memory();
    let lives = |tid| thread.kernel.pids.task(tid).is_some();
    match thread.kernel.futexes.lock_pi(&memory, address, private, thread.tid(), false, lives)? {
        Locked::Taken => Ok(0),
        Locked::Waits(waiting) => match wait_woken(thread, waiting, deadline).await {
            Err(Errno::ERESTARTSYS) => Err(Errno::ERESTARTNOINTR),
            other => other,
        },
    }
}

/// Checks the flags of the newer calls; whether the word is private.
fn check_flags(flags: u32) -> Result<bool, Errno> {
    if flags & !PRIVATE2 == SIZE_U32 { Ok(flags & PRIVATE2 != 0) } else { Err(Errno::EINVAL) }
}

/// The deadline of the newer calls: always absolute, on a clock given by number.
fn deadline_on(thread: &Thread, address: UserAddress, clock: i32) -> Result<Option<u64>, Errno> {
    if address.is_null() {
        return Ok(None);
    }
    match clock {
        libc::CLOCK_REALTIME => read_deadline(thread, address, true, true),
        libc::CLOCK_MONOTONIC => read_deadline(thread, address, false, true),
        _ => Err(Errno::EINVAL),
    }
}

/// A futex value of the newer calls: 32 bits of a register.
fn word(value: u64) -> Result<u32, Errno> {
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

/// futex_wake(2).
pub fn futex_wake(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let private = check_flags(arguments.uint(3))?;
    let bitset = word(arguments.raw(1))?;
    let count = arguments.int(2);
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    if count < 1 {
        return Ok(0);
    }
    wake(thread, arguments.address(0), private, count as u32, bitset)
}

/// futex_wait(2).
pub async fn futex_wait(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let private = check_flags(arguments.uint(3))?;
    let (value, bitset) = (word(arguments.raw(1))?, word(arguments.raw(2))?);
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline_on(thread, arguments.address(4), arguments.int(5))?;
    let memory = thread.memory();
    let waiting = thread.kernel.futexes.enter(&memory, arguments.address(0), private, value, bitset)?;
    wait_woken(thread, waiting, deadline).await
}

fn read_waiters(thread: &Thread, address: UserAddress, count: u32) -> Result<Vec<RawWaiter>, Errno> {
    let memory = thread.memory();
    (0..u64::from(count)).map(|i| memory.read_value(address.offset(i * size_of::<RawWaiter>() as u64))).collect()
}

/// futex_requeue(2).
pub fn futex_requeue(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.uint(1) != 0 {
        return Err(Errno::EINVAL);
    }
    let (wake, requeue) = (count(arguments.int(2))?, count(arguments.int(3))?);
    let waiters = read_waiters(thread, arguments.address(0), 2)?;
    let [from, to] = waiters.as_slice() else { return Err(Errno::EINVAL) };
    if from.reserved != 0 || to.reserved != 0 {
        return Err(Errno::EINVAL);
    }
    let source = (UserAddress(from.address), check_flags(from.flags)?);
    let target = (UserAddress(to.address), check_flags(to.flags)?);
    let expected = Some(word(from.value)?);
    let (woken, moved) = thread.kernel.futexes.requeue(&thread.memory(), source, target, wake, requeue, expected)?;
    Ok(u64::from(woken) + u64::from(moved))
}

/// futex_waitv(2): waits on several words; which was woken.
pub async fn futex_waitv(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let count = arguments.uint(1);
    if arguments.uint(2) != 0 || count == 0 || count > MOST_WAITERS || arguments.address(0).is_null() {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline_on(thread, arguments.address(3), arguments.int(4))?;
    let memory = thread.memory();
    let mut waiting = Vec::new();
    for raw in read_waiters(thread, arguments.address(0), count)? {
        if raw.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        let private = check_flags(raw.flags)?;
        let address = UserAddress(raw.address);
        waiting.push(thread.kernel.futexes.enter(&memory, address, private, word(raw.value)?, ANY)?);
    }
    let first_woken = poll_fn(|cx| {
        let woken = waiting.iter().position(|one: &Waiting<'_>| one.poll(cx).is_ready());
        woken.map_or(Poll::Pending, Poll::Ready)
    });
    let result = thread.interruptible_until(deadline, first_woken).await;
    let left = waiting.into_iter().map(Waiting::leave).collect::<Vec<_>>();
    match result {
        Ok(Some(index)) => Ok(index as u64),
        // Woken together with the deadline or a signal: whoever woke has counted it.
        other => match (left.iter().position(|woken| *woken), other) {
            (Some(index), _) => Ok(index as u64),
            (None, Ok(_)) => Err(Errno::ETIMEDOUT),
            (None, Err(errno)) => Err(errno),
        },
    }
}
