//! Typed arguments: raw registers do not reach a handler's logic.

use bulkhead_ipc::Errno;

/// An address in the guest. Nothing is known about it: every access through it can fail with `EFAULT`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UserAddress(pub u64);

impl UserAddress {
    /// NULL.
    pub const NULL: UserAddress = UserAddress(0);

    /// Whether it is NULL.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// `self + bytes`, saturating: what saturates is beyond the guest's addresses and faults.
    pub const fn offset(self, bytes: u64) -> UserAddress {
        UserAddress(self.0.saturating_add(bytes))
    }
}

impl std::fmt::Debug for UserAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A file descriptor number as the guest gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FdNumber(pub i32);

impl FdNumber {
    /// AT_FDCWD.
    pub const WORKING_DIRECTORY: FdNumber = FdNumber(libc::AT_FDCWD);
}

/// What a system call returns.
pub type SysResult = Result<u64, Errno>;

/// The six argument registers of a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arguments(pub [u64; 6]);

impl Arguments {
    /// Argument `i` as it is.
    pub const fn raw(&self, i: usize) -> u64 {
        self.0[i]
    }
    /// As C `int`: the upper half is ignored, as Linux does.
    pub const fn int(&self, i: usize) -> i32 {
        self.0[i] as i32
    }
    /// As C `unsigned int`.
    pub const fn uint(&self, i: usize) -> u32 {
        self.0[i] as u32
    }
    /// As `long`.
    pub const fn long(&self, i: usize) -> i64 {
        self.0[i] as i64
    }
    /// As `size_t`.
    pub const fn size(&self, i: usize) -> usize {
        self.0[i] as usize
    }
    /// As a file descriptor.
    pub const fn fd(&self, i: usize) -> FdNumber {
        FdNumber(self.0[i] as i32)
    }
    /// As a pointer.
    pub const fn address(&self, i: usize) -> UserAddress {
        UserAddress(self.0[i])
    }
}

/// The host's page size, which is the guest's.
pub const PAGE_SIZE: u64 = 4096;

/// Rounds up to a page; `None` on overflow.
pub const fn page_up(bytes: u64) -> Option<u64> {
    match bytes.checked_add(PAGE_SIZE - 1) {
        Some(sum) => Some(sum & !(PAGE_SIZE - 1)),
        None => None,
    }
}

/// Rounds down to a page.
pub const fn page_down(bytes: u64) -> u64 {
    bytes & !(PAGE_SIZE - 1)
}
