//! The host's system calls that the gofer makes, each in a form that can only be used as it is meant: a directory or file is an
//! fd, a name is one component, no symbolic link is followed. All of the crate's unsafe code is here.

use std::{
    ffi::{CStr, CString},
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, DirEntry, FsStatistics, SetTime, Timestamp},
};

/// One component of a path as the host wants it.
pub fn component(name: &[u8]) -> Result<CString, Errno> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(Errno::EINVAL);
    }
    CString::new(name).map_err(|_| Errno::EINVAL)
}

fn check(result: libc::c_long) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

fn openat2(directory: BorrowedFd<'_>, name: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: `open_how` is a plain struct of integers for which all zeroes is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC).cast_unsigned().into();
    how.mode = mode.into();
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS;
    loop {
        // SAFETY: the name is NUL-terminated and `how` is of the size that is passed; both outlive the call.
        let fd = check(unsafe {
            libc::syscall(libc::SYS_openat2, directory.as_raw_fd(), name.as_ptr(), &raw const how, size_of::<libc::open_how>())
        });
        match fd {
            // SAFETY: the call returned a new fd, which nobody else owns.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
            // RESOLVE_BENEATH gives up when a rename races with it.
            Err(Errno::EAGAIN) => continue,
            Err(errno) => return Err(errno),
        }
    }
}

/// An `O_PATH` fd of what `name` is, be it a symbolic link.
pub fn open_path(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    openat2(directory, name, libc::O_PATH | libc::O_NOFOLLOW, 0)
}

/// Opens a file that exists; `access` is O_RDONLY, O_WRONLY or O_RDWR.
pub fn open_file(directory: BorrowedFd<'_>, name: &CStr, access: i32) -> Result<OwnedFd, Errno> {
    openat2(directory, name, (access & libc::O_ACCMODE) | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
}

/// Makes a regular file.
pub fn create_file(directory: BorrowedFd<'_>, name: &CStr, access: i32, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = (access & libc::O_ACCMODE) | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_NOCTTY;
    openat2(directory, name, flags, mode & 0o7777)
}

/// Opens the directory itself for reading.
pub fn open_directory(directory: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat2(directory, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

fn statx(fd: BorrowedFd<'_>, name: &CStr) -> Result<Attributes, Errno> {
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: the name is NUL-terminated and the buffer has room for what statx writes.
    check(unsafe { libc::syscall(libc::SYS_statx, fd.as_raw_fd(), name.as_ptr(), flags, mask, buffer.as_mut_ptr()) })?;
    // SAFETY: zeroed before, and all zeroes is a value of it.
    let x = unsafe { buffer.assume_init() };
    let time = |t: libc::statx_timestamp| Timestamp { seconds: t.tv_sec, nanoseconds: t.tv_nsec.min(999_999_999) };
    Ok(Attributes {
        device: libc::makedev(x.stx_dev_major, x.stx_dev_minor),
        inode: x.stx_ino,
        mode: x.stx_mode.into(),
        links: x.stx_nlink,
        uid: x.stx_uid,
        gid: x.stx_gid,
        special_device: libc::makedev(x.stx_rdev_major, x.stx_rdev_minor),
        size: x.stx_size,
        blocks: x.stx_blocks,
        block_size: x.stx_blksize,
        accessed: time(x.stx_atime),
        modified: time(x.stx_mtime),
        changed: time(x.stx_ctime),
        created: time(x.stx_btime),
        mount: 0,
        mount_flags: 0,
    })
}

/// Attributes of what `fd` is.
pub fn attributes(fd: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    statx(fd, c"")
}

/// Attributes of `name` in a directory.
pub fn attributes_at(directory: BorrowedFd<'_>, name: &CStr) -> Result<Attributes, Errno> {
    statx(directory, name)
}

/// Where the symbolic link `fd` points.
pub fn read_link(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0u8; 4096];
    // SAFETY: the buffer is as long as is said.
    let length = check(
        unsafe { libc::readlinkat(fd.as_raw_fd(), c"".as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) } as libc::c_long
    )?;
    if length == buffer.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    buffer.truncate(length);
    Ok(buffer)
}

/// mkdir(2).
pub fn make_directory(directory: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: the name is NUL-terminated.
    check(unsafe { libc::mkdirat(directory.as_raw_fd(), name.as_ptr(), mode & 0o7777) }.into()).map(drop)
}

/// mknod(2) of a FIFO or socket: the type is part of `mode`, there is no device number.
pub fn make_node(directory: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: the name is NUL-terminated.
    check(unsafe { libc::mknodat(directory.as_raw_fd(), name.as_ptr(), mode, 0) }.into()).map(drop)
}

/// symlink(2).
pub fn make_symlink(target: &CStr, directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings are NUL-terminated.
    check(unsafe { libc::symlinkat(target.as_ptr(), directory.as_raw_fd(), name.as_ptr()) }.into()).map(drop)
}

/// link(2).
pub fn link(from: BorrowedFd<'_>, from_name: &CStr, directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings are NUL-terminated.
    check(unsafe { libc::linkat(from.as_raw_fd(), from_name.as_ptr(), directory.as_raw_fd(), name.as_ptr(), 0) }.into()).map(drop)
}

/// unlink(2) or rmdir(2).
pub fn unlink(directory: BorrowedFd<'_>, name: &CStr, is_directory: bool) -> Result<(), Errno> {
    let flags = if is_directory { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: the name is NUL-terminated.
    check(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), flags) }.into()).map(drop)
}

/// renameat2(2).
pub fn rename(from: BorrowedFd<'_>, from_name: &CStr, directory: BorrowedFd<'_>, name: &CStr, flags: u32) -> Result<(), Errno> {
    // SAFETY: both strings are NUL-terminated.
    check(unsafe {
        libc::syscall(libc::SYS_renameat2, from.as_raw_fd(), from_name.as_ptr(), directory.as_raw_fd(), name.as_ptr(), flags)
    })
    .map(drop)
}

/// chmod(2) of what an `O_PATH` fd is (Linux 6.6).
pub fn change_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    // SAFETY: the empty name is NUL-terminated.
    check(unsafe { libc::syscall(libc::SYS_fchmodat2, fd.as_raw_fd(), c"".as_ptr(), mode & 0o7777, libc::AT_EMPTY_PATH) })
        .map(drop)
}

/// chown(2) of what an `O_PATH` fd is.
pub fn change_owner(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    let (uid, gid) = (uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX));
    // SAFETY: the empty name is NUL-terminated.
    check(unsafe { libc::fchownat(fd.as_raw_fd(), c"".as_ptr(), uid, gid, flags) }.into()).map(drop)
}

/// utimensat(2) of what an `O_PATH` fd is.
pub fn set_times(fd: BorrowedFd<'_>, accessed: SetTime, modified: SetTime) -> Result<(), Errno> {
    let spec = |time| match time {
        SetTime::Keep => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        SetTime::Now => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
        SetTime::To(t) => libc::timespec { tv_sec: t.seconds, tv_nsec: t.nanoseconds.into() },
    };
    let times = [spec(accessed), spec(modified)];
    // SAFETY: the empty name is NUL-terminated and `times` holds the two values that are read.
    check(unsafe { libc::syscall(libc::SYS_utimensat, fd.as_raw_fd(), c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) })
        .map(drop)
}

/// A batch of entries of an open directory, from `cookie` on, out of at most `space` bytes; empty at the end. Without `.` and `..`.
pub fn read_directory(directory: BorrowedFd<'_>, cookie: u64, space: usize) -> Result<Vec<DirEntry>, Errno> {
    let cookie = i64::try_from(cookie).map_err(|_| Errno::EINVAL)?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::lseek(directory.as_raw_fd(), cookie, libc::SEEK_SET) })?;
    let mut buffer = vec![0u8; space];
    loop {
        // SAFETY: the buffer is as long as is said.
        let length =
            check(unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) })?;
        let entries = parse_directory(buffer.get(..length).ok_or(Errno::EIO)?)?;
        if length == 0 || !entries.is_empty() {
            return Ok(entries);
        }
    }
}

/// Takes apart what getdents64(2) wrote.
fn parse_directory(mut bytes: &[u8]) -> Result<Vec<DirEntry>, Errno> {
    const NAME: usize = 19;
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let word = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes).ok_or(Errno::EIO);
        let length = usize::from(u16::from_ne_bytes([*bytes.get(16).ok_or(Errno::EIO)?, *bytes.get(17).ok_or(Errno::EIO)?]));
        let kind = *bytes.get(18).ok_or(Errno::EIO)?;
        let name = bytes.get(NAME..length).ok_or(Errno::EIO)?;
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        if name != b"." && name != b".." {
            entries.push(DirEntry { inode: word(0)?, next: word(8)?, kind, name: name.to_vec() });
        }
        bytes = &bytes[length..];
    }
    Ok(entries)
}

/// statfs(2).
pub fn statistics(fd: BorrowedFd<'_>) -> Result<FsStatistics, Errno> {
    let mut buffer = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the buffer has room for what fstatfs writes.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), buffer.as_mut_ptr()) }.into())?;
    // SAFETY: zeroed before, and all zeroes is a value of it.
    let s = unsafe { buffer.assume_init() };
    Ok(FsStatistics {
        magic: s.f_type.cast_unsigned(),
        block_size: s.f_bsize.cast_unsigned(),
        blocks: s.f_blocks,
        blocks_free: s.f_bfree,
        blocks_available: s.f_bavail,
        files: s.f_files,
        files_free: s.f_ffree,
        name_length: s.f_namelen.cast_unsigned(),
        flags: 0,
    })
}

/// syncfs(2) of an open directory's file system.
pub fn sync(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::syncfs(directory.as_raw_fd()) }.into()).map(drop)
}

/// The extended-attribute calls relative to a directory came with Linux 6.13 and are not in libc yet.
mod xattr_calls {
    pub const SET: libc::c_long = 463;
    pub const GET: libc::c_long = 464;
    pub const LIST: libc::c_long = 465;
    pub const REMOVE: libc::c_long = 466;
}

#[repr(C)]
struct XattrArguments {
    value: u64,
    size: u32,
    flags: u32,
}

/// On a kernel without these calls there are no extended attributes.
fn xattr_result(result: libc::c_long) -> Result<usize, Errno> {
    check(result).map_err(|errno| if errno == Errno::ENOSYS { Errno::EOPNOTSUPP } else { errno })
}

/// getxattr(2) of `entry` in a directory (`.` is the directory itself): these calls refuse an `O_PATH` fd of a file.
pub fn get_xattr(directory: BorrowedFd<'_>, entry: &CStr, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0u8; 65536];
    let arguments = XattrArguments { value: value.as_mut_ptr().addr() as u64, size: 65536, flags: 0 };
    // SAFETY: the name is NUL-terminated; `arguments` names a buffer of the size it says, which outlives the call.
    let length = xattr_result(unsafe {
        libc::syscall(
            xattr_calls::GET,
            directory.as_raw_fd(),
            entry.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            name.as_ptr(),
            &raw const arguments,
            size_of::<XattrArguments>(),
        )
    })?;
    value.truncate(length);
    Ok(value)
}

/// setxattr(2).
pub fn set_xattr(directory: BorrowedFd<'_>, entry: &CStr, name: &CStr, value: &[u8], flags: u32) -> Result<(), Errno> {
    let size = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
    let arguments = XattrArguments { value: value.as_ptr().addr() as u64, size, flags };
    // SAFETY: the name is NUL-terminated; `arguments` names a buffer of the size it says, which outlives the call.
    xattr_result(unsafe {
        libc::syscall(
            xattr_calls::SET,
            directory.as_raw_fd(),
            entry.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            name.as_ptr(),
            &raw const arguments,
            size_of::<XattrArguments>(),
        )
    })
    .map(drop)
}

/// listxattr(2).
pub fn list_xattrs(directory: BorrowedFd<'_>, entry: &CStr) -> Result<Vec<u8>, Errno> {
    let mut names = vec![0u8; 65536];
    // SAFETY: the buffer is as long as is said.
    let length = xattr_result(unsafe {
        libc::syscall(
            xattr_calls::LIST,
            directory.as_raw_fd(),
            entry.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            names.as_mut_ptr(),
            names.len(),
        )
    })?;
    names.truncate(length);
    Ok(names)
}

/// removexattr(2).
pub fn remove_xattr(directory: BorrowedFd<'_>, entry: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both names are NUL-terminated.
    xattr_result(unsafe {
        libc::syscall(xattr_calls::REMOVE, directory.as_raw_fd(), entry.as_ptr(), libc::AT_SYMLINK_NOFOLLOW, name.as_ptr())
    })
    .map(drop)
}

/// Opens what an `O_PATH` fd is. Only before the process is locked down: there is no `/proc` later.
pub fn reopen_by_proc(fd: BorrowedFd<'_>, access: i32) -> Result<OwnedFd, Errno> {
    let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the path is NUL-terminated.
    let fd = check(unsafe { libc::open(path.as_ptr(), (access & libc::O_ACCMODE) | libc::O_CLOEXEC | libc::O_NOCTTY) }.into())?;
    // SAFETY: the call returned a new fd, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// How many files the process may have open: every handle is one.
pub fn file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` has room for what is written.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 { limit.rlim_cur } else { 1024 }
}

/// Nothing is taken away from the modes that vfs asks for.
pub fn clear_umask() {
    // SAFETY: takes no pointers.
    unsafe { libc::umask(0) };
}
