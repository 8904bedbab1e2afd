//! Sending: into a queue, unless it is ignored, and then somebody is made to look.

use std::sync::Arc;

use bulkhead_ipc::Errno;

use super::{
    actions::{DEFAULT, DefaultAction, default_action},
    info::SignalInfo,
    pending::{Pending, PendingQueue},
    set::{FIRST_REAL_TIME, HIGHEST, SignalSet},
    state::GroupState,
};
use crate::{
    task::{Process, Task},
    time::posix::PosixTimer,
};

/// si_code of what the kernel itself sends.
const SI_KERNEL: i32 = 0x80;

/// Who is to take it.
#[derive(Clone, Copy)]
enum Target<'a> {
    Thread(&'a Task),
    Process,
}

impl Task {
    /// Sends to this thread. What cannot be queued is dropped, as Linux does with what the kernel sends.
    pub fn send_signal(&self, info: SignalInfo) {
        let _ = queue_to_task(self, info);
    }
    /// Replaces the signal mask until the current system call has ended and its signals were delivered (ppoll, sigsuspend).
    pub fn set_temporary_mask(&self, mask: SignalSet) {
        {
            let mut state = self.signals.state.lock();
            if state.saved_mask.is_none() {
                state.saved_mask = Some(state.mask);
            }
        }
        set_mask(self, mask);
    }
    /// To be called when the thread ends, after it has left its process's `threads()`: signals of the process that it was to
    /// take go to others.
    pub fn hand_over_signals(&self) {
        offer_to_others(self, SignalSet(u64::MAX));
    }
}

impl Process {
    /// Sends to the process: any thread that does not block it takes it.
    pub fn send_signal(&self, info: SignalInfo) {
        let _ = queue_to_process(self, info);
    }
}

/// Sends to this thread; EAGAIN when RLIMIT_SIGPENDING does not allow one more queued signal.
pub fn queue_to_task(task: &Task, info: SignalInfo) -> Result<(), Errno> {
    send(&task.process, Pending { info, timer: None }, Target::Thread(task), false)
}

/// As [`Process::send_signal`], from outside of the container: SIGKILL and SIGSTOP reach pid 1 as well.
pub fn send_from_outside(process: &Process, info: SignalInfo) {
    let _ = send(process, Pending { info, timer: None }, Target::Process, true);
}

/// Sends to the process; EAGAIN when RLIMIT_SIGPENDING does not allow one more queued signal.
pub fn queue_to_process(process: &Process, info: SignalInfo) -> Result<(), Errno> {
    send(process, Pending { info, timer: None }, Target::Process, false)
}

/// Sends a timer's signal, to the process or to one of its threads.
pub(crate) fn send_timer(process: &Process, task: Option<&Task>, info: SignalInfo, timer: Arc<PosixTimer>) {
    let target = task.map_or(Target::Process, Target::Thread);
    let _ = send(process, Pending { info, timer: Some(timer) }, target, false);
}

/// Drops what a deleted timer sent.
pub(crate) fn discard_timer(process: &Process, timer: &Arc<PosixTimer>) {
    process.signals.pending.lock().discard_timer(timer);
    process.with_threads(|threads| {
        for task in threads {
            task.signals.state.lock().pending.discard_timer(timer);
        }
    });
}

/// Drops waiting signals from all queues of the process (their action became "ignore").
pub(crate) fn discard(process: &Process, signals: SignalSet) {
    let mut dropped = process.signals.pending.lock().discard(signals);
    process.with_threads(|threads| {
        for task in threads {
            dropped.append(&mut task.signals.state.lock().pending.discard(signals));
        }
    });
    // Not under a lock: a timer looks at the CPU time of tasks.
    for timer in dropped.into_iter().filter_map(|pending| pending.timer) {
        timer.signal_taken();
    }
}

/// Computes anew whether there is something to do for `deliver`.
pub(crate) fn recalculate(task: &Task) {
    task.signals.set_attention(false);
    let process = &task.process.signals;
    let due = task.signals.is_ending() || process.group_state() != GroupState::Running || {
        let shared = process.pending();
        let state = task.signals.state.lock();
        !state.pending.set().union(shared).minus(state.mask).is_empty()
    };
    if due {
        task.signals.set_attention(true);
    }
}

/// Sets a thread's mask, and looks whether something can be taken now. What the process waits to have taken and this thread no
/// longer takes is offered to the others.
pub(crate) fn set_mask(task: &Task, mask: SignalSet) {
    let newly_blocked = {
        let mut state = task.signals.state.lock();
        let before = state.mask;
        state.mask = mask.as_mask();
        state.mask.minus(before)
    };
    recalculate(task);
    offer_to_others(task, newly_blocked);
}

/// Goes back to the mask from before [`Task::set_temporary_mask`].
pub(crate) fn restore_mask(task: &Task) {
    let saved = task.signals.state.lock().saved_mask.take();
    if let Some(mask) = saved {
        set_mask(task, mask);
    }
}

/// Takes a waiting signal that is in `wanted`, the thread's own first; with the timer's overrun filled in.
pub(crate) fn take(task: &Task, wanted: SignalSet) -> Option<SignalInfo> {
    let blocked = SignalSet(!wanted.0);
    let own = task.signals.state.lock().pending.take(blocked);
    let taken = match own {
        Some(taken) => taken,
        None => task.process.signals.pending.lock().take(blocked)?,
    };
    let mut info = taken.info;
    if let Some(timer) = taken.timer {
        let overrun = timer.signal_taken();
        info.fields[0] = info.fields[0] & 0xffff_ffff | u64::from(overrun as u32) << 32;
    }
    Some(info)
}

/// Signals that wait and that the thread could take if it did not block them (sigpending(2), signalfd).
pub fn pending(task: &Task) -> SignalSet {
    task.process.signals.pending().union(task.signals.pending())
}

/// Says what sigtimedwait(2) waits for, so that such a signal wakes this thread although it is blocked.
pub(crate) fn await_signals(task: &Task, wanted: SignalSet) {
    task.signals.state.lock().awaited = wanted;
}

/// Whether the thread would take `signal` now.
fn wants(task: &Task, signal: i32) -> bool {
    let state = task.signals.state.lock();
    !state.mask.contains(signal) || state.awaited.contains(signal)
}

fn send(process: &Process, pending: Pending, target: Target<'_>, from_outside: bool) -> Result<(), Errno> {
    let signal = pending.info.signal;
    if signal == libc::SIGCONT {
        discard(process, SignalSet::STOPPING);
        process.end_stop();
    } else if SignalSet::STOPPING.contains(signal) {
        discard(process, SignalSet::EMPTY.with(libc::SIGCONT));
    }
    let force = from_outside || pending.info.code == SI_KERNEL;
    if !(1..=HIGHEST).contains(&signal) || process.signals.exit_status().is_some() || ignores(process, signal, target, force) {
        if let Some(timer) = &pending.timer {
            timer.signal_taken();
        }
        return Ok(());
    }
    enqueue(process, pending, target)?;
    wake_taker(process, signal, target);
    Ok(())
}

/// Whether the signal does nothing at all, so that it is not even queued. A blocked one is queued: its action may change.
fn ignores(process: &Process, signal: i32, target: Target<'_>, force: bool) -> bool {
    let actions = process.signals.actions();
    let unblockable = SignalSet::UNBLOCKABLE.contains(signal);
    let blocked = || match target {
        Target::Thread(task) => task.signals.blocks_or_awaits(signal),
        Target::Process => process.with_threads(|threads| threads.iter().any(|t| t.signals.blocks_or_awaits(signal))),
    };
    if process.signals.protected && actions.get(signal).handler == DEFAULT && !(force && unblockable) {
        return unblockable || !blocked();
    }
    !unblockable && actions.ignores(signal) && !blocked()
}

fn enqueue(process: &Process, pending: Pending, target: Target<'_>) -> Result<(), Errno> {
    let (limit, _) = process.limits.lock().get(libc::RLIMIT_SIGPENDING);
    let timer = pending.timer.clone();
    // A standard signal waits once at most, and a timer has one place of its own.
    let counts = pending.info.signal >= FIRST_REAL_TIME && timer.is_none();
    let push = |queue: &mut PendingQueue| {
        if !counts || (queue.count() as u64) < limit {
            Ok(queue.push(pending))
        } else if pending.info.code != libc::SI_USER {
            Err(Errno::EAGAIN)
        } else {
            // kill(2) does not fail for want of room: the signal comes, if not each instance.
            Ok(!queue.set().contains(pending.info.signal) && queue.push(pending))
        }
    };
    let added = match target {
        Target::Thread(task) => push(&mut task.signals.state.lock().pending)?,
        Target::Process => push(&mut process.signals.pending.lock())?,
    };
    if let Some(timer) = timer.filter(|_| !added) {
        timer.signal_taken();
    }
    Ok(())
}

/// Wakes who is to take `signal`, which is in the queue already.
fn wake_taker(process: &Process, signal: i32, target: Target<'_>) {
    process.signals.wake_arrival();
    let taker = process.with_threads(|threads| {
        threads
            .iter()
            .find(|t| match target {
                Target::Thread(task) => std::ptr::eq(&***t, task) && wants(t, signal),
                Target::Process => wants(t, signal),
            })
            .cloned()
    });
    let Some(taker) = taker else { return };
    // A signal that ends the process does so at once, so that nothing of it runs on.
    let default = process.signals.actions().get(signal).handler == DEFAULT;
    let awaited = taker.signals.state.lock().awaited.contains(signal);
    // Only SIGKILL ends a process that is stopped; other signals wait until it goes on.
    let runs = process.signals.group_state() == GroupState::Running;
    let fatal = default && default_action(signal) == DefaultAction::Terminate && !awaited && runs;
    if signal == libc::SIGKILL || fatal {
        process.begin_exit(signal);
        return;
    }
    taker.signals.kick();
}

/// Offers the process's waiting signals of `signals` to threads other than `not`.
fn offer_to_others(not: &Task, signals: SignalSet) {
    let waiting = not.process.signals.pending().and(signals);
    if waiting.is_empty() {
        return;
    }
    let takers: Vec<_> = not.process.with_threads(|threads| {
        threads
            .iter()
            .filter(|task| !std::ptr::eq(&***task, not) && !waiting.minus(task.signals.mask()).is_empty())
            .cloned()
            .collect()
    });
    for task in takers {
        task.signals.kick();
    }
}
