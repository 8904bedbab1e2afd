//! Stopping, continuing and ending whole processes.
//!
//! A stopping signal that a thread takes makes its process `Stopping`; every thread then stops as soon as it comes to
//! [`deliver`](super::deliver). When the last one has, the process is `Stopped` and its parent is told. SIGCONT ends it, and so
//! does the process's end.

use std::{future::poll_fn, task::Poll};

use super::state::{GroupState, ProcessState};
use crate::task::{Process, Thread};

/// Waits until the process goes on or ends. The main loop calls it when `deliver` said so, and `deliver` again afterwards.
pub async fn stopped(thread: &mut Thread) {
    let task = thread.task.clone();
    let mut counted = 0;
    poll_fn(|cx| {
        task.signals.set_waker(cx.waker());
        if task.signals.is_ending() || !task.process.count_stopped(&mut counted) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    task.signals.kick();
}

impl Process {
    /// Begins a stop by `signal`, unless the process ends or stops already; every thread is made to look.
    pub fn begin_stop(&self, signal: i32) {
        {
            let mut state = self.signals.state.lock();
            if state.group != GroupState::Running {
                return;
            }
            state.group = GroupState::Stopping(signal);
            state.stops += 1;
            state.stopped_threads = 0;
            state.continue_report = false;
        }
        self.kick_all();
    }

    /// Counts a thread as stopped, once for each stop (`counted` is the last one it was counted in); false when there is no stop.
    /// The last thread tells the parent.
    fn count_stopped(&self, counted: &mut u64) -> bool {
        let threads = self.thread_count();
        let mut state = self.signals.state.lock();
        if !matches!(state.group, GroupState::Stopping(_) | GroupState::Stopped(_)) {
            return false;
        }
        if *counted != state.stops {
            *counted = state.stops;
            state.stopped_threads += 1;
            self.settle_stop(state, threads);
        }
        true
    }

    /// A thread ended, and is no longer among `threads()`: a stop may have waited for just that one.
    pub fn thread_gone_while_stopping(&self) {
        let threads = self.thread_count();
        if threads > 0 {
            self.settle_stop(self.signals.state.lock(), threads);
        }
    }

    fn settle_stop(&self, mut state: parking_lot::MutexGuard<'_, ProcessState>, threads: usize) {
        let GroupState::Stopping(signal) = state.group else { return };
        if state.stopped_threads < threads {
            return;
        }
        state.group = GroupState::Stopped(signal);
        state.stop_report = Some(signal);
        drop(state);
        self.notify_parent(libc::CLD_STOPPED, signal);
    }

    /// Ends a stop (SIGCONT was sent).
    pub(super) fn end_stop(&self) {
        let was_stopped = {
            let mut state = self.signals.state.lock();
            let was_stopped = match state.group {
                GroupState::Running | GroupState::Exiting(_) => return,
                GroupState::Stopping(_) => false,
                GroupState::Stopped(_) => true,
            };
            state.group = GroupState::Running;
            state.stop_report = None;
            state.continue_report = was_stopped;
            was_stopped
        };
        self.kick_all();
        if was_stopped {
            self.notify_parent(libc::CLD_CONTINUED, libc::SIGCONT);
        }
    }

    /// Settles that the whole process ends with this wait status (exit_group, a fatal signal): the first caller's status counts,
    /// and is returned. Every thread is made to look and will be told [`Exit`](super::Disposition::Exit).
    pub fn begin_exit(&self, status: i32) -> i32 {
        {
            let mut state = self.signals.state.lock();
            if let GroupState::Exiting(first) = state.group {
                return first;
            }
            state.group = GroupState::Exiting(status);
            state.stop_report = None;
        }
        self.kick_all();
        status
    }

    /// Makes every thread look.
    fn kick_all(&self) {
        for task in self.threads() {
            task.signals.kick();
        }
    }
}
