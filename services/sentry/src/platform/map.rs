//! Changes to an address space.

use std::os::fd::RawFd;

bitflags::bitflags! {
    /// Access to pages.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct Protection: u32 {
        /// PROT_READ.
        const READ = 1;
        /// PROT_WRITE.
        const WRITE = 2;
        /// PROT_EXEC.
        const EXECUTE = 4;
    }
}

/// One change to an address space. Addresses and lengths are page-aligned and within [`super::Platform::guest_end`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapOp {
    /// mmap(addr, len, protection, MAP_SHARED | MAP_FIXED, fd, offset); `private` makes it MAP_PRIVATE (files whose fd is
    /// read-only and that are never written through). `populate` fills page tables ahead. `fd` is a number in this process.
    #[allow(missing_docs)]
    Map { address: u64, length: u64, protection: Protection, fd: RawFd, offset: u64, private: bool, populate: bool },
    /// munmap.
    #[allow(missing_docs)]
    Unmap { address: u64, length: u64 },
    /// mprotect. Parts that are not mapped are skipped.
    #[allow(missing_docs)]
    Protect { address: u64, length: u64, protection: Protection },
}
