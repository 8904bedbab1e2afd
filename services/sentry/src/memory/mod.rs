//! Guest memory: address spaces over one memory file.

use std::{os::fd::OwnedFd, sync::Arc};

use bulkhead_ipc::Errno;

use crate::{
    abi::UserAddress,
    platform::{Fault, Platform, Protection, Space},
};

/// The sandbox's one memfd, mapped whole into the sentry.
pub struct MemoryFile {}

impl MemoryFile {
    /// Makes it; at most `limit` bytes are handed out.
    pub fn new(limit: u64) -> Result<Arc<MemoryFile>, Errno> {
        let _ = limit;
        todo!()
    }
    /// Bytes in use (for /proc/meminfo).
    pub fn used(&self) -> u64 {
        todo!()
    }
    /// Bytes at most.
    pub fn limit(&self) -> u64 {
        todo!()
    }
}

/// A file that can be mapped: a donated fd (of the gofer's, of a memory-backed file of vfs, or of memfd_create).
#[derive(Clone)]
pub struct MappableFile {
    /// Host fd; read access at least.
    pub fd: Arc<OwnedFd>,
    /// Whether the fd allows writing (MAP_SHARED with PROT_WRITE).
    pub writable: bool,
    /// For /proc/self/maps.
    pub device: u64,
    /// For /proc/self/maps.
    pub inode: u64,
    /// Called for the path in /proc/self/maps.
    pub name: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
}

/// One line of /proc/self/maps.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct MapLine {
    pub start: u64,
    pub end: u64,
    pub protection: Protection,
    pub shared: bool,
    pub offset: u64,
    pub device: u64,
    pub inode: u64,
    pub name: Vec<u8>,
    /// Bytes present.
    pub resident: u64,
}

/// Sizes for /proc/self/stat, status and statm, in bytes.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct MemoryUsage {
    pub virtual_size: u64,
    pub resident: u64,
    pub peak_virtual: u64,
    pub peak_resident: u64,
    pub data: u64,
    pub stack: u64,
    pub text: u64,
    pub shared: u64,
}

/// What the loader noted of the program (prctl PR_SET_MM's fields; /proc/self/stat, cmdline, environ, auxv).
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct ProgramLayout {
    pub code_start: u64,
    pub code_end: u64,
    pub data_start: u64,
    pub data_end: u64,
    pub brk_start: u64,
    pub stack_start: u64,
    pub arguments: (u64, u64),
    pub environment: (u64, u64),
    pub auxiliary: Vec<(u64, u64)>,
}

/// A guest address space.
pub struct AddressSpace {}

impl AddressSpace {
    /// Empty, on a fresh platform space.
    pub fn new(platform: &Arc<Platform>, memory: &Arc<MemoryFile>) -> Result<Arc<AddressSpace>, Errno> {
        let _ = (platform, memory);
        todo!()
    }
    /// A copy (fork(2)): private pages are shared until written.
    pub fn fork(&self) -> Result<Arc<AddressSpace>, Errno> {
        todo!()
    }
    /// The platform's side.
    pub fn space(&self) -> &Arc<Space> {
        todo!()
    }

    /// Copies in; EFAULT when any byte cannot be read.
    pub fn read(&self, address: UserAddress, into: &mut [u8]) -> Result<(), Errno> {
        let _ = (address, into);
        todo!()
    }
    /// Copies in as many bytes as can be read before the first fault; 0 is EFAULT unless `into` is empty.
    pub fn read_some(&self, address: UserAddress, into: &mut [u8]) -> Result<usize, Errno> {
        let _ = (address, into);
        todo!()
    }
    /// Copies out; EFAULT when any byte cannot be written (some may have been).
    pub fn write(&self, address: UserAddress, from: &[u8]) -> Result<(), Errno> {
        let _ = (address, from);
        todo!()
    }
    /// Copies out as much as can be written before the first fault.
    pub fn write_some(&self, address: UserAddress, from: &[u8]) -> Result<usize, Errno> {
        let _ = (address, from);
        todo!()
    }
    /// Writes through missing write permission (ptrace, core of exec set-up).
    pub fn write_forced(&self, address: UserAddress, from: &[u8]) -> Result<(), Errno> {
        let _ = (address, from);
        todo!()
    }
    /// Fills with zeros.
    pub fn zero(&self, address: UserAddress, length: u64) -> Result<(), Errno> {
        let _ = (address, length);
        todo!()
    }
    /// A NUL-terminated string, without the NUL; ENAMETOOLONG beyond `max` bytes.
    pub fn read_string(&self, address: UserAddress, max: usize) -> Result<Vec<u8>, Errno> {
        let _ = (address, max);
        todo!()
    }
    /// A value.
    pub fn read_value<T: zerocopy::FromBytes + zerocopy::IntoBytes>(&self, address: UserAddress) -> Result<T, Errno> {
        let _ = address;
        todo!()
    }
    /// A value.
    pub fn write_value<T: zerocopy::IntoBytes + zerocopy::Immutable>(
        &self,
        address: UserAddress,
        value: &T,
    ) -> Result<(), Errno> {
        let _ = (address, value);
        todo!()
    }

    /// Host iovecs of the sentry's own mapping of this guest range, for host calls that read into (`write` = true) or write
    /// from guest memory directly; stops at the first page that cannot be accessed (EFAULT if that is the first).
    /// They stay valid while `f` runs.
    pub fn with_host_iovecs<T>(
        &self,
        address: UserAddress,
        length: usize,
        write: bool,
        f: impl FnOnce(&mut [libc::iovec]) -> T,
    ) -> Result<T, Errno> {
        let _ = (address, length, write, f);
        todo!()
    }

    /// Loads an aligned u32 atomically (EINVAL unaligned).
    pub fn load_u32(&self, address: UserAddress) -> Result<u32, Errno> {
        let _ = address;
        todo!()
    }
    /// Compares and swaps; the old value.
    pub fn compare_exchange_u32(&self, address: UserAddress, old: u32, new: u32) -> Result<u32, Errno> {
        let _ = (address, old, new);
        todo!()
    }
    /// What identifies a futex word: for a shared one, the memory object and offset behind it.
    pub fn futex_key(&self, address: UserAddress, private: bool) -> Result<FutexKey, Errno> {
        let _ = (address, private);
        todo!()
    }

    /// Resolves a page fault of the guest, or says which signal it gets: (signal, si_code).
    pub fn handle_fault(&self, fault: &Fault, stack_pointer: u64) -> Result<(), (i32, i32)> {
        let _ = (fault, stack_pointer);
        todo!()
    }

    /// Lines of /proc/self/maps.
    pub fn maps(&self) -> Vec<MapLine> {
        todo!()
    }
    /// Sizes.
    pub fn usage(&self) -> MemoryUsage {
        todo!()
    }
    /// What the loader noted.
    pub fn layout(&self) -> ProgramLayout {
        todo!()
    }
    /// Changes what the loader noted.
    pub fn set_layout(&self, layout: ProgramLayout) {
        let _ = layout;
        todo!()
    }
}

/// Identity of a futex word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FutexKey {
    /// In one address space (its number) at this address.
    Private(u64, u64),
    /// In a memory object (its number) at this offset.
    Shared(u64, u64),
}
