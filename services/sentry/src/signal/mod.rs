//! Signals: sets, queues, actions, sending, delivery, stops (signal(7)).
//!
//! A signal is *sent* ([`send`]) into the queue of a thread or of a process, which sets the thread's attention flag and wakes it;
//! the thread's own main loop *delivers* it ([`deliver`]) before it resumes the guest: it runs a handler ([`frame`]), stops,
//! ends the process, or ignores it. Nothing else changes a guest's registers on behalf of a signal.
//!
//! The main loop's protocol:
//! ```text
//! loop {
//!     match signal::deliver(thread) {
//!         Resume => {}
//!         Stop => { signal::stopped(thread).await; continue }
//!         Exit(status) => end this thread; its process ends with this wait status (process.begin_exit was called)
//!         ExitThread => end this thread only
//!     }
//!     if !thread.signals.enter_guest() { continue }
//!     thread.context.resume(..); let event = poll_event(..).await;
//!     thread.signals.leave_guest();
//!     match event {
//!         Syscall => { thread.call = Some(registers.rax); result = dispatch(..).await; registers.rax = result }
//!         Fault => { thread.call = None; signal::raise_fault(thread, &fault, signal, code) }
//!         Interrupted => thread.call = None
//!     }
//! }
//! ```
//! `thread.signals.attach(context.interrupter())` is called whenever the thread has a new context.

pub mod actions;
mod deliver;
mod frame;
mod info;
mod pending;
mod restart;
mod send;
mod set;
mod state;
mod stop;
mod wait;

pub use actions::SignalActions;
pub use deliver::{Disposition, deliver, raise, raise_fault};
pub(crate) use frame::{RawStack, leave_handler};
pub use info::{RawInfo, SignalInfo};
pub use restart::RestartBlock;
pub(crate) use send::{await_signals, discard, discard_timer, recalculate, restore_mask, send_timer, set_mask, take};
pub use send::{pending, queue_to_process, queue_to_task, send_from_outside};
pub use set::{FIRST_REAL_TIME, HIGHEST, SignalSet, checked};
pub use state::{AlternateStack, GroupState, ProcessSignals, TaskSignals};
pub use stop::stopped;
