//! What files are: stat(2), statx(2), access(2), statfs(2).

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, FsStatistics, Reply, Request, Timestamp},
};
use zerocopy::{Immutable, IntoBytes};

use super::path::{at_flags, path_argument, wrong};
use crate::{
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    fs::{
        cached::Cache,
        path::{Answer, Walk, stat as attributes_of},
        pipe::PipeFile,
        regular::RegularFile,
        special::permit,
    },
    task::Thread,
};

/// struct stat of x86-64.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Stat {
    device: u64,
    inode: u64,
    links: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    padding: u32,
    special_device: u64,
    size: i64,
    block_size: i64,
    blocks: i64,
    times: [i64; 6],
    unused: [i64; 3],
}

const _: () = assert!(size_of::<Stat>() == size_of::<libc::stat>());

impl From<&Attributes> for Stat {
    fn from(from: &Attributes) -> Stat {
        let [a, m, c] = [from.accessed, from.modified, from.changed];
        Stat {
            device: from.device,
            inode: from.inode,
            links: from.links as u64,
            mode: from.mode,
            uid: from.uid,
            gid: from.gid,
            padding: 0,
            special_device: from.special_device,
            size: from.size as i64,
            block_size: from.block_size as i64,
            blocks: from.blocks as i64,
            times: [a.seconds, a.nanoseconds as i64, m.seconds, m.nanoseconds as i64, c.seconds, c.nanoseconds as i64],
            unused: [0; 3],
        }
    }
}

/// The attributes of (`fd`, `path`) under AT_* `flags`.
fn find(thread: &Thread, fd: FdNumber, path: UserAddress, flags: i32) -> Result<Attributes, Errno> {
    let empty = flags & libc::AT_EMPTY_PATH != 0;
    let path = if empty && path.is_null() { Vec::new() } else { path_argument(thread, path)? };
    if path.is_empty() && empty && fd != FdNumber::WORKING_DIRECTORY {
        return thread.files().get(fd)?.ops.attributes(thread);
    }
    let mut walk = Walk::new(thread);
    let target = walk.resolve(fd, &path, flags & libc::AT_SYMLINK_NOFOLLOW == 0, empty)?;
    attributes_of(&mut walk, target)
}

fn give(thread: &Thread, address: UserAddress, attributes: &Attributes) -> SysResult {
    thread.memory().write_value(address, &Stat::from(attributes))?;
    Ok(0)
}

/// stat(2)
pub fn stat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let attributes = find(thread, FdNumber::WORKING_DIRECTORY, arguments.address(0), 0)?;
    give(thread, arguments.address(1), &attributes)
}

/// lstat(2)
pub fn lstat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let attributes = find(thread, FdNumber::WORKING_DIRECTORY, arguments.address(0), libc::AT_SYMLINK_NOFOLLOW)?;
    give(thread, arguments.address(1), &attributes)
}

/// fstat(2)
pub fn fstat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let attributes = thread.files().get(arguments.fd(0))?.ops.attributes(thread)?;
    give(thread, arguments.address(1), &attributes)
}

/// newfstatat(2)
pub fn newfstatat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    let flags = at_flags(arguments.int(3), known)?;
    let attributes = find(thread, arguments.fd(0), arguments.address(1), flags)?;
    give(thread, arguments.address(2), &attributes)
}

/// struct statx_timestamp.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct StatxTime {
    seconds: i64,
    nanoseconds: u32,
    reserved: i32,
}

impl From<Timestamp> for StatxTime {
    fn from(from: Timestamp) -> StatxTime {
        StatxTime { seconds: from.seconds, nanoseconds: from.nanoseconds, reserved: 0 }
    }
}

/// struct statx.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare: u16,
    inode: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: StatxTime,
    created: StatxTime,
    changed: StatxTime,
    modified: StatxTime,
    special_device: [u32; 2],
    device: [u32; 2],
    mount: u64,
    rest: [u64; 13],
}

const _: () = assert!(size_of::<Statx>() == size_of::<libc::statx>());

/// statx(2)
pub fn statx(thread: &mut Thread, arguments: Arguments) -> SysResult {
    /// AT_STATX_FORCE_SYNC and AT_STATX_DONT_SYNC.
    const SYNC: i32 = 0x6000;
    const BASIC: u32 = 0x7ff;
    const BIRTH: u32 = 0x800;
    const MOUNT: u32 = 0x1000;
    let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT | SYNC;
    let flags = at_flags(arguments.int(2), known)?;
    if flags & SYNC == SYNC || arguments.uint(3) & 1 << 31 != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, arguments.fd(0), arguments.address(1), flags)?;
    let birth = if found.created == Timestamp::default() { 0 } else { BIRTH };
    let numbers = |device: u64| [libc::major(device), libc::minor(device)];
    let statx = Statx {
        mask: BASIC | birth | MOUNT,
        block_size: found.block_size,
        attributes: 0,
        links: found.links,
        uid: found.uid,
        gid: found.gid,
        mode: found.mode as u16,
        spare: 0,
        inode: found.inode,
        size: found.size,
        blocks: found.blocks,
        attributes_mask: 0,
        accessed: found.accessed.into(),
        created: found.created.into(),
        changed: found.changed.into(),
        modified: found.modified.into(),
        special_device: numbers(found.special_device),
        device: numbers(found.device),
        mount: found.mount as u64,
        rest: [0; 13],
    };
    thread.memory().write_value(arguments.address(4), &statx)?;
    Ok(0)
}

/// access(2)
pub fn access(thread: &mut Thread, arguments: Arguments) -> SysResult {
    check(thread, FdNumber::WORKING_DIRECTORY, arguments.address(0), arguments.uint(1), 0)
}

/// faccessat(2)
pub fn faccessat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    check(thread, arguments.fd(0), arguments.address(1), arguments.uint(2), 0)
}

/// faccessat2(2)
pub fn faccessat2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = at_flags(arguments.int(3), libc::AT_EACCESS | libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    check(thread, arguments.fd(0), arguments.address(1), arguments.uint(2), flags)
}

fn check(thread: &Thread, fd: FdNumber, path: UserAddress, mode: u32, flags: i32) -> SysResult {
    if mode & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path_argument(thread, path)?;
    let mut credentials = (*thread.credentials()).clone();
    let mut walk = Walk::new(thread);
    if flags & libc::AT_EACCESS == 0 {
        // The real ids, with the capabilities that such a user has.
        credentials.fsuid = credentials.uid;
        credentials.fsgid = credentials.gid;
        credentials.capabilities.effective = match credentials.uid {
            0 => credentials.capabilities.permitted,
            _ => 0,
        };
        walk.caller.uid = credentials.fsuid;
        walk.caller.gid = credentials.fsgid;
        walk.caller.capabilities = credentials.capabilities.effective;
    }
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let target = walk.resolve(fd, &path, follow, flags & libc::AT_EMPTY_PATH != 0)?;
    if let Some(found) = walk.look(&target) {
        Cache::access(&walk.caller, &found?, mode)?;
        return Ok(0);
    }
    let attributes = match walk.ask(target, |at| Request::Access { at, mode })? {
        Answer::Vfs(Reply::Done, _) => return Ok(0),
        Answer::Vfs(other, _) => return wrong(other),
        Answer::Special(place) => {
            if mode & 2 != 0 && place.mount.flags & libc::ST_RDONLY as u32 != 0 {
                return Err(Errno::EROFS);
            }
            place.attributes(thread)?
        }
        Answer::File(file) => file.ops.attributes(thread)?,
    };
    permit(&credentials, &attributes, mode)?;
    Ok(0)
}

/// struct statfs.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Statfs {
    magic: u64,
    block_size: u64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    files: u64,
    files_free: u64,
    id: [u32; 2],
    name_length: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}

const _: () = assert!(size_of::<Statfs>() == size_of::<libc::statfs>());

/// Statistics of the file systems that pipes, memfds and other files without a path are on.
fn anonymous(magic: u64) -> FsStatistics {
    FsStatistics { magic, block_size: 4096, name_length: 255, ..FsStatistics::default() }
}

fn file_system(thread: &Thread, mut walk: Walk<'_>, target: crate::fs::path::Target, buffer: UserAddress) -> SysResult {
    const PIPEFS: u64 = 0x5049_5045;
    const TMPFS: u64 = 0x0102_1994;
    const ANONYMOUS: u64 = 0x0904_1934;
    const VALID: u64 = 0x20;
    let found = match walk.ask(target, |at| Request::Statfs { at })? {
        Answer::Vfs(Reply::Statistics(found), _) => found,
        Answer::Vfs(other, _) => return wrong(other),
        Answer::Special(place) => place.statistics(),
        Answer::File(file) if file.downcast::<PipeFile>().is_some() => anonymous(PIPEFS),
        Answer::File(file) if file.downcast::<RegularFile>().is_some() => anonymous(TMPFS),
        Answer::File(_) => anonymous(ANONYMOUS),
    };
    let statfs = Statfs {
        magic: found.magic,
        block_size: found.block_size,
        blocks: found.blocks,
        blocks_free: found.blocks_free,
        blocks_available: found.blocks_available,
        files: found.files,
        files_free: found.files_free,
        id: [0; 2],
        name_length: found.name_length,
        fragment_size: found.block_size,
        flags: found.flags | VALID,
        spare: [0; 4],
    };
    thread.memory().write_value(buffer, &statfs)?;
    Ok(0)
}

/// statfs(2)
pub fn statfs(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let path = path_argument(thread, arguments.address(0))?;
    let mut walk = Walk::new(thread);
    let target = walk.resolve(FdNumber::WORKING_DIRECTORY, &path, true, false)?;
    file_system(thread, walk, target, arguments.address(1))
}

/// fstatfs(2)
pub fn fstatfs(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = thread.files().get(arguments.fd(0))?;
    let walk = Walk::new(thread);
    let target = walk.file(&file);
    file_system(thread, walk, target, arguments.address(1))
}
