//! Calls that make, remove and rename files by path, and change their modes, owners and times.

use std::sync::{Arc, atomic::Ordering};

use bulkhead_ipc::{
    Errno,
    vfs::{At, Reply, Request, SetTime, Timestamp},
};

use super::io::usable;
use crate::{
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    fs::{
        OpenFile,
        path::{Answer, PATH_MAX, Target, Walk},
        special::SpecialPlace,
    },
    signal::SignalInfo,
    task::Thread,
};

/// The working directory, for calls without a directory fd.
const HERE: FdNumber = FdNumber::WORKING_DIRECTORY;

/// A path that a call was given.
pub(super) fn path_argument(thread: &Thread, address: UserAddress) -> Result<Vec<u8>, Errno> {
    thread.memory().read_string(address, PATH_MAX - 1)
}

/// A reply that is neither what was asked for nor an error.
pub(super) fn wrong<T>(reply: Reply) -> Result<T, Errno> {
    tracing::error!(?reply, "vfs answered something else than was asked");
    Err(Errno::EIO)
}

/// AT_* flags of a call: EINVAL when there are others than `known`.
pub(super) fn at_flags(flags: i32, known: i32) -> Result<i32, Errno> {
    if flags & !known != 0 { Err(Errno::EINVAL) } else { Ok(flags) }
}

/// Makes something at a path: in a special file system it exists already, or cannot be made.
fn make(thread: &Thread, fd: FdNumber, path: UserAddress, request: impl Fn(At) -> Request) -> SysResult {
    let path = path_argument(thread, path)?;
    let mut walk = Walk::new(thread);
    let target = walk.resolve(fd, &path, false, false)?;
    match walk.ask(target, request)? {
        Answer::Vfs(Reply::Done, _) => Ok(0),
        Answer::Vfs(other, _) => wrong(other),
        Answer::Special(_) | Answer::File(_) => Err(Errno::EEXIST),
    }
}

fn umask(thread: &Thread) -> u32 {
    thread.fs().umask.load(Ordering::Relaxed)
}

/// mkdir(2)
pub fn mkdir(thread: &mut Thread, arguments: Arguments) -> SysResult {
    make_directory(thread, HERE, arguments.address(0), arguments.uint(1))
}

/// mkdirat(2)
pub fn mkdirat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    make_directory(thread, arguments.fd(0), arguments.address(1), arguments.uint(2))
}

fn make_directory(thread: &Thread, fd: FdNumber, path: UserAddress, mode: u32) -> SysResult {
    let mode = mode & 0o1777 & !umask(thread);
    make(thread, fd, path, |at| Request::Mkdir { at, mode })
}

/// mknod(2)
pub fn mknod(thread: &mut Thread, arguments: Arguments) -> SysResult {
    make_node(thread, HERE, arguments.address(0), arguments.uint(1), arguments.uint(2))
}

/// mknodat(2)
pub fn mknodat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    make_node(thread, arguments.fd(0), arguments.address(1), arguments.uint(2), arguments.uint(3))
}

fn make_node(thread: &Thread, fd: FdNumber, path: UserAddress, mode: u32, device: u32) -> SysResult {
    const CAP_MKNOD: u32 = 27;
    let kind = match mode & libc::S_IFMT {
        0 => libc::S_IFREG,
        kind => kind,
    };
    let device = match kind {
        libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK => 0,
        libc::S_IFCHR | libc::S_IFBLK if thread.credentials().has(CAP_MKNOD) => device as u64,
        libc::S_IFCHR | libc::S_IFBLK | libc::S_IFDIR => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let mode = kind | mode & 0o7777 & !umask(thread);
    make(thread, fd, path, |at| Request::Mknod { at, mode, device })
}

/// symlink(2)
pub fn symlink(thread: &mut Thread, arguments: Arguments) -> SysResult {
    make_link(thread, arguments.address(0), HERE, arguments.address(1))
}

/// symlinkat(2)
pub fn symlinkat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    make_link(thread, arguments.address(0), arguments.fd(1), arguments.address(2))
}

fn make_link(thread: &Thread, target: UserAddress, fd: FdNumber, path: UserAddress) -> SysResult {
    let target = path_argument(thread, target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    make(thread, fd, path, |at| Request::Symlink { at, target: target.clone() })
}

/// unlink(2)
pub fn unlink(thread: &mut Thread, arguments: Arguments) -> SysResult {
    remove(thread, HERE, arguments.address(0), false)
}

/// rmdir(2)
pub fn rmdir(thread: &mut Thread, arguments: Arguments) -> SysResult {
    remove(thread, HERE, arguments.address(0), true)
}

/// unlinkat(2)
pub fn unlinkat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = at_flags(arguments.int(2), libc::AT_REMOVEDIR)?;
    remove(thread, arguments.fd(0), arguments.address(1), flags != 0)
}

fn remove(thread: &Thread, fd: FdNumber, path: UserAddress, directory: bool) -> SysResult {
    let path = path_argument(thread, path)?;
    let mut walk = Walk::new(thread);
    let target = walk.resolve(fd, &path, false, false)?;
    match walk.ask(target, |at| Request::Unlink { at, directory })? {
        Answer::Vfs(Reply::Done, _) => Ok(0),
        Answer::Vfs(other, _) => wrong(other),
        Answer::Special(place) if place.parent.is_none() => Err(Errno::EBUSY),
        Answer::Special(_) | Answer::File(_) => Err(Errno::EPERM),
    }
}

/// rename(2)
pub fn rename(thread: &mut Thread, arguments: Arguments) -> SysResult {
    move_file(thread, (HERE, arguments.address(0)), (HERE, arguments.address(1)), 0)
}

/// renameat(2)
pub fn renameat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let from = (arguments.fd(0), arguments.address(1));
    move_file(thread, from, (arguments.fd(2), arguments.address(3)), 0)
}

/// renameat2(2)
pub fn renameat2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let from = (arguments.fd(0), arguments.address(1));
    move_file(thread, from, (arguments.fd(2), arguments.address(3)), arguments.uint(4))
}

fn move_file(thread: &Thread, from: (FdNumber, UserAddress), to: (FdNumber, UserAddress), flags: u32) -> SysResult {
    const KNOWN: u32 = libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT;
    let exclusive = flags & (libc::RENAME_NOREPLACE | libc::RENAME_WHITEOUT) != 0;
    if flags & !KNOWN != 0 || flags & libc::RENAME_EXCHANGE != 0 && exclusive {
        return Err(Errno::EINVAL);
    }
    let (from_path, to_path) = (path_argument(thread, from.1)?, path_argument(thread, to.1)?);
    let mut walk = Walk::new(thread);
    let source = walk.resolve(from.0, &from_path, false, false)?;
    let target = walk.resolve(to.0, &to_path, false, false)?;
    walk.ask_two(source, target, |from, to| Request::Rename { from, to, flags })?;
    Ok(0)
}

/// link(2)
pub fn link(thread: &mut Thread, arguments: Arguments) -> SysResult {
    hard_link(thread, (HERE, arguments.address(0)), (HERE, arguments.address(1)), 0)
}

/// linkat(2)
pub fn linkat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = at_flags(arguments.int(4), libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH)?;
    let from = (arguments.fd(0), arguments.address(1));
    hard_link(thread, from, (arguments.fd(2), arguments.address(3)), flags)
}

fn hard_link(thread: &Thread, from: (FdNumber, UserAddress), to: (FdNumber, UserAddress), flags: i32) -> SysResult {
    const CAP_DAC_READ_SEARCH: u32 = 2;
    let (from_path, to_path) = (path_argument(thread, from.1)?, path_argument(thread, to.1)?);
    let empty = flags & libc::AT_EMPTY_PATH != 0;
    if empty && from_path.is_empty() && !thread.credentials().has(CAP_DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    let mut walk = Walk::new(thread);
    let source = walk.resolve(from.0, &from_path, flags & libc::AT_SYMLINK_FOLLOW != 0, empty)?;
    let target = walk.resolve(to.0, &to_path, false, false)?;
    walk.ask_two(source, target, |from, to| Request::Link { from, to })?;
    Ok(0)
}

/// readlink(2)
pub fn readlink(thread: &mut Thread, arguments: Arguments) -> SysResult {
    read_link(thread, HERE, arguments.address(0), arguments.address(1), arguments.int(2))
}

/// readlinkat(2)
pub fn readlinkat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    read_link(thread, arguments.fd(0), arguments.address(1), arguments.address(2), arguments.int(3))
}

fn read_link(thread: &Thread, fd: FdNumber, path: UserAddress, buffer: UserAddress, size: i32) -> SysResult {
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or(Errno::EINVAL)?;
    let path = path_argument(thread, path)?;
    let mut walk = Walk::new(thread);
    // With an empty path the fd itself is the link (O_PATH | O_NOFOLLOW).
    let target = walk.resolve(fd, &path, false, fd != HERE)?;
    let seen = match walk.look(&target) {
        Some(Ok(found)) => walk.cache().target(&found),
        Some(Err(errno)) => Some(Err(errno)),
        None => None,
    };
    let asked = seen.map_or_else(
        || walk.ask(target, |at| Request::Readlink { at }),
        |seen| seen.map(|bytes| Answer::Vfs(Reply::Bytes(bytes), None)),
    );
    let outcome = match asked {
        Ok(Answer::Vfs(Reply::Bytes(bytes), _)) => Ok(bytes),
        Ok(Answer::Vfs(other, _)) => return wrong(other),
        Ok(Answer::Special(place)) => place.node.readlink(thread),
        Ok(Answer::File(_)) => Err(Errno::EINVAL),
        Err(errno) => Err(errno),
    };
    let bytes = outcome.map_err(|errno| match errno {
        Errno::EINVAL if path.is_empty() => Errno::ENOENT,
        errno => errno,
    })?;
    let length = bytes.len().min(size);
    thread.memory().write(buffer, &bytes[..length])?;
    Ok(length as u64)
}

/// Changes something about what a target is.
fn change(
    thread: &Thread,
    target: Target,
    request: impl Fn(At) -> Request,
    special: impl FnOnce(&SpecialPlace) -> Result<(), Errno>,
    file: impl FnOnce(&OpenFile) -> Result<(), Errno>,
) -> SysResult {
    match Walk::new(thread).ask(target, request)? {
        Answer::Vfs(Reply::Done, _) => Ok(0),
        Answer::Vfs(other, _) => wrong(other),
        Answer::Special(place) => special(&place).map(|()| 0),
        Answer::File(open) => file(&open).map(|()| 0),
    }
}

/// The target that an open fd (not O_PATH) is.
fn target_of(thread: &Thread, fd: FdNumber) -> Result<Target, Errno> {
    let file: Arc<OpenFile> = usable(thread, fd)?;
    Ok(Walk::new(thread).file(&file))
}

/// The target of a path argument.
fn target_at(thread: &Thread, fd: FdNumber, path: UserAddress, flags: i32) -> Result<Target, Errno> {
    let path = path_argument(thread, path)?;
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    Walk::new(thread).resolve(fd, &path, follow, flags & libc::AT_EMPTY_PATH != 0)
}

const CAP_CHOWN: u32 = 0;
const CAP_FOWNER: u32 = 3;

fn set_mode(thread: &Thread, target: Target, mode: u32) -> SysResult {
    let mode = mode & 0o7777;
    let local = |file: &OpenFile| {
        let mut ownership = file.ops.ownership().ok_or(Errno::EPERM)?.lock();
        let credentials = thread.credentials();
        if credentials.fsuid != ownership.uid && !credentials.has(CAP_FOWNER) {
            return Err(Errno::EPERM);
        }
        ownership.permissions = mode;
        Ok(())
    };
    change(thread, target, |at| Request::Chmod { at, mode }, |place| place.node.set_mode(thread, mode), local)
}

/// chmod(2)
pub fn chmod(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let target = target_at(thread, HERE, arguments.address(0), 0)?;
    set_mode(thread, target, arguments.uint(1))
}

/// fchmod(2)
pub fn fchmod(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let target = target_of(thread, arguments.fd(0))?;
    set_mode(thread, target, arguments.uint(1))
}

/// fchmodat(2)
pub fn fchmodat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let target = target_at(thread, arguments.fd(0), arguments.address(1), 0)?;
    set_mode(thread, target, arguments.uint(2))
}

/// fchmodat2(2)
pub fn fchmodat2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = at_flags(arguments.int(3), libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    let target = target_at(thread, arguments.fd(0), arguments.address(1), flags)?;
    set_mode(thread, target, arguments.uint(2))
}

fn set_owner(thread: &Thread, target: Target, uid: u32, gid: u32) -> SysResult {
    let given = |id: u32| (id != u32::MAX).then_some(id);
    let (uid, gid) = (given(uid), given(gid));
    let local = |file: &OpenFile| {
        let mut ownership = file.ops.ownership().ok_or(Errno::EPERM)?.lock();
        let credentials = thread.credentials();
        let own = credentials.fsuid == ownership.uid;
        let to_own_group = |gid| gid == credentials.fsgid || credentials.groups.contains(&gid);
        let allowed = uid.is_none_or(|uid| own && uid == ownership.uid) && gid.is_none_or(|gid| own && to_own_group(gid));
        if !allowed && !credentials.has(CAP_CHOWN) {
            return Err(Errno::EPERM);
        }
        ownership.uid = uid.unwrap_or(ownership.uid);
        ownership.gid = gid.unwrap_or(ownership.gid);
        Ok(())
    };
    change(thread, target, |at| Request::Chown { at, uid, gid }, |place| place.node.set_owner(thread, uid, gid), local)
}

/// chown(2)
pub fn chown(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let target = target_at(thread, HERE, arguments.address(0), 0)?;
    set_owner(thread, target, arguments.uint(1), arguments.uint(2))
}

/// lchown(2)
pub fn lchown(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let target = target_at(thread, HERE, arguments.address(0), libc::AT_SYMLINK_NOFOLLOW)?;
    set_owner(thread, target, arguments.uint(1), arguments.uint(2))
}

/// fchown(2)
pub fn fchown(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let target = target_of(thread, arguments.fd(0))?;
    set_owner(thread, target, arguments.uint(1), arguments.uint(2))
}

/// fchownat(2)
pub fn fchownat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = at_flags(arguments.int(4), libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    let target = target_at(thread, arguments.fd(0), arguments.address(1), flags)?;
    set_owner(thread, target, arguments.uint(2), arguments.uint(3))
}

fn set_times(thread: &Thread, target: Target, accessed: SetTime, modified: SetTime) -> SysResult {
    if (accessed, modified) == (SetTime::Keep, SetTime::Keep) {
        return Ok(0);
    }
    // Files that are not on a mount keep no times: setting them is allowed and forgotten, except in special file systems.
    change(thread, target, |at| Request::SetTimes { at, accessed, modified }, |_| Err(Errno::EPERM), |_| Ok(()))
}

fn microseconds([seconds, microseconds]: [i64; 2]) -> Result<SetTime, Errno> {
    match u32::try_from(microseconds) {
        Ok(micros) if micros < 1_000_000 => Ok(SetTime::To(Timestamp { seconds, nanoseconds: micros * 1000 })),
        _ => Err(Errno::EINVAL),
    }
}

fn nanoseconds([seconds, nanoseconds]: [i64; 2]) -> Result<SetTime, Errno> {
    match nanoseconds {
        libc::UTIME_NOW => Ok(SetTime::Now),
        libc::UTIME_OMIT => Ok(SetTime::Keep),
        0..1_000_000_000 => Ok(SetTime::To(Timestamp { seconds, nanoseconds: nanoseconds as u32 })),
        _ => Err(Errno::EINVAL),
    }
}

/// The two times of an argument, each as two words; NULL is now.
fn times_argument(
    thread: &Thread,
    address: UserAddress,
    parse: impl Fn([i64; 2]) -> Result<SetTime, Errno>,
) -> Result<(SetTime, SetTime), Errno> {
    if address.is_null() {
        return Ok((SetTime::Now, SetTime::Now));
    }
    let [a, b, c, d]: [i64; 4] = thread.memory().read_value(address)?;
    Ok((parse([a, b])?, parse([c, d])?))
}

/// utime(2)
pub fn utime(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (accessed, modified) = match arguments.address(1) {
        UserAddress::NULL => (SetTime::Now, SetTime::Now),
        address => {
            let times: [i64; 2] = thread.memory().read_value(address)?;
            let [accessed, modified] = times.map(|seconds| SetTime::To(Timestamp { seconds, nanoseconds: 0 }));
            (accessed, modified)
        }
    };
    let target = target_at(thread, HERE, arguments.address(0), 0)?;
    set_times(thread, target, accessed, modified)
}

/// utimes(2)
pub fn utimes(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (accessed, modified) = times_argument(thread, arguments.address(1), microseconds)?;
    let target = target_at(thread, HERE, arguments.address(0), 0)?;
    set_times(thread, target, accessed, modified)
}

/// futimesat(2)
pub fn futimesat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (accessed, modified) = times_argument(thread, arguments.address(2), microseconds)?;
    let target = match arguments.address(1) {
        UserAddress::NULL => target_of(thread, arguments.fd(0))?,
        path => target_at(thread, arguments.fd(0), path, 0)?,
    };
    set_times(thread, target, accessed, modified)
}

/// utimensat(2)
pub fn utimensat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = at_flags(arguments.int(3), libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    let (accessed, modified) = times_argument(thread, arguments.address(2), nanoseconds)?;
    let target = match arguments.address(1) {
        UserAddress::NULL if arguments.fd(0) == HERE => return Err(Errno::EFAULT),
        UserAddress::NULL => target_of(thread, arguments.fd(0))?,
        path => target_at(thread, arguments.fd(0), path, flags)?,
    };
    set_times(thread, target, accessed, modified)
}

/// truncate(2)
pub fn truncate(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let size = u64::try_from(arguments.long(1)).map_err(|_| Errno::EINVAL)?;
    if size > thread.limit(libc::RLIMIT_FSIZE).0 {
        thread.send_signal(SignalInfo::kernel(libc::SIGXFSZ));
        return Err(Errno::EFBIG);
    }
    let target = target_at(thread, HERE, arguments.address(0), 0)?;
    change(thread, target, |at| Request::Truncate { at, size }, |_| Err(Errno::EINVAL), |file| file.ops.truncate(file, size))
}

/// umask(2)
pub fn set_umask(thread: &mut Thread, arguments: Arguments) -> SysResult {
    Ok(thread.fs().umask.swap(arguments.uint(0) & 0o777, Ordering::Relaxed) as u64)
}

/// sync(2)
pub fn sync(thread: &mut Thread, _: Arguments) -> SysResult {
    if let Err(errno) = thread.kernel.vfs.order(&Request::Sync { node: None }) {
        tracing::warn!(%errno, "sync failed");
    }
    Ok(0)
}

/// syncfs(2)
pub fn syncfs(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = usable(thread, arguments.fd(0))?;
    if let Some(crate::fs::Location::Vfs(handle)) = &file.location {
        thread.kernel.vfs.order(&Request::Sync { node: Some(handle.node) })?;
    }
    Ok(0)
}
