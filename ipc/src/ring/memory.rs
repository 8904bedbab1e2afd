//! The shared memory file, seen as atomic words only: the other side may write to it at any time, so that there is never a
//! reference to plain memory in it, and a message is copied word by word.

use crate::Errno;
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use std::{
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
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
pub(super) struct Memory {
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

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it is our mapping, and nothing borrows from it any more.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.bytes);
        }
    }
}

/// Writes `message` to the beginning of `slot`, as far as the slot reaches.
pub(super) fn copy_in(message: &[u8], slot: &[AtomicU64]) {
    for (chunk, word) in message.chunks(8).zip(slot) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

/// Replaces what is in `message` by the first `length` bytes of `slot`, or as many as it has.
pub(super) fn copy_out(slot: &[AtomicU64], length: usize, message: &mut Vec<u8>) {
    message.clear();
    let words = &slot[..length.div_ceil(8).min(slot.len())];
    message.reserve(words.len() * 8);
    for word in words {
        message.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    message.truncate(length);
}
