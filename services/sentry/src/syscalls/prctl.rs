//! prctl(2), arch_prctl(2), personality(2).

use std::sync::atomic::Ordering;

use crate::{
    Errno,
    abi::{Arguments, SysResult, UserAddress},
    task::{
        Credentials, Thread, capability,
        credentials::{SECBIT_KEEP_CAPS, SECBIT_KEEP_CAPS_LOCKED, SECBIT_LOCKS, SECBIT_NO_CAP_AMBIENT_RAISE, SECBITS},
    },
};

/// Bytes of a thread's name, its NUL included.
const NAME: usize = 16;
/// PR_TSC_ENABLE.
const TSC_ENABLED: i32 = 1;

/// prctl(2).
pub fn prctl(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let value = arguments.raw(1);
    let rest_is_zero = || (2..5).all(|i| arguments.raw(i) == 0);
    let all_zero = || value == 0 && rest_is_zero();
    let check = |good: bool| if good { Ok(()) } else { Err(Errno::EINVAL) };
    match arguments.int(0) {
        libc::PR_SET_PDEATHSIG => {
            check(value <= 64)?;
            thread.parent_death_signal.store(value as i32, Ordering::Relaxed);
            Ok(0)
        }
        libc::PR_GET_PDEATHSIG => put(thread, arguments.address(1), thread.parent_death_signal.load(Ordering::Relaxed)),
        libc::PR_GET_DUMPABLE => Ok(thread.process.dumpable.load(Ordering::Relaxed) as u64),
        libc::PR_SET_DUMPABLE => {
            check(value <= 1)?;
            thread.process.dumpable.store(value as i32, Ordering::Relaxed);
            Ok(0)
        }
        libc::PR_SET_NAME => set_name(thread, arguments.address(1)),
        libc::PR_GET_NAME => get_name(thread, arguments.address(1)),
        libc::PR_GET_KEEPCAPS => Ok(u64::from(thread.credentials().securebits & SECBIT_KEEP_CAPS != 0)),
        libc::PR_SET_KEEPCAPS => set_keep_capabilities(thread, value),
        libc::PR_GET_SECUREBITS => Ok(thread.credentials().securebits.into()),
        libc::PR_SET_SECUREBITS => set_securebits(thread, value),
        libc::PR_CAPBSET_READ => {
            check(value <= capability::LAST.into())?;
            Ok(thread.credentials().capabilities.bounding >> value & 1)
        }
        libc::PR_CAPBSET_DROP => drop_bounding(thread, value),
        libc::PR_CAP_AMBIENT => {
            check(arguments.raw(3) == 0 && arguments.raw(4) == 0)?;
            ambient(thread, value, arguments.raw(2))
        }
        libc::PR_SET_NO_NEW_PRIVS => {
            check(value == 1 && rest_is_zero())?;
            let old = thread.credentials();
            thread.set_credentials(Credentials { no_new_privileges: true, ..Credentials::clone(&old) });
            Ok(0)
        }
        libc::PR_GET_NO_NEW_PRIVS => {
            check(all_zero())?;
            Ok(thread.credentials().no_new_privileges.into())
        }
        libc::PR_SET_CHILD_SUBREAPER => {
            thread.process.child_subreaper.store(value != 0, Ordering::Relaxed);
            Ok(0)
        }
        libc::PR_GET_CHILD_SUBREAPER => {
            put(thread, arguments.address(1), thread.process.child_subreaper.load(Ordering::Relaxed).into())
        }
        libc::PR_SET_TIMERSLACK => {
            let default = crate::task::Scheduling::default().timer_slack;
            thread.scheduling.lock().timer_slack = if value as i64 <= 0 { default } else { value };
            Ok(0)
        }
        libc::PR_GET_TIMERSLACK => Ok(thread.scheduling.lock().timer_slack),
        libc::PR_GET_TSC => put(thread, arguments.address(1), TSC_ENABLED),
        libc::PR_SET_TSC => check(value == TSC_ENABLED as u64).map(|()| 0),
        libc::PR_SET_THP_DISABLE => check(rest_is_zero()).map(|()| 0),
        libc::PR_GET_THP_DISABLE => check(all_zero()).map(|()| 0),
        libc::PR_GET_TIMING => Ok(0),
        libc::PR_SET_TIMING => check(value == 0).map(|()| 0),
        libc::PR_TASK_PERF_EVENTS_ENABLE | libc::PR_TASK_PERF_EVENTS_DISABLE => Ok(0),
        libc::PR_GET_SECCOMP => Ok(0),
        libc::PR_GET_TID_ADDRESS => {
            thread.memory().write_value(arguments.address(1), &thread.clear_child_tid.load(Ordering::Relaxed))?;
            Ok(0)
        }
        libc::PR_SET_MM => Err(Errno::EPERM),
        libc::PR_GET_SPECULATION_CTRL | libc::PR_SET_SPECULATION_CTRL => Err(Errno::ENODEV),
        _ => Err(Errno::EINVAL),
    }
}

fn put(thread: &Thread, at: UserAddress, value: i32) -> SysResult {
    thread.memory().write_value(at, &value)?;
    Ok(0)
}

fn set_name(thread: &Thread, at: UserAddress) -> SysResult {
    let memory = thread.memory();
    let mut name = [0; NAME];
    // A name may end at the end of what is mapped; it is longer than the buffer more often than not mapped.
    let length = memory.read_some(at, &mut name)?;
    let read = name.get(..length).unwrap_or_default();
    let end = match read.iter().position(|byte| *byte == 0) {
        Some(end) => end,
        None if length < NAME => return Err(Errno::EFAULT),
        None => NAME - 1,
    };
    *thread.name.lock() = name.get(..end).unwrap_or_default().to_vec();
    Ok(0)
}

fn get_name(thread: &Thread, at: UserAddress) -> SysResult {
    let mut bytes = [0u8; NAME];
    for (to, from) in bytes.iter_mut().take(NAME - 1).zip(thread.name.lock().iter()) {
        *to = *from;
    }
    thread.memory().write(at, &bytes)?;
    Ok(0)
}

fn set_keep_capabilities(thread: &mut Thread, value: u64) -> SysResult {
    let old = thread.credentials();
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    if old.securebits & SECBIT_KEEP_CAPS_LOCKED != 0 {
        return Err(Errno::EPERM);
    }
    let securebits = if value == 1 { old.securebits | SECBIT_KEEP_CAPS } else { old.securebits & !SECBIT_KEEP_CAPS };
    thread.set_credentials(Credentials { securebits, ..Credentials::clone(&old) });
    Ok(0)
}

fn set_securebits(thread: &mut Thread, value: u64) -> SysResult {
    let old = thread.credentials();
    let new = u32::try_from(value).ok().filter(|new| new & !(SECBITS | SECBIT_LOCKS) == 0).ok_or(Errno::EPERM)?;
    let locked = (old.securebits & SECBIT_LOCKS) >> 1;
    if locked & (old.securebits ^ new) != 0 || old.securebits & SECBIT_LOCKS & !new != 0 || !old.has(capability::SETPCAP) {
        return Err(Errno::EPERM);
    }
    thread.set_credentials(Credentials { securebits: new, ..Credentials::clone(&old) });
    Ok(0)
}

fn drop_bounding(thread: &mut Thread, number: u64) -> SysResult {
    let old = thread.credentials();
    if !old.has(capability::SETPCAP) {
        return Err(Errno::EPERM);
    }
    if number > capability::LAST.into() {
        return Err(Errno::EINVAL);
    }
    let mut new = Credentials::clone(&old);
    new.capabilities.bounding &= !(1 << number);
    thread.set_credentials(new);
    Ok(0)
}

const AMBIENT_IS_SET: u64 = 1;
const AMBIENT_RAISE: u64 = 2;
const AMBIENT_LOWER: u64 = 3;
const AMBIENT_CLEAR_ALL: u64 = 4;

fn ambient(thread: &mut Thread, operation: u64, number: u64) -> SysResult {
    let old = thread.credentials();
    let mut new = Credentials::clone(&old);
    let sets = &mut new.capabilities;
    if operation == AMBIENT_CLEAR_ALL {
        if number != 0 {
            return Err(Errno::EINVAL);
        }
        sets.ambient = 0;
        thread.set_credentials(new);
        return Ok(0);
    }
    if number > capability::LAST.into() {
        return Err(Errno::EINVAL);
    }
    let bit = 1 << number;
    match operation {
        AMBIENT_IS_SET => return Ok(u64::from(sets.ambient & bit != 0)),
        AMBIENT_RAISE => {
            if sets.permitted & sets.inheritable & bit == 0 || old.securebits & SECBIT_NO_CAP_AMBIENT_RAISE != 0 {
                return Err(Errno::EPERM);
            }
            sets.ambient |= bit;
        }
        AMBIENT_LOWER => sets.ambient &= !bit,
        _ => return Err(Errno::EINVAL),
    }
    thread.set_credentials(new);
    Ok(0)
}

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;
const ARCH_GET_CPUID: i32 = 0x1011;
const ARCH_SET_CPUID: i32 = 0x1012;

/// arch_prctl(2).
pub fn arch_prctl(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let value = arguments.raw(1);
    let base = || if value < thread.kernel.platform.guest_end() { Ok(value) } else { Err(Errno::EPERM) };
    match arguments.int(0) {
        ARCH_SET_FS => thread.registers.fs_base = base()?,
        ARCH_SET_GS => thread.registers.gs_base = base()?,
        ARCH_GET_FS => thread.memory().write_value(arguments.address(1), &thread.registers.fs_base)?,
        ARCH_GET_GS => thread.memory().write_value(arguments.address(1), &thread.registers.gs_base)?,
        ARCH_GET_CPUID => return Ok(1),
        ARCH_SET_CPUID => return Err(Errno::ENODEV),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// personality(2): kept, without effect.
pub fn personality(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let new = arguments.uint(0);
    let old = thread.personality.load(Ordering::Relaxed);
    if new != u32::MAX {
        thread.personality.store(new.into(), Ordering::Relaxed);
    }
    Ok(old)
}
