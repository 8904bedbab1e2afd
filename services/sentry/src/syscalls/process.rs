//! Making and ending threads and processes; their numbers, groups and sessions.

use std::sync::{Arc, atomic::Ordering};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    abi::{Arguments, SysResult, UserAddress},
    task::{
        PidFd, Thread, capability,
        clone::{self, CloneFlags, CloneRequest},
    },
};

/// The bits of clone(2)'s flags that are a signal number.
const EXIT_SIGNAL: u64 = 0xff;

/// fork(2).
pub async fn fork(thread: &mut Thread, _: Arguments) -> SysResult {
    start(thread, CloneRequest { exit_signal: libc::SIGCHLD, ..Default::default() }).await
}

/// vfork(2).
pub async fn vfork(thread: &mut Thread, _: Arguments) -> SysResult {
    let flags = CloneFlags::VM | CloneFlags::VFORK;
    start(thread, CloneRequest { flags, exit_signal: libc::SIGCHLD, ..Default::default() }).await
}

/// clone(2): flags, stack, parent's tid, child's tid, tls.
pub async fn clone(thread: &mut Thread, arguments: Arguments) -> SysResult {
    // The upper half, and bits without a meaning, are ignored, as Linux does in this oldest form.
    let flags = CloneFlags::from_bits_truncate(arguments.raw(0) & 0xffff_ffff & !EXIT_SIGNAL);
    if flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) {
        return Err(Errno::EINVAL);
    }
    start(
        thread,
        CloneRequest {
            flags,
            exit_signal: (arguments.raw(0) & EXIT_SIGNAL) as i32,
            stack: arguments.raw(1),
            tls: arguments.raw(4),
            parent_tid: arguments.address(2),
            child_tid: arguments.address(3),
            pidfd: arguments.address(2),
        },
    )
    .await
}

/// struct clone_args.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Size of the first version of `CloneArguments`.
const CLONE_ARGUMENTS_FIRST: usize = 64;
/// Most levels of pid namespaces.
const MOST_LEVELS: u64 = 32;

/// clone3(2).
pub async fn clone3(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let raw = read_clone_arguments(thread, arguments.address(0), arguments.size(1))?;
    let request = clone3_request(&raw, thread.kernel.platform.guest_end())?;
    if raw.set_tid_size > 0 {
        // Choosing a number is for those who restore checkpoints.
        return Err(if thread.credentials().has(capability::CHECKPOINT_RESTORE) { Errno::EINVAL } else { Errno::EPERM });
    }
    start(thread, request).await
}

/// An extensible struct: what is behind our version must be zero.
fn read_clone_arguments(thread: &Thread, address: UserAddress, size: usize) -> Result<CloneArguments, Errno> {
    if size > crate::abi::PAGE_SIZE as usize {
        return Err(Errno::E2BIG);
    }
    if size < CLONE_ARGUMENTS_FIRST {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; size.max(size_of::<CloneArguments>())];
    let given = bytes.get_mut(..size).ok_or(Errno::EINVAL)?;
    thread.memory().read(address, given)?;
    let (known, rest) = bytes.split_at(size_of::<CloneArguments>());
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    CloneArguments::read_from_bytes(known).map_err(|_| Errno::EINVAL)
}

fn clone3_request(raw: &CloneArguments, guest_end: u64) -> Result<CloneRequest, Errno> {
    let flags = CloneFlags::from_bits(raw.flags).ok_or(Errno::EINVAL)?;
    let group = CloneFlags::THREAD | CloneFlags::PARENT;
    if flags.contains(CloneFlags::DETACHED)
        || raw.flags & EXIT_SIGNAL & !CloneFlags::NEWTIME.bits() != 0
        || raw.exit_signal > 64
        || flags.intersects(group) && raw.exit_signal != 0
        || raw.set_tid_size > MOST_LEVELS
        || (raw.set_tid == 0) != (raw.set_tid_size == 0)
        || (raw.stack == 0) != (raw.stack_size == 0)
    {
        return Err(Errno::EINVAL);
    }
    let stack = raw.stack.checked_add(raw.stack_size).filter(|end| *end <= guest_end).ok_or(Errno::EINVAL)?;
    Ok(CloneRequest {
        flags,
        exit_signal: raw.exit_signal as i32,
        stack,
        tls: raw.tls,
        parent_tid: UserAddress(raw.parent_tid),
        child_tid: UserAddress(raw.child_tid),
        pidfd: UserAddress(raw.pidfd),
    })
}

async fn start(thread: &mut Thread, request: CloneRequest) -> SysResult {
    clone::clone(thread, request).await.map(|tid| tid as u64)
}

/// exit(2): this thread alone.
pub fn exit(thread: &mut Thread, arguments: Arguments) -> SysResult {
    thread.exit_code = arguments.int(0) & 0xff;
    thread.signals.end_thread();
    Ok(0)
}

/// exit_group(2): all threads.
pub fn exit_group(thread: &mut Thread, arguments: Arguments) -> SysResult {
    thread.process.begin_exit((arguments.int(0) & 0xff) << 8);
    Ok(0)
}

/// getpid(2).
pub fn getpid(thread: &mut Thread, _: Arguments) -> SysResult {
    Ok(thread.process.pid as u64)
}

/// gettid(2).
pub fn gettid(thread: &mut Thread, _: Arguments) -> SysResult {
    Ok(thread.tid() as u64)
}

/// getppid(2).
pub fn getppid(thread: &mut Thread, _: Arguments) -> SysResult {
    Ok(thread.kernel.pids.relations(thread.process.pid).map_or(0, |relations| relations.parent) as u64)
}

/// setpgid(2).
pub fn setpgid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    thread.kernel.pids.set_group(thread.process.pid, arguments.int(0), arguments.int(1)).map(|()| 0)
}

/// getpgid(2).
pub fn getpgid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let pid = if arguments.int(0) == 0 { thread.process.pid } else { arguments.int(0) };
    thread.kernel.pids.group_and_session(pid).map(|(group, _)| group as u64)
}

/// getpgrp(2).
pub fn getpgrp(thread: &mut Thread, _: Arguments) -> SysResult {
    thread.kernel.pids.group_and_session(thread.process.pid).map(|(group, _)| group as u64)
}

/// setsid(2).
pub fn setsid(thread: &mut Thread, _: Arguments) -> SysResult {
    let session = thread.kernel.pids.new_session(thread.process.pid)?;
    *thread.process.terminal.lock() = None;
    Ok(session as u64)
}

/// getsid(2).
pub fn getsid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let pid = if arguments.int(0) == 0 { thread.process.pid } else { arguments.int(0) };
    thread.kernel.pids.group_and_session(pid).map(|(_, session)| session as u64)
}

/// set_tid_address(2).
pub fn set_tid_address(thread: &mut Thread, arguments: Arguments) -> SysResult {
    thread.clear_child_tid.store(arguments.raw(0), Ordering::Relaxed);
    Ok(thread.tid() as u64)
}

/// Bytes of struct robust_list_head.
const ROBUST_LIST_HEAD: usize = 24;

/// set_robust_list(2).
pub fn set_robust_list(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.size(1) != ROBUST_LIST_HEAD {
        return Err(Errno::EINVAL);
    }
    thread.robust_list.store(arguments.raw(0), Ordering::Relaxed);
    Ok(0)
}

/// get_robust_list(2).
pub fn get_robust_list(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let task = thread.task.find(arguments.int(0)).map_err(|_| Errno::ESRCH)?;
    if !Arc::ptr_eq(&task.process, &thread.process) && !thread.credentials().may_inspect(&task.credentials()) {
        return Err(Errno::EPERM);
    }
    let memory = thread.memory();
    memory.write_value(arguments.address(2), &(ROBUST_LIST_HEAD as u64))?;
    memory.write_value(arguments.address(1), &task.robust_list.load(Ordering::Relaxed))?;
    Ok(0)
}

/// pidfd_open(2).
pub fn pidfd_open(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (pid, flags) = (arguments.int(0), arguments.uint(1));
    let nonblocking = libc::O_NONBLOCK as u32;
    if flags & !nonblocking != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let pids = &thread.kernel.pids;
    let process = pids.process(pid).ok_or_else(|| if pids.task(pid).is_some() { Errno::EINVAL } else { Errno::ESRCH })?;
    let file = PidFd::open(&process, flags & nonblocking != 0);
    let limit = thread.limit(libc::RLIMIT_NOFILE).0;
    thread.files().install(file, true, 0, limit).map(|fd| fd.0 as u64)
}

/// pidfd_getfd(2): a duplicate of another process's descriptor, for those who may look into it.
pub fn pidfd_getfd(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.uint(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let files = thread.files();
    let pidfd = files.get(arguments.fd(0))?;
    let process = &pidfd.downcast::<PidFd>().ok_or(Errno::EBADF)?.process;
    let task = process.leader().ok_or(Errno::ESRCH)?;
    if !Arc::ptr_eq(process, &thread.process) && !thread.credentials().may_inspect(&task.credentials()) {
        return Err(Errno::EPERM);
    }
    let file = task.files().get(arguments.fd(1))?;
    files.install(file, true, 0, thread.limit(libc::RLIMIT_NOFILE).0).map(|fd| fd.0 as u64)
}

/// unshare(2): the fd table and the fs context; namespaces there are none to make.
pub fn unshare(thread: &mut Thread, arguments: Arguments) -> SysResult {
    use CloneFlags as F;
    let known = F::NAMESPACES | F::NEWUSER | F::FILES | F::FS | F::SYSVSEM | F::THREAD | F::SIGHAND | F::VM;
    let flags = F::from_bits(arguments.raw(0) & 0xffff_ffff).filter(|f| known.contains(*f)).ok_or(Errno::EINVAL)?;
    if flags.intersects(F::THREAD | F::SIGHAND | F::VM) && thread.process.thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    if flags.contains(F::NEWUSER) || flags.intersects(F::NAMESPACES) && !thread.credentials().has(capability::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if flags.intersects(F::NAMESPACES) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(F::FILES) {
        let own = thread.files().fork();
        *thread.task.files.write() = own;
    }
    if flags.contains(F::FS) {
        let own = thread.fs().fork();
        *thread.task.fs.write() = own;
    }
    Ok(0)
}

/// setns(2): there are no other namespaces.
pub fn setns(thread: &mut Thread, arguments: Arguments) -> SysResult {
    thread.files().get(arguments.fd(0))?;
    Err(if thread.credentials().has(capability::SYS_ADMIN) { Errno::EINVAL } else { Errno::EPERM })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone3_refuses_what_linux_refuses() {
        let good = CloneArguments { exit_signal: 17, stack: 0x1000, stack_size: 0x2000, ..Default::default() };
        assert_eq!(clone3_request(&good, 1 << 47).map(|request| request.stack), Ok(0x3000));
        for bad in [
            CloneArguments { exit_signal: 65, ..good },
            CloneArguments { flags: 17, ..good },
            CloneArguments { flags: 1 << 40, ..good },
            CloneArguments { flags: CloneFlags::PARENT.bits(), ..good },
            CloneArguments { stack_size: 0, ..good },
            CloneArguments { stack: 0, ..good },
            CloneArguments { stack: u64::MAX, ..good },
            CloneArguments { set_tid: 8, ..good },
        ] {
            assert!(matches!(clone3_request(&bad, 1 << 47), Err(Errno::EINVAL)));
        }
    }
}
