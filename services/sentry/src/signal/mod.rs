//! Signals: sets, pending queues, actions, delivery.

use bulkhead_ipc::Errno;

use crate::task::{Process, Task};

/// A set of signals: bit n-1 = signal n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// Whether `signal` (1..=64) is in it.
    pub const fn contains(self, signal: i32) -> bool {
        signal >= 1 && signal <= 64 && self.0 & (1 << (signal - 1)) != 0
    }
    /// With `signal`.
    pub const fn with(self, signal: i32) -> SignalSet {
        SignalSet(self.0 | 1 << (signal - 1))
    }
    /// Without `signal`.
    pub const fn without(self, signal: i32) -> SignalSet {
        SignalSet(self.0 & !(1 << (signal - 1)))
    }
}

/// siginfo_t, in the kernel's 128-byte form's used part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SignalInfo {
    /// Signal number.
    pub signal: i32,
    /// si_code.
    pub code: i32,
    /// si_errno.
    pub errno: i32,
    /// The union, as it lies at offset 16 of siginfo_t.
    pub fields: [u64; 4],
}

impl SignalInfo {
    /// As from the kernel itself (SI_KERNEL).
    pub fn kernel(signal: i32) -> SignalInfo {
        SignalInfo { signal, code: 0x80, ..Default::default() }
    }
    /// As from kill(2): SI_USER with the sender.
    pub fn user(signal: i32, pid: i32, uid: u32) -> SignalInfo {
        SignalInfo { signal, code: 0, errno: 0, fields: [pid as u32 as u64 | (uid as u64) << 32, 0, 0, 0] }
    }
    /// A fault at an address.
    pub fn fault(signal: i32, code: i32, address: u64) -> SignalInfo {
        SignalInfo { signal, code, errno: 0, fields: [address, 0, 0, 0] }
    }
}

/// The signal state of a thread.
#[derive(Default)]
pub struct TaskSignals {}

impl TaskSignals {
    /// CPU time that the thread's guest code has used, in nanoseconds.
    pub fn user_time(&self) -> u64 {
        todo!()
    }
    /// Whether the thread is to end alone.
    pub fn is_ending(&self) -> bool {
        todo!()
    }
}

/// The signal state of a process.
#[derive(Default)]
pub struct ProcessSignals {}

impl ProcessSignals {
    /// The wait status it ends with, once that is settled.
    pub fn exit_status(&self) -> Option<i32> {
        todo!()
    }
}

impl Task {
    /// Whether a signal waits that would be delivered now, or the thread is to exit.
    pub fn has_pending_signal(&self) -> bool {
        todo!()
    }
    /// Sends to this thread.
    pub fn send_signal(&self, info: SignalInfo) {
        let _ = info;
        todo!()
    }
    /// Waits for `future`, or for a signal: `Err(ERESTARTSYS)` then (callers map it to the right restart code).
    pub async fn interruptible<T>(&self, future: impl Future<Output = T>) -> Result<T, Errno> {
        let _ = future;
        todo!()
    }
    /// As `interruptible`, with a deadline in executor time (`None` waits for ever): `Ok(None)` when it passed.
    pub async fn interruptible_until<T>(
        &self,
        deadline: Option<u64>,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, Errno> {
        let _ = (deadline, future);
        todo!()
    }
    /// Replaces the signal mask until the current system call has ended and its signals were delivered (ppoll, sigsuspend).
    pub fn set_temporary_mask(&self, mask: SignalSet) {
        let _ = mask;
        todo!()
    }
}

impl Process {
    /// Sends to the process: any thread that does not block it takes it.
    pub fn send_signal(&self, info: SignalInfo) {
        let _ = info;
        todo!()
    }
}
