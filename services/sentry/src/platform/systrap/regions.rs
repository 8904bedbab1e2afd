//! The memory that stubs and the sentry share, as the sentry maps it.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use bulkhead_ipc::Errno;

use super::{code::Code, filter, layout::*};
use crate::platform::PlatformError;

/// A memory file, mapped whole.
struct Mapping {
    fd: OwnedFd,
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping is plain memory that lives as long as this value; all access to it is by atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(name: &std::ffi::CStr, length: u64) -> Result<Mapping, Errno> {
        // SAFETY: the name is a C string; the result is checked.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_NOEXEC_SEAL) };
        if fd < 0 {
            return Err(Errno::last());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain system call on our own fd.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), length as i64) } != 0 {
            return Err(Errno::last());
        }
        // SAFETY: a new mapping at an address of the host's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr() as isize != -1 => Ok(Mapping { fd, start, length: length as usize }),
            _ => Err(Errno::last()),
        }
    }

    /// A structure of atomics at this offset.
    fn at<T>(&self, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= self.length && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: in bounds and aligned (asserted), mapped as long as `self`; `T` is one of the layout's structures, which
        // consist of atomics, for which every bit pattern is valid and which others may change at any time.
        unsafe { &*self.start.as_ptr().add(offset).cast::<T>() }
    }

    /// Gives pages back to the host; they read as zeros from then on.
    fn discard(&self, offset: usize, length: usize) {
        // SAFETY: a range of our own memory file; mapped atomics become zero, which is a valid value.
        unsafe {
            libc::fallocate(
                self.fd.as_raw_fd(),
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                offset as i64,
                length as i64,
            )
        };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping; nobody holds a reference into it any more (they borrow `self`).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// All of it.
pub struct Regions {
    /// Start of the region in every stub.
    pub base: u64,
    code: OwnedFd,
    contexts: Mapping,
    commands: Mapping,
    workers: Mapping,
}

/// The slot that the template's scratch page is taken from.
const SCRATCH_SLOT: usize = SLOTS - 1;
/// Stubs at most; the first place is the template's.
pub const STUBS: usize = 4096;

impl Regions {
    /// Makes them for so many workers, and extended states with these components.
    pub fn new(base: u64, code: &Code, features: u64, workers: usize) -> Result<Regions, PlatformError> {
        let failed = |what| move |errno| PlatformError::Host(what, errno);
        Ok(Regions {
            base,
            code: code_file(base, code, features).map_err(failed("make the stub's code"))?,
            contexts: Mapping::new(c"contexts", SLOTS as u64 * SLOT_SIZE).map_err(failed("make the context slots"))?,
            commands: Mapping::new(c"commands", STUBS as u64 * COMMAND_SIZE).map_err(failed("make the command pages"))?,
            workers: Mapping::new(c"workers", (workers as u64 * WORKER_SIZE).next_multiple_of(4096))
                .map_err(failed("make the workers' pages"))?,
        })
    }

    /// Address of a slot in the stub.
    pub fn slot_address(&self, slot: usize) -> u64 {
        self.base + CONTEXTS + slot as u64 * SLOT_SIZE
    }
    /// Control block of a slot.
    pub fn control(&self, slot: usize) -> &Control {
        self.contexts.at(slot * SLOT_SIZE as usize + CONTROL as usize)
    }
    /// A word of a slot.
    pub fn slot_word<T>(&self, slot: usize, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= SLOT_SIZE as usize);
        self.contexts.at(slot * SLOT_SIZE as usize + offset)
    }
    /// Consecutive words of a slot.
    pub fn slot_words(&self, slot: usize, offset: usize, count: usize) -> &[AtomicU64] {
        assert!(slot < SLOTS && offset + count * 8 <= SLOT_SIZE as usize);
        let first: *const AtomicU64 = self.slot_word(slot, offset);
        // SAFETY: the slot is mapped as long as `self`, the words are within it (asserted), and atomics may have any value.
        unsafe { std::slice::from_raw_parts(first, count) }
    }
    /// Empties a slot whose threads are gone.
    pub fn discard_slot(&self, slot: usize) {
        self.contexts.discard(slot * SLOT_SIZE as usize, SLOT_SIZE as usize);
    }
    /// Where the template finds the pid of a stub it made.
    pub fn scratch(&self) -> &AtomicU32 {
        self.contexts.at(SCRATCH_SLOT * SLOT_SIZE as usize)
    }
    /// Fd of the slots' memory.
    pub fn contexts_fd(&self) -> i32 {
        self.contexts.fd.as_raw_fd()
    }
    /// A stub's command page.
    pub fn command(&self, stub: usize) -> &CommandPage {
        self.commands.at(stub * COMMAND_SIZE as usize)
    }
    /// Fd of the command pages.
    pub fn commands_fd(&self) -> i32 {
        self.commands.fd.as_raw_fd()
    }
    /// Empties the command page of a stub that is gone.
    pub fn discard_command(&self, stub: usize) {
        self.commands.discard(stub * COMMAND_SIZE as usize, COMMAND_SIZE as usize);
    }
    /// A worker's block.
    pub fn worker(&self, worker: usize) -> &WorkerBlock {
        self.workers.at(worker * WORKER_SIZE as usize)
    }
    /// What the template maps: (offset in the region, length, PROT_*, fd, offset in the file).
    pub fn template_mappings(&self) -> [(u64, u64, i32, i32, u64); 4] {
        let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        [
            (0, CODE_SIZE, read | execute, self.code.as_raw_fd(), 0),
            (COMMAND, COMMAND_SIZE, read, self.commands_fd(), 0),
            (SCRATCH, 4096, read | write, self.contexts_fd(), SCRATCH_SLOT as u64 * SLOT_SIZE),
            (WORKERS, self.workers.length as u64, read | write, self.workers.fd.as_raw_fd(), 0),
        ]
    }
}

/// The memory file with code, constants and the strict filter; sealed, so that nobody writes it again.
fn code_file(base: u64, code: &Code, features: u64) -> Result<OwnedFd, Errno> {
    let program = filter::strict(base, code);
    let mut image = vec![0_u8; CODE_SIZE as usize];
    let mut put = |offset: u64, bytes: &[u8]| match image.get_mut(offset as usize..offset as usize + bytes.len()) {
        Some(room) => {
            room.copy_from_slice(bytes);
            Ok(())
        }
        None => Err(Errno::ENOMEM),
    };
    if code.bytes.len() as u64 > CONSTANTS {
        return Err(Errno::ENOMEM);
    }
    put(0, code.bytes)?;
    for errno in 0..CONSTANT_COUNT {
        let constant = if errno == 0 { 1 } else { errno << 32 };
        put(CONSTANTS + errno * 8, &constant.to_ne_bytes())?;
    }
    put(FEATURES, &features.to_ne_bytes())?;
    put(PROGRAM, &(program.len() as u64).to_ne_bytes())?;
    put(PROGRAM + 8, &(base + PROGRAM + 16).to_ne_bytes())?;
    for (index, instruction) in program.iter().enumerate() {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&instruction.code.to_ne_bytes());
        bytes[2] = instruction.jt;
        bytes[3] = instruction.jf;
        bytes[4..].copy_from_slice(&instruction.k.to_ne_bytes());
        put(PROGRAM + 16 + index as u64 * 8, &bytes)?;
    }
    // SAFETY: plain system calls on a descriptor of our own; results are checked.
    unsafe {
        let fd = libc::memfd_create(c"stub".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_EXEC);
        if fd < 0 {
            return Err(Errno::last());
        }
        let fd = OwnedFd::from_raw_fd(fd);
        if libc::pwrite(fd.as_raw_fd(), image.as_ptr().cast(), image.len(), 0) != image.len() as isize {
            return Err(Errno::last());
        }
        let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
        if libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) != 0 {
            return Err(Errno::last());
        }
        Ok(fd)
    }
}
