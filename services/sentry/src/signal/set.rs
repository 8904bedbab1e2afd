//! Sets of signals, and what the numbers mean.

use bulkhead_ipc::Errno;

/// Signal numbers go from 1 to this.
pub const HIGHEST: i32 = 64;
/// The first real-time signal: from here on each instance is queued.
pub const FIRST_REAL_TIME: i32 = 32;

/// A set of signals: bit n-1 = signal n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: SignalSet = SignalSet(0);
    /// SIGKILL and SIGSTOP, which can be neither blocked nor handled.
    pub const UNBLOCKABLE: SignalSet = SignalSet::EMPTY.with(libc::SIGKILL).with(libc::SIGSTOP);
    /// What stops a process by default.
    pub const STOPPING: SignalSet =
        SignalSet::EMPTY.with(libc::SIGSTOP).with(libc::SIGTSTP).with(libc::SIGTTIN).with(libc::SIGTTOU);
    /// What the CPU raises: taken before others, so that the frame shows the faulting instruction.
    pub const SYNCHRONOUS: SignalSet = SignalSet::EMPTY
        .with(libc::SIGSEGV)
        .with(libc::SIGBUS)
        .with(libc::SIGILL)
        .with(libc::SIGTRAP)
        .with(libc::SIGFPE)
        .with(libc::SIGSYS);

    /// Whether `signal` (1..=64) is in it.
    pub const fn contains(self, signal: i32) -> bool {
        signal >= 1 && signal <= HIGHEST && self.0 & (1 << (signal - 1)) != 0
    }
    /// With `signal`.
    pub const fn with(self, signal: i32) -> SignalSet {
        SignalSet(self.0 | 1 << (signal - 1))
    }
    /// Without `signal`.
    pub const fn without(self, signal: i32) -> SignalSet {
        SignalSet(self.0 & !(1 << (signal - 1)))
    }
    /// Signals in either.
    pub const fn union(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 | other.0)
    }
    /// Signals in this but not in `other`.
    pub const fn minus(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & !other.0)
    }
    /// Signals in both.
    pub const fn and(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & other.0)
    }
    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The lowest number in it.
    pub const fn first(self) -> Option<i32> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros() as i32 + 1) }
    }
    /// As a mask: SIGKILL and SIGSTOP cannot be in one.
    pub const fn as_mask(self) -> SignalSet {
        self.minus(SignalSet::UNBLOCKABLE)
    }
}

/// Checks a signal number from the guest: 1..=64, or `EINVAL`.
pub const fn checked(signal: i32) -> Result<i32, Errno> {
    if signal >= 1 && signal <= HIGHEST { Ok(signal) } else { Err(Errno::EINVAL) }
}
