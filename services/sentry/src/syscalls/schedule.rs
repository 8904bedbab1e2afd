//! Scheduling (sched(7)): kept and told; the host's scheduler decides who runs.

use std::{future::poll_fn, sync::Arc, task::Poll};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    abi::{Arguments, SysResult},
    executor::Executor,
    task::{Scheduling, Task, Thread, capability},
};

/// SCHED_RESET_ON_FORK.
const RESET_ON_FORK: i32 = 0x4000_0000;
/// SCHED_DEADLINE.
const DEADLINE: i32 = 6;
/// Real-time priorities go from 1 to this.
const HIGHEST_PRIORITY: i32 = 99;

/// sched_yield(2).
pub async fn sched_yield(_: &mut Thread, _: Arguments) -> SysResult {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    Ok(0)
}

/// Bit mask of the guest's CPUs.
fn all_cpus() -> u64 {
    match Executor::cpus() {
        n if n >= 64 => u64::MAX,
        n => (1 << n.max(1)) - 1,
    }
}

/// Whether the caller may change how another task is scheduled.
fn may_change(thread: &Thread, task: &Task) -> Result<(), Errno> {
    let (me, them) = (thread.credentials(), task.credentials());
    if me.euid == them.euid || me.euid == them.uid || me.has(capability::SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

fn find(thread: &Thread, pid: i32) -> Result<Arc<Task>, Errno> {
    thread.task.find(pid)
}

/// sched_setaffinity(2).
pub fn sched_setaffinity(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let mut mask = [0u8; 8];
    let length = (arguments.uint(1) as usize).min(mask.len());
    let given = mask.get_mut(..length).unwrap_or_default();
    thread.memory().read(arguments.address(2), given)?;
    let task = find(thread, arguments.int(0)).map_err(|_| Errno::ESRCH)?;
    may_change(thread, &task)?;
    let affinity = u64::from_le_bytes(mask) & all_cpus();
    if affinity == 0 {
        return Err(Errno::EINVAL);
    }
    task.scheduling.lock().affinity = affinity;
    task.signals.set_affinity(affinity);
    Ok(0)
}

/// sched_getaffinity(2): tells how many bytes it wrote.
pub fn sched_getaffinity(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let length = arguments.uint(1) as usize;
    if !length.is_multiple_of(8) || length * 8 < Executor::cpus() {
        return Err(Errno::EINVAL);
    }
    let task = find(thread, arguments.int(0)).map_err(|_| Errno::ESRCH)?;
    let affinity = task.scheduling.lock().affinity & all_cpus();
    thread.memory().write_value(arguments.address(2), &affinity)?;
    Ok(8)
}

/// Checks a policy and its priority as sched_setscheduler(2) does.
fn check(policy: i32, priority: i32) -> Result<(), Errno> {
    let valid = match policy {
        libc::SCHED_FIFO | libc::SCHED_RR => (1..=HIGHEST_PRIORITY).contains(&priority),
        libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE => priority == 0,
        _ => false,
    };
    if valid { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Sets policy and priority, if the caller may.
fn set_policy(thread: &Thread, pid: i32, policy: Option<i32>, priority: i32, nice: Option<i32>) -> Result<(), Errno> {
    let task = find(thread, pid)?;
    let (policy, reset_on_fork) = match policy {
        Some(policy) => (policy & !RESET_ON_FORK, policy & RESET_ON_FORK != 0),
        None => {
            let present = task.scheduling.lock();
            (present.policy, present.reset_on_fork)
        }
    };
    check(policy, priority)?;
    may_change(thread, &task)?;
    let real_time = matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR);
    let limit = task.limit(libc::RLIMIT_RTPRIO).0;
    if real_time && priority as u64 > limit && !thread.credentials().has(capability::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    if let Some(nice) = nice {
        check_nice(thread, &task, nice).map_err(|_| Errno::EPERM)?;
    }
    let mut scheduling = task.scheduling.lock();
    scheduling.policy = policy;
    scheduling.priority = priority;
    scheduling.reset_on_fork = reset_on_fork;
    if let Some(nice) = nice {
        scheduling.nice = nice.clamp(-20, 19);
    }
    Ok(())
}

/// sched_setscheduler(2).
pub fn sched_setscheduler(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.int(0) < 0 || arguments.int(1) < 0 || arguments.address(2).is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = thread.memory().read_value::<i32>(arguments.address(2))?;
    set_policy(thread, arguments.int(0), Some(arguments.int(1)), priority, None).map(|()| 0)
}

/// sched_getscheduler(2).
pub fn sched_getscheduler(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let task = find(thread, arguments.int(0))?;
    let scheduling = task.scheduling.lock();
    Ok((scheduling.policy | if scheduling.reset_on_fork { RESET_ON_FORK } else { 0 }) as u64)
}

/// sched_setparam(2).
pub fn sched_setparam(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.int(0) < 0 || arguments.address(1).is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = thread.memory().read_value::<i32>(arguments.address(1))?;
    set_policy(thread, arguments.int(0), None, priority, None).map(|()| 0)
}

/// sched_getparam(2).
pub fn sched_getparam(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.address(1).is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = find(thread, arguments.int(0))?.scheduling.lock().priority;
    thread.memory().write_value(arguments.address(1), &priority)?;
    Ok(0)
}

/// struct sched_attr, version with utilisation clamps.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    clamps: [u32; 2],
}

/// Size of its first version.
const ATTRIBUTES_FIRST: usize = 48;

/// sched_setattr(2).
pub fn sched_setattr(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (pid, at) = (arguments.int(0), arguments.address(1));
    if at.is_null() || pid < 0 || arguments.uint(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let memory = thread.memory();
    let size = match memory.read_value::<u32>(at)? as usize {
        0 => ATTRIBUTES_FIRST,
        size => size,
    };
    if !(ATTRIBUTES_FIRST..=crate::abi::PAGE_SIZE as usize).contains(&size) {
        return Err(Errno::E2BIG);
    }
    let mut bytes = [0; size_of::<Attributes>()];
    let known = size.min(bytes.len());
    memory.read(at, bytes.get_mut(..known).unwrap_or_default())?;
    let attributes = Attributes::read_from_bytes(&bytes).map_err(|_| Errno::EINVAL)?;
    // SCHED_FLAG_RESET_ON_FORK; the others are for deadlines and clamps.
    if attributes.flags & !1 != 0 || attributes.policy > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let reset = if attributes.flags & 1 != 0 { RESET_ON_FORK } else { 0 };
    let policy = attributes.policy as i32 & !RESET_ON_FORK | reset;
    let timesharing = matches!(policy & !RESET_ON_FORK, libc::SCHED_OTHER | libc::SCHED_BATCH);
    set_policy(
        thread,
        pid,
        Some(policy),
        i32::try_from(attributes.priority).map_err(|_| Errno::EINVAL)?,
        timesharing.then_some(attributes.nice.clamp(-20, 19)),
    )
    .map(|()| 0)
}

/// sched_getattr(2).
pub fn sched_getattr(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (pid, at, size) = (arguments.int(0), arguments.address(1), arguments.uint(2) as usize);
    if at.is_null() || pid < 0 || arguments.uint(3) != 0 || !(ATTRIBUTES_FIRST..=4096).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let task = find(thread, pid)?;
    let scheduling = task.scheduling.lock().clone();
    let length = size.min(size_of::<Attributes>());
    let attributes = Attributes {
        size: length as u32,
        policy: scheduling.policy as u32,
        flags: scheduling.reset_on_fork.into(),
        nice: scheduling.nice,
        priority: scheduling.priority as u32,
        ..Default::default()
    };
    thread.memory().write(at, attributes.as_bytes().get(..length).unwrap_or_default())?;
    Ok(0)
}

/// (lowest, highest) priority of a policy.
fn priorities(policy: i32) -> Result<(u64, u64), Errno> {
    match policy {
        libc::SCHED_FIFO | libc::SCHED_RR => Ok((1, HIGHEST_PRIORITY as u64)),
        libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE | DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_get_priority_max(2).
pub fn sched_get_priority_max(_: &mut Thread, arguments: Arguments) -> SysResult {
    priorities(arguments.int(0)).map(|(_, highest)| highest)
}

/// sched_get_priority_min(2).
pub fn sched_get_priority_min(_: &mut Thread, arguments: Arguments) -> SysResult {
    priorities(arguments.int(0)).map(|(lowest, _)| lowest)
}

/// sched_rr_get_interval(2).
pub fn sched_rr_get_interval(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let policy = find(thread, arguments.int(0))?.scheduling.lock().policy;
    let nanoseconds: i64 = match policy {
        libc::SCHED_RR => 100_000_000,
        libc::SCHED_FIFO => 0,
        _ => 3_000_000,
    };
    thread.memory().write_value(arguments.address(1), &[0, nanoseconds])?;
    Ok(0)
}

/// Who is meant by PRIO_PROCESS, PRIO_PGRP, PRIO_USER.
fn targets(thread: &Thread, kind: i32, who: i32) -> Result<Vec<Arc<Task>>, Errno> {
    let pids = &thread.kernel.pids;
    let all = |processes: Vec<Arc<crate::task::Process>>| -> Vec<Arc<Task>> {
        processes.iter().flat_map(|process| process.threads()).collect()
    };
    let tasks = match kind {
        0 => thread.task.find(who).into_iter().collect(),
        1 => {
            let group = if who == 0 { pids.group_and_session(thread.process.pid)?.0 } else { who };
            all(pids.group(group))
        }
        2 => {
            let uid = if who == 0 { thread.credentials().uid } else { who as u32 };
            all(pids.processes()).into_iter().filter(|task| task.credentials().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if tasks.is_empty() { Err(Errno::ESRCH) } else { Ok(tasks) }
}

/// getpriority(2), in the kernel's form: 20 minus the niceness.
pub fn getpriority(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let tasks = targets(thread, arguments.int(0), arguments.int(1))?;
    let nicest = tasks.iter().map(|task| task.scheduling.lock().nice).min().unwrap_or(0);
    Ok((20 - nicest) as u64)
}

/// Whether the caller may make a task this nice: becoming less nice is limited by RLIMIT_NICE.
fn check_nice(thread: &Thread, task: &Task, nice: i32) -> Result<(), Errno> {
    let present = task.scheduling.lock().nice;
    let floor = task.limit(libc::RLIMIT_NICE).0;
    if nice >= present || (20 - nice) as u64 <= floor || thread.credentials().has(capability::SYS_NICE) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// setpriority(2).
pub fn setpriority(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let nice = arguments.int(2).clamp(-20, 19);
    for task in targets(thread, arguments.int(0), arguments.int(1))? {
        may_change(thread, &task)?;
        check_nice(thread, &task, nice)?;
        task.scheduling.lock().nice = nice;
    }
    Ok(0)
}

/// ioprio_set(2).
pub fn ioprio_set(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let value = arguments.int(2);
    let (class, level) = (value >> 13, value & 0x1fff);
    let credentials = thread.credentials();
    match class {
        0 if level == 0 => {}
        1 if !credentials.has(capability::SYS_ADMIN) && !credentials.has(capability::SYS_NICE) => return Err(Errno::EPERM),
        1 | 2 if level & 7 == level => {}
        3 => {}
        _ => return Err(Errno::EINVAL),
    }
    for task in targets(thread, arguments.int(0).wrapping_sub(1), arguments.int(1))? {
        may_change(thread, &task)?;
        task.scheduling.lock().io_priority = value;
    }
    Ok(0)
}

/// ioprio_get(2): without one of its own, a task has the best-effort one that its niceness gives.
pub fn ioprio_get(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let value = |scheduling: &Scheduling| match scheduling.io_priority {
        0 => (2 << 13) | ((scheduling.nice + 20) / 5),
        value => value,
    };
    let tasks = targets(thread, arguments.int(0).wrapping_sub(1), arguments.int(1))?;
    Ok(tasks.iter().map(|task| value(&task.scheduling.lock())).min().unwrap_or(0) as u64)
}

/// getcpu(2).
pub fn getcpu(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let memory = thread.memory();
    for (i, value) in [Executor::current_cpu() as u32, 0].into_iter().enumerate() {
        if !arguments.address(i).is_null() {
            memory.write_value(arguments.address(i), &value)?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_its_range_of_priorities() {
        assert_eq!(check(libc::SCHED_FIFO, 50), Ok(()));
        assert_eq!(check(libc::SCHED_OTHER, 0), Ok(()));
        for (policy, priority) in [(libc::SCHED_FIFO, 0), (libc::SCHED_RR, 100), (libc::SCHED_OTHER, 1), (DEADLINE, 0), (99, 0)] {
            assert_eq!(check(policy, priority), Err(Errno::EINVAL));
        }
    }
}
