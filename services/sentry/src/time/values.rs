//! Time values as they lie in guest memory.

use bulkhead_ipc::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{abi::UserAddress, memory::AddressSpace};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// struct timespec.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RawTimespec {
    pub seconds: i64,
    pub nanoseconds: i64,
}

/// struct timeval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RawTimeval {
    pub seconds: i64,
    pub microseconds: i64,
}

/// struct itimerspec.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RawItimerSpec {
    pub interval: RawTimespec,
    pub value: RawTimespec,
}

/// struct itimerval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RawItimerVal {
    pub interval: RawTimeval,
    pub value: RawTimeval,
}

/// Seconds and a part of one; EINVAL when they are no time.
fn checked(seconds: i64, part: i64, parts: i64) -> Result<u64, Errno> {
    if !(0..parts).contains(&part) {
        return Err(Errno::EINVAL);
    }
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let nanoseconds = part as u64 * (SECOND / parts as u64);
    // Linux's ktime_t ends at i64::MAX.
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanoseconds).min(i64::MAX as u64))
}

impl RawTimespec {
    /// From nanoseconds.
    pub fn new(nanoseconds: u64) -> RawTimespec {
        RawTimespec { seconds: (nanoseconds / SECOND) as i64, nanoseconds: (nanoseconds % SECOND) as i64 }
    }
    /// In nanoseconds; EINVAL when it is negative or not normal.
    pub fn checked(&self) -> Result<u64, Errno> {
        checked(self.seconds, self.nanoseconds, 1_000_000_000)
    }
}

impl RawTimeval {
    /// From nanoseconds; what is less than a microsecond is cut off.
    pub fn new(nanoseconds: u64) -> RawTimeval {
        RawTimeval { seconds: (nanoseconds / SECOND) as i64, microseconds: (nanoseconds % SECOND / 1000) as i64 }
    }
    /// In nanoseconds; EINVAL when it is negative or not normal.
    pub fn checked(&self) -> Result<u64, Errno> {
        checked(self.seconds, self.microseconds, 1_000_000)
    }
}

/// Reads a struct timespec.
pub fn read_timespec(memory: &AddressSpace, address: UserAddress) -> Result<u64, Errno> {
    memory.read_value::<RawTimespec>(address)?.checked()
}

/// Reads a struct timeval.
pub fn read_timeval(memory: &AddressSpace, address: UserAddress) -> Result<u64, Errno> {
    memory.read_value::<RawTimeval>(address)?.checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_none_are_refused_and_those_too_long_saturate() {
        let time = |seconds, nanoseconds| RawTimespec { seconds, nanoseconds }.checked();
        assert_eq!(time(1, 5), Ok(SECOND + 5));
        assert_eq!(time(-1, 0), Err(Errno::EINVAL));
        assert_eq!(time(0, 1_000_000_000), Err(Errno::EINVAL));
        assert_eq!(time(0, -1), Err(Errno::EINVAL));
        assert_eq!(time(i64::MAX, 0), Ok(i64::MAX as u64));
        assert_eq!(RawTimeval { seconds: 2, microseconds: 3 }.checked(), Ok(2 * SECOND + 3000));
        assert_eq!(RawTimeval::new(1_999_999_999), RawTimeval { seconds: 1, microseconds: 999_999 });
    }
}
