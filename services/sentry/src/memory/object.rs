//! Host files that guests map.

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
};

use bulkhead_ipc::Errno;

use super::guarded;
use crate::abi::{PAGE_SIZE, page_down, page_up};

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

/// A mapped file, shared by the areas that one mmap(2) led to.
pub(super) struct FileObject {
    pub file: MappableFile,
    /// The host's identity of the file, so that futex words in it are the same however it was opened.
    pub identity: u64,
}

impl FileObject {
    pub fn new(file: MappableFile) -> Result<Arc<FileObject>, Errno> {
        let stat = host_stat(file.fd.as_raw_fd())?;
        let identity = stat.st_dev.rotate_left(40) ^ stat.st_ino;
        Ok(Arc::new(FileObject { file, identity }))
    }

    pub fn raw_fd(&self) -> RawFd {
        self.file.fd.as_raw_fd()
    }

    /// Its length now, rounded up to a page: what can be touched without SIGBUS.
    pub fn touchable(&self) -> u64 {
        host_stat(self.raw_fd()).ok().and_then(|stat| page_up(stat.st_size.max(0) as u64)).unwrap_or(0)
    }

    /// Reads as a mapping reads: zeros behind the end within the last page. How many bytes could be read.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        // SAFETY: the slice is ours to write.
        let done = unsafe { self.read_raw(offset, into.as_mut_ptr(), into.len()) };
        if done == into.len() {
            return done;
        }
        let end = offset + done as u64;
        let zeros = (page_up(end).unwrap_or(end) - end).min((into.len() - done) as u64) as usize;
        // At a page border with nothing read there is no such page.
        into[done..done + zeros].fill(0);
        done + zeros
    }

    /// Reads up to the end of the file.
    ///
    /// # Safety
    /// `into` is valid for `length` bytes.
    pub unsafe fn read_raw(&self, offset: u64, into: *mut u8, length: usize) -> usize {
        let mut done = 0;
        while done < length {
            // SAFETY: the caller's promise.
            let n = unsafe { libc::pread(self.raw_fd(), into.add(done).cast(), length - done, (offset + done as u64) as i64) };
            match n {
                n if n > 0 => done += n as usize,
                0 => break,
                _ if Errno::last() == Errno::EINTR => {}
                _ => break,
            }
        }
        done
    }

    /// Writes as a mapping writes: not behind the file's end. How many bytes were written or fell into the last page's rest.
    pub fn write(&self, offset: u64, from: &[u8]) -> usize {
        let size = host_stat(self.raw_fd()).map_or(0, |stat| stat.st_size.max(0) as u64);
        let touchable = page_up(size).unwrap_or(size).saturating_sub(offset).min(from.len() as u64) as usize;
        let inside = size.saturating_sub(offset).min(from.len() as u64) as usize;
        let mut done = 0;
        while done < inside {
            // SAFETY: the slice is ours to read.
            let n = unsafe {
                libc::pwrite(self.raw_fd(), from[done..inside].as_ptr().cast(), inside - done, (offset + done as u64) as i64)
            };
            match n {
                n if n > 0 => done += n as usize,
                _ if n < 0 && Errno::last() == Errno::EINTR => {}
                _ => return done,
            }
        }
        touchable
    }

    /// Compares and swaps a word, as the guest's own instruction would.
    pub fn compare_exchange(&self, offset: u64, old: u32, new: u32) -> Result<u32, Errno> {
        let window = Window::new(self, page_down(offset), PAGE_SIZE, true)?;
        // SAFETY: the word is aligned (the guest's address is, and mappings are page-aligned) and within the window.
        unsafe { guarded::compare_exchange(window.base.add((offset % PAGE_SIZE) as usize).cast(), old, new) }
    }
}

/// A part of a host file, mapped into the sentry for a moment. Touching it can fault; only the host's own copies
/// (which fail with EFAULT) and guarded accesses may use it.
pub(super) struct Window {
    pub base: *mut u8,
    length: usize,
}

impl Window {
    pub fn new(object: &FileObject, offset: u64, length: u64, write: bool) -> Result<Window, Errno> {
        let protection = if write { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let length = length as usize;
        // SAFETY: a new mapping at an address that the host chooses.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, object.raw_fd(), offset as i64) };
        if base == libc::MAP_FAILED { Err(Errno::EFAULT) } else { Ok(Window { base: base.cast(), length }) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody has a pointer into any more.
        unsafe { libc::munmap(self.base.cast(), self.length) };
    }
}

pub(super) fn host_stat(fd: RawFd) -> Result<libc::stat, Errno> {
    // SAFETY: stat is plain data.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // The C library would ask by an (empty) path, which the policy does not allow; on this architecture the kernel's structure is
    // the library's.
    // SAFETY: our buffer; the fd is open as long as its owner is borrowed.
    if unsafe { libc::syscall(libc::SYS_fstat, fd, &raw mut stat) } < 0 { Err(Errno::last()) } else { Ok(stat) }
}
