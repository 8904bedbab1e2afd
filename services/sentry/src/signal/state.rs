//! The signal state of a thread ([`TaskSignals`]) and of a process ([`ProcessSignals`]).
//!
//! Invariants:
//! - `attention` of a thread is set whenever [`deliver`](super::deliver) has something to do for it: a signal that it would take
//!   now, a stop, an exit. Who changes the state sets it afterwards; who clears it looks at the state afterwards. So it may be set for nothing, never missing.
//! - Locks here are leaves: none is held while another of them, or anything outside this module, is taken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::Waker,
};

use parking_lot::Mutex;

use super::{actions::SignalActions, info::SignalInfo, pending::PendingQueue, restart::RestartBlock, set::SignalSet};
use crate::{
    executor::{Readiness, WaitQueue},
    platform::{Fault, Interrupter},
};

/// sigaltstack(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AlternateStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes; 0 when there is none.
    pub size: u64,
    /// SS_AUTODISARM.
    pub autodisarm: bool,
}

impl AlternateStack {
    /// Whether the stack pointer is within it.
    pub fn contains(&self, stack_pointer: u64) -> bool {
        stack_pointer > self.base && stack_pointer - self.base <= self.size
    }
}

pub(super) struct TaskState {
    pub mask: SignalSet,
    /// The mask to go back to after the current call's signals were delivered (sigsuspend, ppoll).
    pub saved_mask: Option<SignalSet>,
    /// What sigtimedwait waits for; these count as not blocked when a thread is chosen.
    pub awaited: SignalSet,
    pub pending: PendingQueue,
    pub alternate_stack: AlternateStack,
    pub restart: Option<RestartBlock>,
    /// A signal that is taken before all others, whatever the mask says (a fault).
    pub forced: Option<SignalInfo>,
    /// The last fault, for the frame's trapno, err and cr2.
    pub fault: Fault,
    pub waker: Option<Waker>,
    pub interrupter: Option<Interrupter>,
}

/// A thread's part: mask, its own queue, alternate stack. Held as `Task.signals`.
pub struct TaskSignals {
    attention: AtomicBool,
    /// Guest code runs (or is about to).
    running: AtomicBool,
    /// The thread is to end, its process not (execve by a sibling).
    ending: AtomicBool,
    /// User time of contexts that this thread had before (execve makes a new one).
    earlier_user_time: AtomicU64,
    pub(super) state: Mutex<TaskState>,
}

impl Default for TaskSignals {
    fn default() -> Self {
        TaskSignals::new(SignalSet::EMPTY)
    }
}

impl TaskSignals {
    /// A thread that blocks `mask`; no signal waits, no alternate stack.
    pub fn new(mask: SignalSet) -> TaskSignals {
        TaskSignals {
            attention: AtomicBool::new(false),
            running: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            earlier_user_time: AtomicU64::new(0),
            state: Mutex::new(TaskState {
                mask: mask.as_mask(),
                saved_mask: None,
                awaited: SignalSet::EMPTY,
                pending: PendingQueue::new(),
                alternate_stack: AlternateStack::default(),
                restart: None,
                forced: None,
                fault: Fault::default(),
                waker: None,
                interrupter: None,
            }),
        }
    }

    /// For clone(2): the new thread has this one's mask, and its alternate stack unless they share memory (`share_memory` is
    /// CLONE_VM without CLONE_VFORK).
    pub fn fork(&self, share_memory: bool) -> TaskSignals {
        let state = self.state.lock();
        let child = TaskSignals::new(state.saved_mask.unwrap_or(state.mask));
        if !share_memory {
            child.state.lock().alternate_stack = state.alternate_stack;
        }
        child
    }

    /// For execve: no alternate stack, no restart; mask and queue stay.
    pub fn reset_for_exec(&self) {
        let mut state = self.state.lock();
        state.alternate_stack = AlternateStack::default();
        state.restart = None;
    }

    /// To be called by the thread when it has a (new) context, so that others can stop it and read its CPU time.
    pub fn attach(&self, interrupter: Interrupter) {
        let mut state = self.state.lock();
        if let Some(old) = state.interrupter.replace(interrupter) {
            self.earlier_user_time.fetch_add(old.cpu_time(), SeqCst);
        }
    }

    /// Has the thread run on these CPUs only, as a bit mask over the guest's CPUs.
    pub fn set_affinity(&self, cpus: u64) {
        let interrupter = self.state.lock().interrupter.clone();
        if let Some(interrupter) = interrupter {
            interrupter.set_affinity(cpus);
        }
    }

    /// CPU time that the thread's guest code has used, in nanoseconds.
    pub fn user_time(&self) -> u64 {
        let state = self.state.lock();
        let now = state.interrupter.as_ref().map_or(0, Interrupter::cpu_time);
        self.earlier_user_time.load(SeqCst).saturating_add(now)
    }

    /// Before `resume`: false when [`deliver`](super::deliver) has to be called again first.
    pub fn enter_guest(&self) -> bool {
        // With `kick` this is Dekker's pattern: either we see its flag or it sees ours.
        self.running.store(true, SeqCst);
        if self.attention.load(SeqCst) {
            self.running.store(false, SeqCst);
            return false;
        }
        true
    }

    /// After the guest stopped.
    pub fn leave_guest(&self) {
        self.running.store(false, SeqCst);
    }

    /// Whether `deliver` has something to do.
    pub fn attention(&self) -> bool {
        self.attention.load(SeqCst)
    }
    pub(super) fn set_attention(&self, on: bool) {
        self.attention.store(on, SeqCst);
    }

    /// Makes the thread look: it leaves guest code, or its wait, and `deliver` is called.
    pub fn kick(&self) {
        self.attention.store(true, SeqCst);
        self.wake();
    }

    /// Stops the thread's guest code if that runs, else polls its future again.
    pub(super) fn wake(&self) {
        let (waker, interrupter) = {
            let state = self.state.lock();
            if self.running.load(SeqCst) { (None, state.interrupter.clone()) } else { (state.waker.clone(), None) }
        };
        if let Some(interrupter) = interrupter {
            interrupter.interrupt();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes whom to wake when something happens; to be called before the state is looked at for the last time.
    pub fn set_waker(&self, waker: &Waker) {
        let mut state = self.state.lock();
        match &mut state.waker {
            Some(known) if known.will_wake(waker) => {}
            known => *known = Some(waker.clone()),
        }
    }

    /// Ends this thread alone: `deliver` will say [`Disposition::ExitThread`](super::Disposition::ExitThread).
    pub fn end_thread(&self) {
        self.ending.store(true, SeqCst);
        self.kick();
    }

    /// Whether `end_thread` was called.
    pub fn is_ending(&self) -> bool {
        self.ending.load(SeqCst)
    }

    /// The mask.
    pub fn mask(&self) -> SignalSet {
        self.state.lock().mask
    }
    /// Signals sent to this thread alone that wait.
    pub fn pending(&self) -> SignalSet {
        self.state.lock().pending.set()
    }
    /// How many wait in this thread's queue.
    pub fn pending_count(&self) -> usize {
        self.state.lock().pending.count()
    }
    /// sigaltstack(2).
    pub fn alternate_stack(&self) -> AlternateStack {
        self.state.lock().alternate_stack
    }
    /// sigaltstack(2).
    pub fn set_alternate_stack(&self, stack: AlternateStack) {
        self.state.lock().alternate_stack = stack;
    }
    /// What restart_syscall(2) is to carry on with.
    pub fn set_restart(&self, block: RestartBlock) {
        self.state.lock().restart = Some(block);
    }
    /// Takes it.
    pub fn take_restart(&self) -> Option<RestartBlock> {
        self.state.lock().restart.take()
    }
    pub(super) fn blocks_or_awaits(&self, signal: i32) -> bool {
        let state = self.state.lock();
        state.mask.contains(signal)
            || state.awaited.contains(signal)
            || state.saved_mask.is_some_and(|mask| mask.contains(signal))
    }
}

/// Whether a process runs, stops or ends as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupState {
    /// Runs.
    Running,
    /// A stopping signal was taken: its threads stop one by one.
    Stopping(i32),
    /// All of its threads stopped by this signal.
    Stopped(i32),
    /// It ends with this wait status.
    Exiting(i32),
}

pub(super) struct ProcessState {
    pub group: GroupState,
    /// Counts stops, so that a thread knows whether it was counted in this one.
    pub stops: u64,
    /// Threads that have stopped in this one.
    pub stopped_threads: usize,
    /// A stop that wait(2) has not told of.
    pub stop_report: Option<i32>,
    /// A continuation that wait(2) has not told of.
    pub continue_report: bool,
}

/// A process's part: actions, shared queue, stop and exit of the whole group. Held as `Process.signals`.
pub struct ProcessSignals {
    actions: Mutex<Arc<SignalActions>>,
    pub(super) pending: Mutex<PendingQueue>,
    pub(super) state: Mutex<ProcessState>,
    /// Woken when a signal arrives (signalfd). A process and its descendants share it, as they do with the files that wait on it.
    pub(crate) arrival: Arc<WaitQueue>,
    /// pid 1: signals whose action is the default do nothing to it.
    pub(super) protected: bool,
}

impl ProcessSignals {
    /// With these actions; `protected` for pid 1.
    pub fn new(actions: Arc<SignalActions>, protected: bool) -> ProcessSignals {
        ProcessSignals {
            actions: Mutex::new(actions),
            pending: Mutex::new(PendingQueue::new()),
            state: Mutex::new(ProcessState {
                group: GroupState::Running,
                stops: 0,
                stopped_threads: 0,
                stop_report: None,
                continue_report: false,
            }),
            arrival: Arc::new(WaitQueue::new()),
            protected,
        }
    }

    /// For fork: a copy of the actions, or the same (CLONE_SIGHAND); nothing waits.
    pub fn fork(&self, share_actions: bool) -> ProcessSignals {
        let actions = self.actions();
        let actions = if share_actions { actions } else { Arc::new(actions.fork()) };
        ProcessSignals { arrival: self.arrival.clone(), ..ProcessSignals::new(actions, false) }
    }

    /// For execve: handled signals go back to the default, the table is this process's own.
    pub fn reset_for_exec(&self) {
        let mut actions = self.actions.lock();
        *actions = Arc::new(actions.for_exec());
    }

    /// The table.
    pub fn actions(&self) -> Arc<SignalActions> {
        self.actions.lock().clone()
    }
    /// Signals sent to the process that wait.
    pub fn pending(&self) -> SignalSet {
        self.pending.lock().set()
    }
    /// How many wait in the shared queue.
    pub fn pending_count(&self) -> usize {
        self.pending.lock().count()
    }
    /// Whether it runs, stops or ends.
    pub fn group_state(&self) -> GroupState {
        self.state.lock().group
    }
    /// The wait status it ends with, once that is settled.
    pub fn exit_status(&self) -> Option<i32> {
        match self.state.lock().group {
            GroupState::Exiting(status) => Some(status),
            _ => None,
        }
    }
    /// For wait(2) with WUNTRACED: the signal that stopped it, once per stop (`consume` unless WNOWAIT).
    pub fn stop_report(&self, consume: bool) -> Option<i32> {
        let mut state = self.state.lock();
        if consume { state.stop_report.take() } else { state.stop_report }
    }
    /// For wait(2) with WCONTINUED: whether it went on, once per continuation (`consume` unless WNOWAIT).
    pub fn continue_report(&self, consume: bool) -> bool {
        let mut state = self.state.lock();
        let report = state.continue_report;
        if consume {
            state.continue_report = false;
        }
        report
    }
    pub(super) fn wake_arrival(&self) {
        self.arrival.wake(Readiness::IN);
    }
}
