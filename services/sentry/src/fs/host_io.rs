//! Host calls on donated fds: the only place of this folder that makes raw ones.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use bulkhead_ipc::Errno;

fn check(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

fn check_int(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// What a host call takes as an offset for "at the host file's own position".
pub const HOST_POSITION: i64 = -1;

/// A guest's offset as the host takes it.
pub fn offset(at: u64) -> Result<i64, Errno> {
    i64::try_from(at).map_err(|_| Errno::EINVAL)
}

/// preadv2(2) into memory that the iovecs name.
///
/// The iovecs must come from `AddressSpace::with_host_iovecs` for writing, or from a slice that is borrowed mutably.
pub fn read_vectors(fd: RawFd, iovecs: &mut [libc::iovec], at: i64, flags: i32) -> Result<usize, Errno> {
    if let ([one], 0..) = (&*iovecs, at)
        && flags == 0
    {
        // The most frequent case, without a list for the host to copy and check.
        // SAFETY: as below.
        return check(unsafe { libc::pread64(fd, one.iov_base, one.iov_len, at) });
    }
    // SAFETY: the iovecs name memory that is ours to write while this call runs (see above); the kernel checks the rest.
    check(unsafe { libc::preadv2(fd, iovecs.as_ptr(), iovecs.len() as i32, at, flags) })
}

/// pwritev2(2) from memory that the iovecs name; see [`read_vectors`].
pub fn write_vectors(fd: RawFd, iovecs: &mut [libc::iovec], at: i64, flags: i32) -> Result<usize, Errno> {
    if let ([one], 0..) = (&*iovecs, at)
        && flags == 0
    {
        // SAFETY: as below.
        return check(unsafe { libc::pwrite64(fd, one.iov_base, one.iov_len, at) });
    }
    // SAFETY: the iovecs name memory that stays mapped while this call runs; it is only read.
    check(unsafe { libc::pwritev2(fd, iovecs.as_ptr(), iovecs.len() as i32, at, flags) })
}

/// preadv2(2) into a slice.
pub fn read(fd: RawFd, into: &mut [u8], at: i64, flags: i32) -> Result<usize, Errno> {
    read_vectors(fd, &mut [libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() }], at, flags)
}

/// pwritev2(2) from a slice.
pub fn write(fd: RawFd, from: &[u8], at: i64, flags: i32) -> Result<usize, Errno> {
    write_vectors(fd, &mut [libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() }], at, flags)
}

/// Cuts iovecs to at most `limit` bytes; how many iovecs are left.
pub fn shorten(iovecs: &mut [libc::iovec], mut limit: usize) -> usize {
    for (n, iovec) in iovecs.iter_mut().enumerate() {
        if iovec.iov_len >= limit {
            iovec.iov_len = limit;
            return n + 1;
        }
        limit -= iovec.iov_len;
    }
    iovecs.len()
}

/// fstat(2).
pub fn stat(fd: RawFd) -> Result<libc::stat, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // The C library would ask by an (empty) path, which the policy does not allow; on this architecture the kernel's structure
    // is the library's.
    // SAFETY: `stat` has room for the structure, and all zeros is a valid one.
    unsafe {
        check(libc::syscall(libc::SYS_fstat, fd, stat.as_mut_ptr()) as isize)?;
        Ok(stat.assume_init())
    }
}

/// lseek(2).
pub fn seek(fd: RawFd, offset: i64, whence: i32) -> Result<u64, Errno> {
    // SAFETY: no memory is involved.
    u64::try_from(unsafe { libc::lseek(fd, offset, whence) }).map_err(|_| Errno::last())
}

/// ftruncate(2).
pub fn truncate(fd: RawFd, size: i64) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check_int(unsafe { libc::ftruncate(fd, size) })
}

/// fallocate(2).
pub fn allocate(fd: RawFd, mode: i32, at: i64, length: i64) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check_int(unsafe { libc::fallocate(fd, mode, at, length) })
}

/// fsync(2) or fdatasync(2).
pub fn sync(fd: RawFd, data_only: bool) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check_int(unsafe { if data_only { libc::fdatasync(fd) } else { libc::fsync(fd) } })
}

/// poll(2) of one fd without waiting: the events that are there.
pub fn poll(fd: RawFd, events: i16) -> i16 {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: `entry` is one pollfd that lives through the call.
    let found = unsafe { libc::poll(&mut entry, 1, 0) };
    if found > 0 { entry.revents } else { 0 }
}

/// fcntl(2) with an integer argument.
pub fn control(fd: RawFd, command: i32, argument: i32) -> Result<i32, Errno> {
    // SAFETY: the commands used here (F_GETFL, F_ADD_SEALS, F_GET_SEALS) take an integer or nothing.
    let result = unsafe { libc::fcntl(fd, command, argument) };
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

/// memfd_create(2).
pub fn memfd(name: &std::ffi::CStr, flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: `name` ends with a NUL.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    check_int(fd)?;
    // SAFETY: the call gave us this fd, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// getrandom(2) into memory that the iovecs name; see [`read_vectors`].
pub fn random_vectors(iovecs: &mut [libc::iovec]) -> Result<usize, Errno> {
    let mut done = 0;
    for iovec in iovecs {
        // SAFETY: the iovec names memory that is ours to write while this call runs.
        let n = check(unsafe { libc::getrandom(iovec.iov_base, iovec.iov_len, 0) })?;
        done += n;
        if n < iovec.iov_len {
            break;
        }
    }
    Ok(done)
}

/// getrandom(2) into memory of our own.
pub fn random_bytes(bytes: &mut [u8]) -> Result<usize, Errno> {
    random_vectors(&mut [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }])
}

/// ioctl(2) with a pointer to a structure of `N` bytes, read or written by the host's kernel.
///
/// `command` must be one whose structure is at most `N` bytes (the callers' tables say which).
pub fn ioctl<const N: usize>(fd: &impl AsRawFd, command: u32, argument: &mut [u8; N]) -> Result<(), Errno> {
    // SAFETY: `argument` is as large as the structure of every command that is passed here.
    check_int(unsafe { libc::ioctl(fd.as_raw_fd(), command as libc::c_ulong, argument.as_mut_ptr()) })
}

/// ioctl(2) with an integer argument.
pub fn ioctl_value(fd: &impl AsRawFd, command: u32, argument: i32) -> Result<(), Errno> {
    // SAFETY: the commands passed here (TCFLSH, TCSBRK, TCXONC) take an integer.
    check_int(unsafe { libc::ioctl(fd.as_raw_fd(), command as libc::c_ulong, argument as libc::c_long) })
}
