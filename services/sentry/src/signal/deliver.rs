//! Delivery: what a thread does with waiting signals before it resumes the guest.

use super::{
    actions::{ActionFlags, DEFAULT, DefaultAction, IGNORE, SignalAction, default_action},
    frame,
    info::SignalInfo,
    restart::{self, Restart},
    send,
    set::SignalSet,
    state::GroupState,
};
use crate::{platform::Fault, task::Thread};

/// What the main loop does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Resume the guest with `thread.registers`.
    Resume,
    /// Await [`stopped`](super::stopped), then deliver again.
    Stop,
    /// The process ends with this wait status (wait(2)'s encoding, 0x80 for a core dump); so does this thread.
    Exit(i32),
    /// This thread ends; the process goes on (another of its threads carries out execve).
    ExitThread,
}

/// restart_syscall(2)'s number.
const RESTART_SYSCALL: u64 = 219;
/// Length of the `syscall` instruction, which a restart goes back over.
const SYSCALL_LENGTH: u64 = 2;

/// Takes signals until the guest can go on, and settles how an interrupted system call does. Called before every resume; cheap
/// when nothing waits.
pub async fn deliver(thread: &mut Thread) -> Disposition {
    while thread.signals.attention() {
        // What comes from here on sets it again.
        thread.signals.set_attention(false);
        if let Some(disposition) = take_signals(thread).await {
            thread.signals.set_attention(true);
            return disposition;
        }
        // No handler (any more): the mask of before the call holds again, which may make more signals deliverable.
        send::restore_mask(&thread.task);
    }
    settle_restart(thread, None);
    Disposition::Resume
}

/// Takes signals until none waits, or the thread is to do something else than to go on.
async fn take_signals(thread: &mut Thread) -> Option<Disposition> {
    loop {
        if thread.signals.is_ending() {
            return Some(Disposition::ExitThread);
        }
        match thread.process.signals.group_state() {
            GroupState::Running => {}
            GroupState::Stopping(_) | GroupState::Stopped(_) => return Some(Disposition::Stop),
            GroupState::Exiting(status) => return Some(Disposition::Exit(status)),
        }
        let forced = thread.signals.state.lock().forced.take();
        let (info, is_forced) = match forced {
            Some(info) => (info, true),
            None => {
                let mask = thread.signals.mask();
                (send::take(&thread.task, SignalSet(!mask.0))?, false)
            }
        };
        act(thread, &info, is_forced).await;
    }
}

/// Does what the process's action for the signal is.
async fn act(thread: &mut Thread, info: &SignalInfo, forced: bool) {
    let signal = info.signal;
    let actions = thread.process.signals.actions();
    let action = actions.get(signal);
    if thread.kernel.tracer.is_on() && action.handler != IGNORE {
        thread.kernel.tracer.signalled(thread, info);
    }
    match action.handler {
        IGNORE => {}
        DEFAULT => act_by_default(thread, signal, forced),
        _ => {
            if action.flags.contains(ActionFlags::RESETHAND) {
                actions.set(signal, SignalAction { handler: DEFAULT, ..action });
            }
            // The frame holds it; nothing else does need it.
            thread.context.save().await;
            handle(thread, info, &action);
        }
    }
}

fn act_by_default(thread: &Thread, signal: i32, forced: bool) {
    let process = &thread.process;
    if process.signals.protected && !forced && !SignalSet::UNBLOCKABLE.contains(signal) {
        return;
    }
    match default_action(signal) {
        DefaultAction::Ignore | DefaultAction::Continue => {}
        DefaultAction::Stop => {
            // The kernel stops nobody whom no shell could continue.
            let orphaned = || {
                let pids = &thread.kernel.pids;
                pids.relations(process.pid).is_some_and(|relations| pids.is_orphaned(relations.group))
            };
            if signal == libc::SIGSTOP || !orphaned() {
                process.begin_stop(signal);
            }
        }
        DefaultAction::Terminate => {
            process.begin_exit(signal);
        }
        DefaultAction::DumpCore => {
            let core = if thread.limit(libc::RLIMIT_CORE).0 > 0 { 0x80 } else { 0 };
            process.begin_exit(signal | core);
        }
    }
}

/// Makes the thread run the handler.
fn handle(thread: &mut Thread, info: &SignalInfo, action: &SignalAction) {
    let signal = info.signal;
    settle_restart(thread, Some(action.flags.contains(ActionFlags::RESTART)));
    let (mask, to_restore) = {
        let mut state = thread.signals.state.lock();
        (state.mask, state.saved_mask.take().unwrap_or(state.mask))
    };
    if let Err(errno) = frame::enter_handler(thread, info, action, to_restore) {
        tracing::debug!(signal, %errno, "no room for a signal frame");
        thread.signals.state.lock().saved_mask = Some(to_restore);
        if signal == libc::SIGSEGV {
            // Its handler cannot run: the default ends the process.
            thread.process.signals.actions().set(signal, SignalAction::default());
        }
        raise(thread, SignalInfo::kernel(libc::SIGSEGV));
        return;
    }
    let mut mask = mask.union(action.mask);
    if !action.flags.contains(ActionFlags::NODEFER) {
        mask = mask.with(signal);
    }
    send::set_mask(&thread.task, mask);
}

/// Settles how the system call that the guest is in goes on, once. `handler` as in [`restart::decide`].
fn settle_restart(thread: &mut Thread, handler: Option<bool>) {
    let Some(number) = thread.call.take() else { return };
    let registers = &mut thread.registers;
    match restart::decide(registers.rax, handler) {
        Restart::No => return,
        Restart::Interrupt => {
            registers.rax = bulkhead_ipc::Errno::EINTR.to_return();
            return;
        }
        Restart::Again => registers.rax = number,
        Restart::Resume => registers.rax = RESTART_SYSCALL,
    }
    registers.rip = registers.rip.wrapping_sub(SYSCALL_LENGTH);
}

/// A CPU exception becomes a signal that cannot be put off: blocked or ignored, it ends the process.
pub fn raise_fault(thread: &mut Thread, fault: &Fault, signal: i32, code: i32) {
    thread.signals.state.lock().fault = *fault;
    raise(thread, SignalInfo::fault(signal, code, fault.address));
}

/// A signal of the kernel's own that cannot be put off (a bad signal frame).
pub fn raise(thread: &mut Thread, info: SignalInfo) {
    let signal = info.signal;
    let actions = thread.process.signals.actions();
    let action = actions.get(signal);
    let blocked = {
        let mut state = thread.signals.state.lock();
        state.forced = Some(info);
        let blocked = state.mask.contains(signal);
        state.mask = state.mask.without(signal);
        blocked
    };
    if blocked || action.handler == IGNORE {
        actions.set(signal, SignalAction { handler: DEFAULT, ..action });
    }
    thread.signals.set_attention(true);
}
