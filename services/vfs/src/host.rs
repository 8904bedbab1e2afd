//! The host's system calls on files in memory. All of the crate's unsafe code is here.
//!
//! A memory file is one memfd, opened for reading and writing. There is no `/proc` in which to reopen it with less, so the same
//! open file is donated whatever access the guest asked for. That gives nothing away: the only process that gets it is the
//! sentry, which holds all of the guest's memory anyway and enforces the access mode of the guest's open file.

use std::{
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use bulkhead_ipc::{
    Errno,
    vfs::{FileStatus, Timestamp},
};

fn check(result: libc::c_long) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

/// A new, empty file in memory. ENFILE when there are no more fds.
pub fn memory_file() -> Result<OwnedFd, Errno> {
    // SAFETY: the name is NUL-terminated.
    let fd = check(unsafe { libc::memfd_create(c"bulkhead-file".as_ptr(), libc::MFD_CLOEXEC) }.into())
        .map_err(|errno| if errno == Errno::EMFILE { Errno::ENFILE } else { errno })?;
    // SAFETY: the call returned a new fd, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// fstat(2).
pub fn status(fd: BorrowedFd<'_>) -> Result<FileStatus, Errno> {
    let mut buffer = MaybeUninit::<libc::stat>::zeroed();
    // The C library would ask by an (empty) path, which the policy does not allow; on this architecture the kernel's structure is
    // the library's.
    // SAFETY: the buffer has room for what fstat writes.
    check(unsafe { libc::syscall(libc::SYS_fstat, fd.as_raw_fd(), buffer.as_mut_ptr()) })?;
    // SAFETY: zeroed before, and all zeroes is a value of it.
    Ok(FileStatus::from(unsafe { buffer.assume_init_ref() }))
}

/// futimens(2); `None` keeps.
pub fn set_times(fd: BorrowedFd<'_>, accessed: Option<Timestamp>, modified: Option<Timestamp>) -> Result<(), Errno> {
    let spec = |time: Option<Timestamp>| match time {
        None => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        Some(t) => libc::timespec { tv_sec: t.seconds, tv_nsec: t.nanoseconds.into() },
    };
    let times = [spec(accessed), spec(modified)];
    // SAFETY: `times` holds the two values that are read.
    check(unsafe { libc::futimens(fd.as_raw_fd(), times.as_ptr()) }.into()).map(drop)
}

/// ftruncate(2).
pub fn truncate(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), size) }.into()).map(drop)
}

/// Copies all of `from` (from its start) to the end of `to`, within the kernel.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    const BATCH: usize = 1 << 30;
    let mut offset: libc::off_t = 0;
    loop {
        // SAFETY: `offset` outlives the call; the call takes no other pointer.
        match check(unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), &raw mut offset, BATCH) } as libc::c_long) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The time.
pub fn now() -> Timestamp {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for what is written.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec.clamp(0, 999_999_999) as u32 }
}

/// Bytes of the machine's memory; asked once, before the process is locked down.
pub fn memory_of_the_machine() -> u64 {
    let mut info = MaybeUninit::<libc::sysinfo>::zeroed();
    // SAFETY: the buffer has room for what sysinfo writes.
    if unsafe { libc::sysinfo(info.as_mut_ptr()) } != 0 {
        return 1 << 30;
    }
    // SAFETY: zeroed before, and all zeroes is a value of it.
    let info = unsafe { info.assume_init() };
    info.totalram.saturating_mul(info.mem_unit.into())
}
