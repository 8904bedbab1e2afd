//! Delivery: what a thread does with waiting signals before it resumes the guest.

use super::info::SignalInfo;
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

/// Takes signals until the guest can go on, and settles how an interrupted system call does. Called before every resume; cheap
/// when nothing waits.
pub fn deliver(thread: &mut Thread) -> Disposition {
    let _ = thread;
    todo!()
}

/// A CPU exception becomes a signal that cannot be put off: blocked or ignored, it ends the process.
pub fn raise_fault(thread: &mut Thread, fault: &Fault, signal: i32, code: i32) {
    let _ = (thread, fault, signal, code);
    todo!()
}

/// A signal of the kernel's own that cannot be put off (a bad signal frame).
pub fn raise(thread: &mut Thread, info: SignalInfo) {
    let _ = (thread, info);
    todo!()
}
