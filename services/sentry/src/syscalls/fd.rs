//! File descriptors: duplicating, closing, flags, locks, ioctl.

use std::sync::Arc;

use bulkhead_ipc::{
    Errno,
    vfs::{Lock, LockFamily, LockKind},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::io::usable;
use crate::{
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    fs::{self, AsyncOwner, F_OWNER_PGRP, OpenFile, locks, memfd, pipe::PipeFile, regular::RegularFile, table::MAX_NUMBERS},
    task::Thread,
};

/// Puts a new file at the lowest free number.
pub fn install(thread: &Thread, file: Arc<OpenFile>, close_on_exec: bool) -> SysResult {
    let limit = thread.limit(libc::RLIMIT_NOFILE).0;
    Ok(thread.files().install(file, close_on_exec, 0, limit)?.0 as u64)
}

/// close(2)
pub fn close(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = thread.files().remove(arguments.fd(0))?;
    fs::close(&thread.task, file);
    Ok(0)
}

/// close_range(2)
pub fn close_range(thread: &mut Thread, arguments: Arguments) -> SysResult {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    let (first, last, flags) = (arguments.uint(0), arguments.uint(1), arguments.uint(2));
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        let copy = thread.files().fork();
        *thread.task.files.write() = copy;
    }
    let files = thread.files();
    if flags & CLOEXEC != 0 {
        files.set_close_on_exec_range(first, last);
    } else {
        files.take_range(first, last).into_iter().for_each(|file| fs::close(&thread.task, file));
    }
    Ok(0)
}

/// dup(2)
pub fn dup(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = thread.files().get(arguments.fd(0))?;
    install(thread, file, false)
}

/// dup2(2)
pub fn dup2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (old, new) = (arguments.fd(0), arguments.fd(1));
    if old == new {
        thread.files().get(old)?;
        return Ok(new.0 as u64);
    }
    duplicate_to(thread, old, new, false)
}

/// dup3(2)
pub fn dup3(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (old, new, flags) = (arguments.fd(0), arguments.fd(1), arguments.int(2));
    if flags & !libc::O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    duplicate_to(thread, old, new, flags & libc::O_CLOEXEC != 0)
}

fn duplicate_to(thread: &Thread, old: FdNumber, new: FdNumber, close_on_exec: bool) -> SysResult {
    let limit = thread.limit(libc::RLIMIT_NOFILE).0.min(MAX_NUMBERS);
    if new.0 < 0 || new.0 as u64 >= limit {
        return Err(Errno::EBADF);
    }
    let files = thread.files();
    let file = files.get(old)?;
    if let Some(before) = files.replace(new, file, close_on_exec) {
        fs::close(&thread.task, before);
    }
    Ok(new.0 as u64)
}

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_DUPFD_QUERY: i32 = 1027;

/// Status flags that F_SETFL changes.
const SETTABLE: i32 = libc::O_APPEND | libc::O_ASYNC | libc::O_DIRECT | libc::O_NOATIME | libc::O_NONBLOCK;

/// fcntl(2)
pub async fn fcntl(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let fd = arguments.fd(0);
    let command = arguments.int(1);
    let files = thread.files();
    let file = files.get(fd)?;
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            let limit = thread.limit(libc::RLIMIT_NOFILE).0;
            let from = arguments.int(2);
            if from < 0 || from as u64 >= limit {
                return Err(Errno::EINVAL);
            }
            return Ok(files.install(file, command == libc::F_DUPFD_CLOEXEC, from, limit)?.0 as u64);
        }
        libc::F_GETFD => return Ok(files.close_on_exec(fd)? as u64),
        libc::F_SETFD => {
            files.set_close_on_exec(fd, arguments.int(2) & libc::FD_CLOEXEC != 0)?;
            return Ok(0);
        }
        libc::F_GETFL => return Ok(file.status() as u64),
        _ if file.is_path() => return Err(Errno::EBADF),
        _ => {}
    }
    match command {
        libc::F_SETFL => set_status(&file, arguments.int(2)),
        libc::F_GETLK | libc::F_OFD_GETLK => get_lock(thread, &file, command, arguments.address(2)),
        libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK | libc::F_OFD_SETLKW => {
            let flock: Flock = thread.memory().read_value(arguments.address(2))?;
            let open_file = command == libc::F_OFD_SETLK || command == libc::F_OFD_SETLKW;
            let lock = flock.parse(thread, &file, open_file)?;
            match lock.kind {
                LockKind::Read if !file.readable() => return Err(Errno::EBADF),
                LockKind::Write if !file.writable() => return Err(Errno::EBADF),
                _ => {}
            }
            let waits = command == libc::F_SETLKW || command == libc::F_OFD_SETLKW;
            locks::set(&thread.task, &file, lock, waits).await?;
            Ok(0)
        }
        libc::F_SETOWN => {
            file.set_owner(arguments.int(2))?;
            Ok(0)
        }
        libc::F_GETOWN => Ok(i64::from(file.owner_number()) as u64),
        F_SETOWN_EX => {
            let [kind, id]: [i32; 2] = thread.memory().read_value(arguments.address(2))?;
            if !(0..=F_OWNER_PGRP).contains(&kind) || id < 0 {
                return Err(Errno::EINVAL);
            }
            let mut owner = file.owner.lock();
            *owner = AsyncOwner { kind, id, signal: owner.signal };
            Ok(0)
        }
        F_GETOWN_EX => {
            let owner = *file.owner.lock();
            thread.memory().write_value(arguments.address(2), &[owner.kind, owner.id])?;
            Ok(0)
        }
        F_SETSIG => {
            let signal = arguments.int(2);
            if !(0..=64).contains(&signal) {
                return Err(Errno::EINVAL);
            }
            file.owner.lock().signal = signal;
            Ok(0)
        }
        F_GETSIG => Ok(file.owner.lock().signal as u64),
        libc::F_SETPIPE_SZ => {
            const CAP_SYS_RESOURCE: u32 = 24;
            let pipe = file.downcast::<PipeFile>().ok_or(Errno::EBADF)?.pipe();
            let bytes = arguments.uint(2) as usize;
            Ok(pipe.set_capacity(bytes, thread.credentials().has(CAP_SYS_RESOURCE))? as u64)
        }
        libc::F_GETPIPE_SZ => Ok(file.downcast::<PipeFile>().ok_or(Errno::EBADF)?.pipe().capacity() as u64),
        libc::F_GET_SEALS => memfd::seals(file.downcast::<RegularFile>().ok_or(Errno::EINVAL)?),
        libc::F_ADD_SEALS => {
            if !file.writable() {
                return Err(Errno::EPERM);
            }
            memfd::add_seals(file.downcast::<RegularFile>().ok_or(Errno::EINVAL)?, arguments.int(2))
        }
        F_DUPFD_QUERY => Ok(Arc::ptr_eq(&file, &files.get(arguments.fd(2))?) as u64),
        _ => Err(Errno::EINVAL),
    }
}

fn set_status(file: &OpenFile, flags: i32) -> SysResult {
    use std::sync::atomic::Ordering;
    let update = |now: u32| Some(now & !(SETTABLE as u32) | (flags & SETTABLE) as u32);
    // The closure always gives a value.
    let _ = file.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    Ok(0)
}

/// struct flock.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct Flock {
    kind: i16,
    whence: i16,
    padding: u32,
    start: i64,
    length: i64,
    pid: i32,
    padding_2: u32,
}

impl Flock {
    fn parse(&self, thread: &Thread, file: &OpenFile, open_file: bool) -> Result<Lock, Errno> {
        if open_file && self.pid != 0 {
            return Err(Errno::EINVAL);
        }
        let kind = match self.kind as i32 {
            libc::F_RDLCK => LockKind::Read,
            libc::F_WRLCK => LockKind::Write,
            libc::F_UNLCK => LockKind::Unlock,
            _ => return Err(Errno::EINVAL),
        };
        let base = match self.whence as i32 {
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => *file.position.lock() as i64,
            libc::SEEK_END => file.ops.attributes(thread)?.size as i64,
            _ => return Err(Errno::EINVAL),
        };
        let at = base.checked_add(self.start).ok_or(Errno::EOVERFLOW)?;
        let (first, last) = match self.length {
            0 => (at, i64::MAX),
            1.. => (at, at.checked_add(self.length - 1).ok_or(Errno::EOVERFLOW)?),
            _ => (at.checked_add(self.length).ok_or(Errno::EINVAL)?, at.checked_sub(1).ok_or(Errno::EINVAL)?),
        };
        let start = u64::try_from(first).map_err(|_| Errno::EINVAL)?;
        let end = if last == i64::MAX { u64::MAX } else { u64::try_from(last).map_err(|_| Errno::EINVAL)? };
        let (owner, pid) = match open_file {
            true => (file.id, -1),
            false => (thread.process.pid as u64, thread.process.pid),
        };
        Ok(Lock { family: LockFamily::Record, kind, owner, pid, start, end })
    }
}

fn get_lock(thread: &Thread, file: &OpenFile, command: i32, address: UserAddress) -> SysResult {
    let memory = thread.memory();
    let mut flock: Flock = memory.read_value(address)?;
    let lock = flock.parse(thread, file, command == libc::F_OFD_GETLK)?;
    if lock.kind == LockKind::Unlock {
        return Err(Errno::EINVAL);
    }
    match locks::get(file, lock)? {
        None => flock.kind = libc::F_UNLCK as i16,
        Some(found) => {
            flock.kind = if found.kind == LockKind::Read { libc::F_RDLCK } else { libc::F_WRLCK } as i16;
            flock.whence = libc::SEEK_SET as i16;
            flock.start = found.start as i64;
            flock.length = if found.end == u64::MAX { 0 } else { (found.end - found.start).saturating_add(1) as i64 };
            flock.pid = found.pid;
        }
    }
    memory.write_value(address, &flock)?;
    Ok(0)
}

/// flock(2)
pub async fn flock(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = usable(thread, arguments.fd(0))?;
    let operation = arguments.int(1);
    let kind = match operation & !libc::LOCK_NB {
        libc::LOCK_SH => LockKind::Read,
        libc::LOCK_EX => LockKind::Write,
        libc::LOCK_UN => LockKind::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    let lock = Lock { family: LockFamily::Flock, kind, owner: file.id, pid: thread.process.pid, start: 0, end: u64::MAX };
    locks::set(&thread.task, &file, lock, operation & libc::LOCK_NB == 0).await?;
    Ok(0)
}

/// ioctl(2)
pub fn ioctl(thread: &mut Thread, arguments: Arguments) -> SysResult {
    const FIOQSIZE: u32 = 0x5460;
    let fd = arguments.fd(0);
    let file = usable(thread, fd)?;
    let (command, argument) = (arguments.uint(1), arguments.address(2));
    match command as libc::c_ulong {
        libc::FIOCLEX => thread.files().set_close_on_exec(fd, true)?,
        libc::FIONCLEX => thread.files().set_close_on_exec(fd, false)?,
        libc::FIONBIO => {
            let on: i32 = thread.memory().read_value(argument)?;
            file.set(libc::O_NONBLOCK, on != 0);
        }
        libc::FIOASYNC => {
            let on: i32 = thread.memory().read_value(argument)?;
            file.set(libc::O_ASYNC, on != 0);
        }
        _ if command == FIOQSIZE => {
            let attributes = file.ops.attributes(thread)?;
            if !matches!(attributes.mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK) {
                return Err(Errno::ENOTTY);
            }
            thread.memory().write_value(argument, &(attributes.size as i64))?;
        }
        _ => return file.ops.ioctl(thread, &file, command, argument),
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flock_has_the_size_that_linux_gives_it() {
        assert_eq!(size_of::<Flock>(), size_of::<libc::flock>());
    }
}
