//! The shared memory file, seen as atomic words only: the other side may write to it at any time, so that there is never a
//! reference to plain memory in it, and a message is copied word by word.

use super::{MAX_MESSAGE, SLOT_WORDS, futex, shared::Shared};
use crate::Errno;
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use std::{
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    time::Duration,
};

/// The header page in front of the slots.
pub(super) const HEADER_BYTES: usize = 4096;

/// A memory file whose size can no longer change.
pub(super) fn create(bytes: usize) -> Result<OwnedFd, (&'static str, Errno)> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(c"bulkhead-ring", flags).map_err(|e| ("make a ring's memory", e.into()))?;
    nix::unistd::ftruncate(&file, bytes as i64).map_err(|e| ("size a ring's memory", e.into()))?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|e| ("seal a ring's memory", e.into()))?;
    Ok(file)
}

/// A mapping of a ring's memory file.
pub struct Memory {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is only ever accessed through atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `bytes` bytes of `file`, which must have that size for ever: otherwise the other side could make our reads fault.
    pub(super) fn map(file: BorrowedFd<'_>, bytes: usize) -> Result<Memory, (&'static str, Errno)> {
        const DOING: &str = "map a ring's memory";
        let seals = fcntl(file, FcntlArg::F_GET_SEALS).map_err(|e| (DOING, e.into()))?;
        let size = nix::sys::stat::fstat(file).map_err(|e| (DOING, Errno::from(e)))?.st_size;
        if seals & libc::F_SEAL_SHRINK == 0 || size != bytes as i64 {
            return Err((DOING, Errno::EINVAL));
        }
        // SAFETY: a new mapping at an address of the host's choice; the arguments are constants and an open fd.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        match NonNull::new(address.cast::<u8>()) {
            Some(base) if address != libc::MAP_FAILED => Ok(Memory { base, bytes }),
            _ => Err((DOING, Errno::last())),
        }
    }

    /// The words of the header page.
    pub(super) fn header(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is page aligned, at least a page long, and lives as long as `self`; all access is atomic.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast::<AtomicU32>(), HEADER_BYTES / 4) }
    }

    /// The words after the header page.
    pub(super) fn body(&self) -> &[AtomicU64] {
        // SAFETY: as above; the body begins a page into the mapping and ends with it.
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().add(HEADER_BYTES).cast::<AtomicU64>(), (self.bytes - HEADER_BYTES) / 8)
        }
    }
}

impl Shared for Memory {
    type Word = AtomicU32;
    type Long = AtomicU64;
    const SLOT_BYTES: usize = MAX_MESSAGE;

    fn word(&self, index: usize) -> &AtomicU32 {
        &self.header()[index]
    }

    fn slot(&self, index: usize) -> &[AtomicU64] {
        &self.body()[index * SLOT_WORDS..(index + 1) * SLOT_WORDS]
    }

    fn sleep(&self, word: usize, expected: u32, timeout: Duration) {
        futex::wait(self.word(word), expected, timeout);
    }

    fn wake(&self, word: usize) {
        futex::wake(self.word(word));
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it is our mapping, and nothing borrows from it any more.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.bytes);
        }
    }
}
