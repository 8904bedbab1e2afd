//! The memory file: one sparse memfd that holds every page that a guest has written, mapped whole into the sentry.
//!
//! Offsets are plentiful (the file is sparse), so that anonymous memory is given its offsets when it is mapped and the host
//! answers the first touch. A page is given back to the host only when nobody refers to it any more, which callers say only
//! after their stub has unmapped it.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{frames::FrameTable, guarded, object::host_stat, text::TextCache};
use crate::abi::PAGE_SIZE;

/// Offsets there are: far more than any machine has memory, because reservations cost only offsets.
const SPAN: u64 = 16 << 40;
/// Freed ranges up to this size wait to be reused or given back to the host in batches.
const SMALL: u64 = 16 * PAGE_SIZE;
/// Up to this size a used range is cheaper to clear and use again than to give back and take anew.
const CLEARED: u64 = 4 * PAGE_SIZE;
/// At most so much waits, in bytes: it is memory that the guest gave back and the host does not have yet.
const WAITING: u64 = 128 * PAGE_SIZE;

/// The sandbox's one memfd, mapped whole into the sentry.
pub struct MemoryFile {
    fd: OwnedFd,
    base: *mut u8,
    limit: AtomicU64,
    frames: Mutex<Frames>,
    /// Locked before `frames`.
    text: Mutex<TextCache>,
}

struct Frames {
    table: FrameTable,
    /// Small ranges with old contents that nobody refers to.
    waiting: Vec<(u64, u64)>,
}

// SAFETY: `base` points to a mapping that lives as long as the value; guest memory is shared memory by nature, and is accessed
// only by copies and atomics through raw pointers.
unsafe impl Send for MemoryFile {}
// SAFETY: as above; the bookkeeping is behind a lock.
unsafe impl Sync for MemoryFile {}

impl MemoryFile {
    /// Makes it; at most `limit` bytes are handed out.
    pub fn new(limit: u64) -> Result<Arc<MemoryFile>, Errno> {
        MemoryFile::with_span(limit, SPAN)
    }

    pub(super) fn with_span(limit: u64, span: u64) -> Result<Arc<MemoryFile>, Errno> {
        guarded::install()?;
        let name = c"guest-memory";
        let create = |flags| {
            // SAFETY: the name is a C string.
            unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) }
        };
        // Guests run code in it. Kernels before 6.3 do not know the flag, and allow it anyway.
        let mut raw = create(libc::MFD_EXEC);
        if raw < 0 {
            raw = create(0);
        }
        if raw < 0 {
            return Err(Errno::last());
        }
        // SAFETY: a new fd that nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: plain call on our own fd.
        if unsafe { libc::ftruncate(raw, span as i64) } < 0 {
            return Err(Errno::last());
        }
        // SAFETY: a new mapping at an address that the host chooses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                span as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                raw,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let frames = Frames { table: FrameTable::new(span), waiting: Vec::new() };
        Ok(Arc::new(MemoryFile {
            fd,
            base: base.cast(),
            limit: limit.into(),
            frames: Mutex::new(frames),
            text: Mutex::default(),
        }))
    }

    /// Bytes in use (for /proc/meminfo).
    pub fn used(&self) -> u64 {
        host_stat(self.raw_fd()).map_or(0, |stat| stat.st_blocks as u64 * 512)
    }

    /// Bytes at most.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Another limit.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Relaxed);
    }

    /// Rewritten pages of files.
    pub(super) fn text(&self) -> &Mutex<TextCache> {
        &self.text
    }

    /// The fd, for map operations.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Where the sentry sees `offset`, which must be one that was handed out.
    pub(super) fn pointer(&self, offset: u64) -> *mut u8 {
        self.base.wrapping_add(offset as usize)
    }

    /// A range of zeros with one reference, at `hint` if that is free.
    pub(super) fn allocate(&self, length: u64, hint: Option<u64>) -> Result<u64, Errno> {
        if length <= CLEARED
            && hint.is_none()
            && let Some(offset) = self.take_waiting(length)
        {
            // SAFETY: the range was just taken, so nobody else uses it, and it lies within the mapping.
            unsafe { self.pointer(offset).write_bytes(0, length as usize) };
            return Ok(offset);
        }
        self.frames.lock().table.allocate(length, hint).ok_or(Errno::ENOMEM)
    }

    /// A range with one reference whose contents are to be overwritten entirely.
    pub(super) fn allocate_uncleared(&self, length: u64, hint: Option<u64>) -> Result<u64, Errno> {
        match self.take_waiting(length) {
            Some(offset) => Ok(offset),
            None => self.frames.lock().table.allocate(length, hint).ok_or(Errno::ENOMEM),
        }
    }

    fn take_waiting(&self, length: u64) -> Option<u64> {
        let mut frames = self.frames.lock();
        let i = frames.waiting.iter().rposition(|(start, end)| end - start == length)?;
        let (start, end) = frames.waiting.swap_remove(i);
        frames.table.revive(start, end);
        Some(start)
    }

    /// One more reference to each page.
    pub(super) fn retain(&self, start: u64, end: u64) {
        self.frames.lock().table.increment(start, end);
    }

    /// One reference less to each page; no stub may have the caller's mapping of it any more.
    pub(super) fn release(&self, ranges: impl IntoIterator<Item = (u64, u64)>) {
        self.reuse(self.forget(ranges));
    }

    /// One reference less to each page; what nobody refers to any more, for [`MemoryFile::reuse`] once no stub maps it.
    pub(super) fn forget(&self, ranges: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let mut frames = self.frames.lock();
        ranges.into_iter().flat_map(|(start, end)| frames.table.decrement(start, end)).collect()
    }

    /// Lets pages that were forgotten be used again.
    pub(super) fn reuse(&self, ranges: Vec<(u64, u64)>) {
        let mut frames = self.frames.lock();
        let mut punch = Vec::new();
        for (start, end) in ranges {
            if end - start <= SMALL { frames.waiting.push((start, end)) } else { punch.push((start, end)) }
        }
        if frames.waiting.iter().map(|(start, end)| end - start).sum::<u64>() > WAITING {
            punch.append(&mut frames.waiting);
        }
        if punch.is_empty() {
            return;
        }
        drop(frames);
        punch.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(punch.len());
        for (start, end) in punch {
            match merged.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => merged.push((start, end)),
            }
        }
        merged.retain(|&(start, end)| self.punch(start, end));
        let mut frames = self.frames.lock();
        merged.into_iter().for_each(|(start, end)| frames.table.give_back(start, end));
    }

    /// Gives the pages back to the host: they read as zeros. `false` if the host refused.
    pub(super) fn punch(&self, start: u64, end: u64) -> bool {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: plain call on our own fd.
        unsafe { libc::fallocate(self.fd.as_raw_fd(), mode, start as i64, (end - start) as i64) == 0 }
    }

    /// The range around `offset` whose pages have equally many references, and how many.
    pub(super) fn run(&self, offset: u64) -> Option<(u64, u64, u32)> {
        self.frames.lock().table.run(offset)
    }

    /// Copies pages within the file. A write by file descriptor neither clears the new pages first nor maps them.
    pub(super) fn copy(&self, from: u64, to: u64, length: u64) -> Result<(), Errno> {
        let mut done = 0;
        while done < length {
            // SAFETY: the source is within the mapping.
            let n = unsafe {
                libc::pwrite(
                    self.fd.as_raw_fd(),
                    self.pointer(from + done).cast_const().cast(),
                    (length - done) as usize,
                    (to + done) as i64,
                )
            };
            match n {
                n if n > 0 => done += n as u64,
                0 => return Err(Errno::ENOMEM),
                _ if Errno::last() == Errno::EINTR => {}
                _ => return Err(Errno::ENOMEM),
            }
        }
        Ok(())
    }

    /// The first byte at or after `offset` that is in a page that exists; `u64::MAX` if there is none.
    pub(super) fn next_data(&self, offset: u64) -> u64 {
        self.seek(offset, libc::SEEK_DATA)
    }

    /// The first byte at or after `offset` that is in a page that does not exist.
    pub(super) fn next_hole(&self, offset: u64) -> u64 {
        self.seek(offset, libc::SEEK_HOLE)
    }

    fn seek(&self, offset: u64, whence: i32) -> u64 {
        // SAFETY: plain call on our own fd, whose position nobody uses.
        let found = unsafe { libc::lseek(self.fd.as_raw_fd(), offset as i64, whence) };
        if found < 0 { u64::MAX } else { found as u64 }
    }

    /// Bytes of `start..end` that exist.
    pub(super) fn resident(&self, start: u64, end: u64) -> u64 {
        // A bound for memory that is full of holes: the rest counts as absent.
        const RUNS: usize = 4096;
        let mut sum = 0;
        let mut at = start;
        for _ in 0..RUNS {
            let data = self.next_data(at);
            if data >= end {
                break;
            }
            let hole = self.next_hole(data).min(end);
            sum += hole - data;
            at = hole;
        }
        sum
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let span = self.frames.get_mut().table.span();
        // SAFETY: the mapping was made by `with_span` with this length, and nobody has a pointer into it any more.
        unsafe { libc::munmap(self.base.cast(), span as usize) };
    }
}
