//! Resource limits and what was used (getrlimit(2), getrusage(2), times(2)).

use std::sync::{Arc, atomic::Ordering};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    abi::{Arguments, SysResult, UserAddress},
    executor,
    task::{CpuTimes, Process, Task, Thread, capability, cpu_limit, exit::ticks, limits::RESOURCES},
};

/// struct rlimit64, which on x86-64 is struct rlimit.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Limit {
    soft: u64,
    hard: u64,
}

/// Most files that a process may have open (/proc/sys/fs/nr_open).
const MOST_FILES: u64 = 1 << 20;

/// Checks a change of (soft, hard).
fn check(resource: u32, old: (u64, u64), new: (u64, u64), privileged: bool) -> Result<(), Errno> {
    if new.0 > new.1 {
        return Err(Errno::EINVAL);
    }
    if resource == libc::RLIMIT_NOFILE && new.1 > MOST_FILES || new.1 > old.1 && !privileged {
        return Err(Errno::EPERM);
    }
    Ok(())
}

fn resource(number: u32) -> Result<u32, Errno> {
    if (number as usize) < RESOURCES { Ok(number) } else { Err(Errno::EINVAL) }
}

fn change(thread: &Thread, process: &Arc<Process>, resource: u32, new: Limit) -> Result<Limit, Errno> {
    let privileged = thread.credentials().has(capability::SYS_RESOURCE);
    let old = {
        let mut limits = process.limits.lock();
        let old = limits.get(resource);
        check(resource, old, (new.soft, new.hard), privileged)?;
        limits.set(resource, (new.soft, new.hard));
        old
    };
    if resource == libc::RLIMIT_CPU && old != (new.soft, new.hard) {
        cpu_limit::watch(process);
    }
    if resource == libc::RLIMIT_STACK
        && let Some(leader) = process.leader()
    {
        // The stack grows on faults, where no task is at hand to be asked.
        leader.memory().set_stack_limit(new.soft);
    }
    Ok(Limit { soft: old.0, hard: old.1 })
}

/// getrlimit(2).
pub fn getrlimit(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (soft, hard) = thread.limit(resource(arguments.uint(0))?);
    thread.memory().write_value(arguments.address(1), &Limit { soft, hard })?;
    Ok(0)
}

/// setrlimit(2).
pub fn setrlimit(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let new = thread.memory().read_value(arguments.address(1))?;
    change(thread, &thread.process, resource(arguments.uint(0))?, new)?;
    Ok(0)
}

/// prlimit(2): pid, resource, new, old.
pub fn prlimit64(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let resource = resource(arguments.uint(1))?;
    let memory = thread.memory();
    let (new, old) = (arguments.address(2), arguments.address(3));
    let new: Option<Limit> = if new.is_null() { None } else { Some(memory.read_value(new)?) };
    let task = thread.task.find(arguments.int(0)).map_err(|_| Errno::ESRCH)?;
    if !Arc::ptr_eq(&task, &thread.task) {
        let (me, them) = (thread.credentials(), task.credentials());
        let users = [them.uid, them.euid, them.suid].iter().all(|id| *id == me.uid);
        let groups = [them.gid, them.egid, them.sgid].iter().all(|id| *id == me.gid);
        if !(users && groups || me.has(capability::SYS_RESOURCE)) {
            return Err(Errno::EPERM);
        }
    }
    let before = match new {
        Some(new) => change(thread, &task.process, resource, new)?,
        None => {
            let (soft, hard) = task.limit(resource);
            Limit { soft, hard }
        }
    };
    if !old.is_null() {
        memory.write_value(old, &before)?;
    }
    Ok(0)
}

/// struct rusage.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Usage {
    user: [i64; 2],
    system: [i64; 2],
    peak_kilobytes: i64,
    sizes: [i64; 3],
    minor_faults: i64,
    major_faults: i64,
    swaps: i64,
    blocks: [i64; 2],
    messages: [i64; 3],
    voluntary_switches: i64,
    involuntary_switches: i64,
}

const _: () = assert!(size_of::<Usage>() == size_of::<libc::rusage>());

impl Usage {
    /// From CPU times and the largest resident size in bytes.
    pub fn of(times: CpuTimes, peak_resident: u64) -> Usage {
        let timeval = |ns: u64| [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000 / 1000) as i64];
        Usage {
            user: timeval(times.user),
            system: timeval(times.system),
            peak_kilobytes: (peak_resident / 1024) as i64,
            ..Default::default()
        }
    }
}

/// Largest resident size so far, which survives execve.
fn peak(task: &Task) -> u64 {
    task.memory().peak_resident().max(task.process.peak_resident.load(Ordering::Relaxed))
}

/// getrusage(2).
pub fn getrusage(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let process = &thread.process;
    let usage = match arguments.int(0) {
        libc::RUSAGE_SELF => Usage {
            voluntary_switches: process.with_threads(|threads| threads.iter().map(|t| t.cpu.waits()).sum::<u64>()) as i64,
            ..Usage::of(process.cpu_times(), peak(thread))
        },
        libc::RUSAGE_CHILDREN => Usage::of(process.children_cpu_times(), process.children_peak_resident.load(Ordering::Relaxed)),
        libc::RUSAGE_THREAD => {
            Usage { voluntary_switches: thread.cpu.waits() as i64, ..Usage::of(thread.cpu_times(), peak(thread)) }
        }
        _ => return Err(Errno::EINVAL),
    };
    thread.memory().write_value(arguments.address(1), &usage)?;
    Ok(0)
}

/// times(2).
pub fn times(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let at: UserAddress = arguments.address(0);
    if !at.is_null() {
        let (own, children) = (thread.process.cpu_times(), thread.process.children_cpu_times());
        let all = [own.user, own.system, children.user, children.system].map(ticks);
        thread.memory().write_value(at, &all)?;
    }
    Ok(ticks(executor::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_limit_is_raised_by_the_privileged_only() {
        assert_eq!(check(libc::RLIMIT_CPU, (1, 2), (2, 2), false), Ok(()));
        assert_eq!(check(libc::RLIMIT_CPU, (1, 2), (1, 3), false), Err(Errno::EPERM));
        assert_eq!(check(libc::RLIMIT_CPU, (1, 2), (1, 3), true), Ok(()));
        assert_eq!(check(libc::RLIMIT_CPU, (1, 2), (2, 1), true), Err(Errno::EINVAL));
        assert_eq!(check(libc::RLIMIT_NOFILE, (1, 2), (1, u64::MAX), true), Err(Errno::EPERM));
    }
}
