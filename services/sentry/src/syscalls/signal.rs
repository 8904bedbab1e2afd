//! Signals: sending, blocking, handling, waiting (signal(7)).

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    abi::{Arguments, SysResult, UserAddress},
    executor,
    signal::{
        self, RawInfo, RawStack, RestartBlock, SignalInfo, SignalSet,
        actions::{ActionFlags, SignalAction},
    },
    task::{PidFd, Process, Task, Thread, capability},
    time::read_timespec,
};

/// struct sigaction of the kernel.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// Checks `sigsetsize`.
fn check_set_size(size: usize) -> Result<(), Errno> {
    if size == size_of::<u64>() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Reads a sigset_t that must be there, with its size.
pub(super) fn read_set(thread: &Thread, address: UserAddress, size: usize) -> Result<SignalSet, Errno> {
    check_set_size(size)?;
    Ok(SignalSet(thread.memory().read_value(address)?))
}

/// rt_sigaction(2).
pub fn rt_sigaction(thread: &mut Thread, arguments: Arguments) -> SysResult {
    check_set_size(arguments.size(3))?;
    let signal = signal::checked(arguments.int(0))?;
    let (new, old) = (arguments.address(1), arguments.address(2));
    let memory = thread.memory();
    let actions = thread.process.signals.actions();
    let before = if new.is_null() {
        actions.get(signal)
    } else {
        let raw: RawAction = memory.read_value(new)?;
        if SignalSet::UNBLOCKABLE.contains(signal) {
            return Err(Errno::EINVAL);
        }
        let before = actions.set(
            signal,
            SignalAction {
                handler: raw.handler,
                flags: ActionFlags::from_bits_truncate(raw.flags),
                restorer: raw.restorer,
                mask: SignalSet(raw.mask).as_mask(),
            },
        );
        if actions.ignores(signal) {
            signal::discard(&thread.process, SignalSet::EMPTY.with(signal));
        }
        before
    };
    if !old.is_null() {
        let raw =
            RawAction { handler: before.handler, flags: before.flags.bits(), restorer: before.restorer, mask: before.mask.0 };
        memory.write_value(old, &raw)?;
    }
    Ok(0)
}

/// rt_sigprocmask(2).
pub fn rt_sigprocmask(thread: &mut Thread, arguments: Arguments) -> SysResult {
    check_set_size(arguments.size(3))?;
    let memory = thread.memory();
    let before = thread.signals.mask();
    let new = arguments.address(1);
    if !new.is_null() {
        let set = SignalSet(memory.read_value(new)?);
        let mask = match arguments.int(0) {
            libc::SIG_BLOCK => before.union(set),
            libc::SIG_UNBLOCK => before.minus(set),
            libc::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        if mask.as_mask() != before {
            signal::set_mask(&thread.task, mask);
        }
    }
    let old = arguments.address(2);
    if !old.is_null() {
        memory.write_value(old, &before.0)?;
    }
    Ok(0)
}

/// rt_sigpending(2).
pub fn rt_sigpending(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let size = arguments.size(1);
    let set = signal::pending(&thread.task).and(thread.signals.mask()).0.to_le_bytes();
    let bytes = set.get(..size).ok_or(Errno::EINVAL)?;
    thread.memory().write(arguments.address(0), bytes)?;
    Ok(0)
}

/// rt_sigsuspend(2).
pub async fn rt_sigsuspend(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let mask = read_set(thread, arguments.address(0), arguments.size(1))?;
    thread.set_temporary_mask(mask);
    wait_for_signal(thread).await
}

/// pause(2).
pub async fn pause(thread: &mut Thread, _: Arguments) -> SysResult {
    wait_for_signal(thread).await
}

async fn wait_for_signal(thread: &Thread) -> SysResult {
    match thread.interruptible(std::future::pending::<()>()).await {
        Ok(()) | Err(_) => Err(Errno::ERESTARTNOHAND),
    }
}

/// rt_sigtimedwait(2).
pub async fn rt_sigtimedwait(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let wanted = read_set(thread, arguments.address(0), arguments.size(3))?.as_mask();
    let timeout = match arguments.address(2) {
        UserAddress::NULL => None,
        address => Some(read_timespec(&thread.memory(), address)?),
    };
    let mut taken = signal::take(&thread.task, wanted);
    if taken.is_none() && timeout != Some(0) {
        taken = await_signal(thread, wanted, timeout).await?;
    }
    let info = taken.ok_or(Errno::EAGAIN)?;
    if !arguments.address(1).is_null() {
        thread.memory().write_value(arguments.address(1), &info.to_raw())?;
    }
    Ok(info.signal as u64)
}

async fn await_signal(thread: &Thread, wanted: SignalSet, timeout: Option<u64>) -> Result<Option<SignalInfo>, Errno> {
    // Those waited for do not count as blocked meanwhile, so that they are sent to this thread and wake it.
    let _waiting = Awaiting::begin(&thread.task, wanted);
    let deadline = timeout.map(|timeout| executor::now().saturating_add(timeout));
    loop {
        if let Some(info) = signal::take(&thread.task, wanted) {
            return Ok(Some(info));
        }
        match thread.interruptible_until(deadline, std::future::pending::<()>()).await {
            Ok(_) => return Ok(signal::take(&thread.task, wanted)),
            Err(_) => {
                if let Some(info) = signal::take(&thread.task, wanted) {
                    return Ok(Some(info));
                }
                signal::recalculate(&thread.task);
                if thread.has_pending_signal() {
                    return Err(Errno::EINTR);
                }
            }
        }
    }
}

/// While it lives, its task waits for signals of a set.
struct Awaiting<'a>(&'a Arc<Task>);

impl<'a> Awaiting<'a> {
    fn begin(task: &'a Arc<Task>, wanted: SignalSet) -> Awaiting<'a> {
        signal::await_signals(task, wanted);
        Awaiting(task)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        signal::await_signals(self.0, SignalSet::EMPTY);
        signal::recalculate(self.0);
    }
}

/// rt_sigreturn(2).
pub fn rt_sigreturn(thread: &mut Thread, _: Arguments) -> SysResult {
    thread.call = None;
    let _ = thread.signals.take_restart();
    if let Err(errno) = signal::leave_handler(thread) {
        tracing::debug!(%errno, "a bad signal frame");
        signal::raise(thread, SignalInfo::kernel(libc::SIGSEGV));
    }
    Ok(thread.registers.rax)
}

/// restart_syscall(2): carries on with a wait that a stop or an ignored signal interrupted.
pub async fn restart_syscall(thread: &mut Thread, _: Arguments) -> SysResult {
    match thread.signals.take_restart() {
        Some(RestartBlock::Sleep { clock, deadline, remaining }) => {
            super::time::sleep(thread, clock, deadline, Some(remaining)).await
        }
        Some(RestartBlock::Poll { arguments, deadline }) => super::poll::poll_until(thread, arguments, Some(deadline)).await,
        Some(RestartBlock::Futex { arguments, deadline }) => super::futex::wait_until(thread, arguments, Some(deadline)).await,
        None => Err(Errno::EINTR),
    }
}

/// sigaltstack(2).
pub fn sigaltstack(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let memory = thread.memory();
    let (new, old) = (arguments.address(0), arguments.address(1));
    let before = thread.signals.alternate_stack();
    let stack_pointer = thread.registers.rsp;
    if !new.is_null() {
        let raw: RawStack = memory.read_value(new)?;
        if before.in_use(stack_pointer) {
            return Err(Errno::EPERM);
        }
        thread.signals.set_alternate_stack(signal::AlternateStack::from_raw(&raw)?);
    }
    if !old.is_null() {
        memory.write_value(old, &before.to_raw(stack_pointer))?;
    }
    Ok(0)
}

/// Who sends: process id and real user id.
fn sender(thread: &Thread) -> (i32, u32) {
    (thread.process.pid, thread.credentials().uid)
}

/// Whether `thread` may send `signal` to a process whose thread `target` is (kill(2)).
fn may_signal(thread: &Thread, target: &Task, signal: i32) -> bool {
    if Arc::ptr_eq(&thread.process, &target.process) {
        return true;
    }
    let (own, other) = (thread.credentials(), target.credentials());
    let same_user = own.euid == other.suid || own.euid == other.uid || own.uid == other.suid || own.uid == other.uid;
    let same_session = || {
        let pids = &thread.kernel.pids;
        let session = |pid| pids.relations(pid).map(|relations| relations.session);
        session(thread.process.pid).is_some_and(|own| session(target.process.pid) == Some(own))
    };
    same_user || own.has(capability::KILL) || signal == libc::SIGCONT && same_session()
}

/// Sends to a process if that is allowed; signal 0 only asks.
fn signal_process(thread: &Thread, process: &Process, signal: i32, info: SignalInfo) -> Result<(), Errno> {
    // A process without threads is a zombie: it takes nothing, and says nothing about who may.
    let Some(target) = process.leader() else { return Ok(()) };
    if !may_signal(thread, &target, signal) {
        return Err(Errno::EPERM);
    }
    if signal == 0 { Ok(()) } else { signal::queue_to_process(process, info) }
}

/// A signal number that may be 0.
fn signal_or_zero(signal: i32) -> Result<i32, Errno> {
    if signal == 0 { Ok(0) } else { signal::checked(signal) }
}

/// The process with this number, also by the number of any of its threads.
fn find_process(thread: &Thread, pid: i32) -> Result<Arc<Process>, Errno> {
    let pids = &thread.kernel.pids;
    pids.process(pid).or_else(|| pids.task(pid).map(|task| task.process.clone())).ok_or(Errno::ESRCH)
}

/// kill(2).
pub fn kill(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let target = arguments.int(0);
    let signal = signal_or_zero(arguments.int(1));
    let (pid, uid) = sender(thread);
    let info = SignalInfo::user(arguments.int(1), pid, uid);
    match target {
        1.. => {
            let process = find_process(thread, target)?;
            signal_process(thread, &process, signal?, info)?;
        }
        0 => {
            let group = thread.kernel.pids.relations(pid).ok_or(Errno::ESRCH)?.group;
            signal_group(thread, group, signal?, info)?;
        }
        -1 => {
            let signal = signal?;
            let (mut any, mut result) = (false, Ok(()));
            for process in thread.kernel.pids.processes() {
                if process.pid > 1 && process.pid != pid {
                    any = true;
                    match signal_process(thread, &process, signal, info) {
                        Err(Errno::EPERM) => {}
                        other => result = other,
                    }
                }
            }
            if !any {
                return Err(Errno::ESRCH);
            }
            result?;
        }
        i32::MIN => return Err(Errno::ESRCH),
        _ => signal_group(thread, -target, signal?, info)?,
    }
    Ok(0)
}

fn signal_group(thread: &Thread, group: i32, signal: i32, info: SignalInfo) -> Result<(), Errno> {
    let mut result = Err(Errno::ESRCH);
    for process in thread.kernel.pids.group(group) {
        let one = signal_process(thread, &process, signal, info);
        if result.is_err() {
            result = one;
        }
    }
    result
}

/// tkill(2).
pub fn tkill(thread: &mut Thread, arguments: Arguments) -> SysResult {
    signal_thread(thread, None, arguments.int(0), arguments.int(1))
}

/// tgkill(2).
pub fn tgkill(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.int(0) <= 0 {
        return Err(Errno::EINVAL);
    }
    signal_thread(thread, Some(arguments.int(0)), arguments.int(1), arguments.int(2))
}

/// The thread with this number, if it is of that process.
fn find_thread(thread: &Thread, group: Option<i32>, tid: i32) -> Result<Arc<Task>, Errno> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = thread.kernel.pids.task(tid).ok_or(Errno::ESRCH)?;
    if group.is_some_and(|group| group != target.process.pid) { Err(Errno::ESRCH) } else { Ok(target) }
}

fn signal_thread(thread: &Thread, group: Option<i32>, tid: i32, signal: i32) -> SysResult {
    let target = find_thread(thread, group, tid)?;
    let signal = signal_or_zero(signal)?;
    if !may_signal(thread, &target, signal) {
        return Err(Errno::EPERM);
    }
    if signal != 0 {
        let (pid, uid) = sender(thread);
        signal::queue_to_task(&target, SignalInfo::thread(signal, pid, uid))?;
    }
    Ok(0)
}

/// The siginfo of rt_sigqueueinfo(2): nobody may pretend to be the kernel or kill(2), but to itself.
fn read_info(thread: &Thread, address: UserAddress, signal: i32, to_self: bool) -> Result<SignalInfo, Errno> {
    let raw: RawInfo = thread.memory().read_value(address)?;
    let info = SignalInfo { signal, ..SignalInfo::from_raw(&raw) };
    if (info.code >= 0 || info.code == libc::SI_TKILL) && !to_self { Err(Errno::EPERM) } else { Ok(info) }
}

/// rt_sigqueueinfo(2).
pub fn rt_sigqueueinfo(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (target, signal) = (arguments.int(0), arguments.int(1));
    let info = read_info(thread, arguments.address(2), signal, target == thread.process.pid)?;
    let process = find_process(thread, target)?;
    signal_process(thread, &process, signal_or_zero(signal)?, info)?;
    Ok(0)
}

/// rt_tgsigqueueinfo(2).
pub fn rt_tgsigqueueinfo(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (group, tid, signal) = (arguments.int(0), arguments.int(1), arguments.int(2));
    let info = read_info(thread, arguments.address(3), signal, tid == thread.tid())?;
    if group <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = find_thread(thread, Some(group), tid)?;
    let signal = signal_or_zero(signal)?;
    if !may_signal(thread, &target, signal) {
        return Err(Errno::EPERM);
    }
    if signal != 0 {
        signal::queue_to_task(&target, info)?;
    }
    Ok(0)
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let signal = arguments.int(1);
    if arguments.uint(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = thread.files().get(arguments.fd(0))?;
    let process = file.downcast::<PidFd>().ok_or(Errno::EBADF)?.process.clone();
    let info = match arguments.address(2) {
        UserAddress::NULL => {
            let (pid, uid) = sender(thread);
            SignalInfo::user(signal, pid, uid)
        }
        address => {
            let to_self = Arc::ptr_eq(&process, &thread.process);
            let raw: RawInfo = thread.memory().read_value(address)?;
            if raw.signal != signal {
                return Err(Errno::EINVAL);
            }
            read_info(thread, address, signal, to_self)?
        }
    };
    if process.leader().is_none() {
        return Err(Errno::ESRCH);
    }
    signal_process(thread, &process, signal_or_zero(signal)?, info)?;
    Ok(0)
}
