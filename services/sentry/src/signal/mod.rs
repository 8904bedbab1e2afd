//! Signals: sets, pending queues, actions, delivery.

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
