//! Shared memory files, seen as atomic words only: another process may write to one at any time, so that there is never a
//! reference to plain memory in it, and what is in it is copied word by word.

use crate::Errno;
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use std::{
    ffi::CStr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

/// What was being done, and why it failed.
pub(crate) type Failure = (&'static str, Errno);

/// What a mapping may be used for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Stores through it would fault.
    Read,
    ReadWrite,
}

/// A memory file of `bytes` bytes, whose size can no longer change.
pub(crate) fn create(name: &CStr, bytes: usize) -> Result<OwnedFd, Failure> {
    let file = unsealed(name, bytes)?;
    seal(&file, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL)?;
    Ok(file)
}

/// The same, and only the mapping that is returned can ever write to it: whoever else gets the file can read it. Hosts before
/// 5.1 cannot promise that (EINVAL).
pub(crate) fn create_published(name: &CStr, bytes: usize) -> Result<(OwnedFd, Memory), Failure> {
    let file = unsealed(name, bytes)?;
    seal(&file, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)?;
    let memory = Memory::map(file.as_fd(), bytes, Access::ReadWrite)?;
    seal(&file, SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL))?;
    Ok((file, memory))
}

fn size(file: BorrowedFd<'_>) -> Result<i64, Errno> {
    // SAFETY: stat is plain data.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // The C library would ask by an (empty) path, which no policy allows; on this architecture the kernel's structure is the library's.
    // SAFETY: our buffer, and a file that is open.
    match unsafe { libc::syscall(libc::SYS_fstat, file.as_raw_fd(), &raw mut stat) } {
        0 => Ok(stat.st_size),
        _ => Err(Errno::last()),
    }
}

fn unsealed(name: &CStr, bytes: usize) -> Result<OwnedFd, Failure> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(name, flags).map_err(|e| ("make shared memory", e.into()))?;
    nix::unistd::ftruncate(&file, bytes as i64).map_err(|e| ("size shared memory", e.into()))?;
    Ok(file)
}

fn seal(file: &OwnedFd, seals: SealFlag) -> Result<(), Failure> {
    fcntl(file, FcntlArg::F_ADD_SEALS(seals)).map(drop).map_err(|e| ("seal shared memory", e.into()))
}

/// A mapping of a shared memory file.
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
    pub(crate) fn map(file: BorrowedFd<'_>, bytes: usize, access: Access) -> Result<Memory, Failure> {
        const DOING: &str = "map shared memory";
        let seals = fcntl(file, FcntlArg::F_GET_SEALS).map_err(|e| (DOING, e.into()))?;
        if seals & libc::F_SEAL_SHRINK == 0 || size(file).map_err(|e| (DOING, e))? != bytes as i64 {
            return Err((DOING, Errno::EINVAL));
        }
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: a new mapping at an address of the host's choice; the arguments are constants and an open fd.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        match NonNull::new(address.cast::<u8>()) {
            Some(base) if address != libc::MAP_FAILED => Ok(Memory { base, bytes }),
            _ => Err((DOING, Errno::last())),
        }
    }

    /// All of it as 32-bit words.
    pub(crate) fn words32(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is page aligned, so long, and lives as long as `self`; all access is atomic, and nobody stores to
        // what is mapped for reading.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast::<AtomicU32>(), self.bytes / 4) }
    }

    /// All of it as 64-bit words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast::<AtomicU64>(), self.bytes / 8) }
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
