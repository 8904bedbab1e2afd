//! siginfo_t: why a signal was sent, and by whom.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
    /// As from tgkill(2): SI_TKILL with the sender.
    pub fn thread(signal: i32, pid: i32, uid: u32) -> SignalInfo {
        SignalInfo { code: libc::SI_TKILL, ..SignalInfo::user(signal, pid, uid) }
    }
    /// A fault at an address.
    pub fn fault(signal: i32, code: i32, address: u64) -> SignalInfo {
        SignalInfo { signal, code, errno: 0, fields: [address, 0, 0, 0] }
    }
    /// SIGCHLD: `code` is CLD_*, `status` an exit status or a signal number; the times are in clock ticks (USER_HZ).
    pub fn child(code: i32, pid: i32, uid: u32, status: i32, user_ticks: u64, system_ticks: u64) -> SignalInfo {
        SignalInfo {
            signal: libc::SIGCHLD,
            code,
            errno: 0,
            fields: [pid as u32 as u64 | (uid as u64) << 32, status as u32 as u64, user_ticks, system_ticks],
        }
    }
    /// A POSIX timer expired: SI_TIMER with the timer's number and value; the overrun is filled in when it is taken.
    pub fn timer(signal: i32, timer: i32, value: u64) -> SignalInfo {
        SignalInfo { signal, code: libc::SI_TIMER, errno: 0, fields: [timer as u32 as u64, value, 0, 0] }
    }

    /// si_pid, of the codes that have one.
    pub fn pid(&self) -> i32 {
        self.fields[0] as u32 as i32
    }
    /// si_uid, of the codes that have one.
    pub fn uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }
    /// Whether a process sent it, rather than the kernel.
    pub fn from_user(&self) -> bool {
        self.code <= 0
    }

    /// As it lies in guest memory.
    pub fn to_raw(&self) -> RawInfo {
        RawInfo { signal: self.signal, errno: self.errno, code: self.code, pad: 0, fields: self.fields, rest: [0; 10] }
    }
    /// From guest memory.
    pub fn from_raw(raw: &RawInfo) -> SignalInfo {
        SignalInfo { signal: raw.signal, code: raw.code, errno: raw.errno, fields: raw.fields }
    }
}

/// siginfo_t of x86-64.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RawInfo {
    pub signal: i32,
    pub errno: i32,
    pub code: i32,
    pub pad: i32,
    pub fields: [u64; 4],
    pub rest: [u64; 10],
}

const _: () = assert!(size_of::<RawInfo>() == 128);
