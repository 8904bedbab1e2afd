//! Capabilities: all sets, for good.

use super::ConfineError;
use crate::Errno;

/// A capability that a service may keep, by its number in capabilities(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Capability {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    Fowner = 3,
    Fsetid = 4,
    Kill = 5,
    Setgid = 6,
    Setuid = 7,
    NetBindService = 10,
    NetAdmin = 12,
    NetRaw = 13,
    SysPtrace = 19,
    Mknod = 27,
    Setfcap = 31,
}

/// Bits of the securebits: uid 0 means nothing, capabilities do not change with uids, the ambient set stays empty; each with
/// its lock (linux/securebits.h).
const SECURE_BITS: libc::c_ulong = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3.
const VERSION: u32 = 0x2008_0522;

/// Drops everything but `kept` from the effective and permitted sets and the bounding set, and empties the others.
pub(super) fn keep_only(kept: &[Capability]) -> Result<(), ConfineError> {
    let kept = kept.iter().fold(0u64, |set, &capability| set | 1 << capability as u8);
    for number in 0..64 {
        if kept & 1 << number != 0 {
            continue;
        }
        // SAFETY: prctl with integers only.
        match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) } {
            0 => {}
            // Beyond the last one that the host knows.
            _ if Errno::last() == Errno::EINVAL => break,
            _ => return Err(ConfineError::Host("drop a capability from the bounding set", Errno::last())),
        }
    }
    // SAFETY: prctl with integers only.
    if unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECURE_BITS, 0, 0, 0) } != 0 {
        return Err(ConfineError::Host("lock the secure bits", Errno::last()));
    }
    // SAFETY: prctl with integers only.
    if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0) } != 0 {
        return Err(ConfineError::Host("clear the ambient capabilities", Errno::last()));
    }
    let header = Header { version: VERSION, pid: 0 };
    let sets = [kept as u32, (kept >> 32) as u32].map(|half| Sets { effective: half, permitted: half, inheritable: 0 });
    // SAFETY: capset(2) reads one header and, for this version, two structs of sets.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) } != 0 {
        return Err(ConfineError::Host("set the capabilities", Errno::last()));
    }
    Ok(())
}
