//! open(2) and its kin.

use bulkhead_ipc::Errno;

use super::{fd::install, path::path_argument};
use crate::{
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    fs::{
        Location,
        open::{OpenRequest, checked_flags, open_with},
        path::{Target, Walk, directory, locate, stat},
    },
    task::Thread,
};

/// open(2)
pub async fn open(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = checked_flags(arguments.uint(1) as u64, false)?;
    finish(thread, FdNumber::WORKING_DIRECTORY, arguments.address(0), flags, arguments.uint(2)).await
}

/// creat(2)
pub async fn creat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = checked_flags((libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64, false)?;
    finish(thread, FdNumber::WORKING_DIRECTORY, arguments.address(0), flags, arguments.uint(1)).await
}

/// openat(2)
pub async fn openat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = checked_flags(arguments.uint(2) as u64, false)?;
    finish(thread, arguments.fd(0), arguments.address(1), flags, arguments.uint(3)).await
}

async fn finish(thread: &mut Thread, directory: FdNumber, path: UserAddress, flags: u32, mode: u32) -> SysResult {
    let request = OpenRequest { directory, path: path_argument(thread, path)?, flags, mode };
    room(thread)?;
    let opening = open_with(thread, Walk::new(thread), &request);
    let file = opening.await?;
    install(thread, file, flags & libc::O_CLOEXEC as u32 != 0)
}

/// EMFILE before anything is made.
fn room(thread: &Thread) -> Result<(), Errno> {
    let room = thread.files().has_room(thread.limit(libc::RLIMIT_NOFILE).0);
    if room { Ok(()) } else { Err(Errno::EMFILE) }
}

const RESOLVE_NO_XDEV: u64 = 1;
const RESOLVE_NO_MAGICLINKS: u64 = 2;
const RESOLVE_NO_SYMLINKS: u64 = 4;
const RESOLVE_BENEATH: u64 = 8;
const RESOLVE_IN_ROOT: u64 = 16;
const RESOLVE_CACHED: u64 = 32;

/// openat2(2)
pub async fn openat2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    const SIZE: usize = 24;
    let size = arguments.size(3);
    if size < SIZE {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let memory = thread.memory();
    let mut bytes = vec![0; size];
    memory.read(arguments.address(2), &mut bytes)?;
    if bytes[SIZE..].iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve]: [u64; 3] = memory.read_value(arguments.address(2))?;
    let checked = checked_flags(flags, true)?;
    let creates = flags & libc::O_CREAT as u64 != 0 || flags as i32 & libc::O_TMPFILE == libc::O_TMPFILE;
    if mode & !0o7777 != 0 || (mode != 0 && !creates) {
        return Err(Errno::EINVAL);
    }
    let known = RESOLVE_CACHED * 2 - 1;
    if resolve & !known != 0 || resolve & RESOLVE_BENEATH != 0 && resolve & RESOLVE_IN_ROOT != 0 {
        return Err(Errno::EINVAL);
    }
    if resolve & RESOLVE_CACHED != 0 {
        // Whether vfs has it cached is not known here, and "try again without" is always a right answer.
        return Err(Errno::EAGAIN);
    }
    let path = path_argument(thread, arguments.address(1))?;
    let request = OpenRequest { directory: arguments.fd(0), path, flags: checked, mode: mode as u32 };
    room(thread)?;
    let opening = {
        let walk = restricted(thread, &request, resolve)?;
        open_with(thread, walk, &request)
    };
    let file = opening.await?;
    install(thread, file, checked & libc::O_CLOEXEC as u32 != 0)
}

/// A walk under RESOLVE_* flags.
fn restricted<'t>(thread: &'t Thread, request: &OpenRequest, resolve: u64) -> Result<Walk<'t>, Errno> {
    let mut walk = Walk::new(thread);
    walk.no_magic_links = resolve & (RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_IN_ROOT) != 0;
    if resolve & RESOLVE_BENEATH != 0 && !stays_beneath(&request.path) {
        return Err(Errno::EXDEV);
    }
    if resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT) != 0 {
        let root = directory(thread, request.directory)?;
        if matches!(root, Location::Special(_)) {
            return Err(Errno::EXDEV);
        }
        walk.root = root;
    }
    if resolve & RESOLVE_NO_SYMLINKS != 0 {
        refuse_links(thread, request)?;
    }
    if resolve & RESOLVE_NO_XDEV != 0 {
        let base = walk.here(&directory(thread, request.directory)?);
        let home = stat(&mut walk, base)?.mount;
        let target = walk.resolve(request.directory, &request.path, true, false)?;
        match stat(&mut walk, target) {
            Ok(attributes) if attributes.mount != home => return Err(Errno::EXDEV),
            _ => {}
        }
    }
    Ok(walk)
}

/// Whether a path is relative and never goes above where it starts by `..`.
fn stays_beneath(path: &[u8]) -> bool {
    let mut depth = 0i32;
    !path.starts_with(b"/")
        && path.split(|&byte| byte == b'/').all(|name| {
            depth += match name {
                b"" | b"." => 0,
                b".." => -1,
                _ => 1,
            };
            depth >= 0
        })
}

/// ELOOP when any component of the path is a symbolic link.
fn refuse_links(thread: &Thread, request: &OpenRequest) -> Result<(), Errno> {
    let path = &request.path;
    let ends = (1..=path.len()).filter(|&n| path[n - 1] != b'/' && path.get(n).is_none_or(|&byte| byte == b'/'));
    for end in ends {
        let mut walk = Walk::new(thread);
        let target: Target = walk.resolve(request.directory, &path[..end], false, false)?;
        match locate(&mut walk, target, false) {
            Ok((_, attributes)) if attributes.mode & libc::S_IFMT == libc::S_IFLNK => return Err(Errno::ELOOP),
            Ok(_) => {}
            // What does not exist is no link; opening says what is wrong with it.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_climbs_is_not_beneath() {
        assert!(stays_beneath(b"a/../b//./c/"));
        assert!(!stays_beneath(b"a/../../b"));
        assert!(!stays_beneath(b"/a"));
        assert!(!stays_beneath(b".."));
    }
}
