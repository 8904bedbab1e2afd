//! Directories: reading them, and the working and root directory.

use bulkhead_ipc::{
    Errno,
    vfs::{DirEntry, Reply, Request},
};

use super::{io::usable, path::path_argument};
use crate::{
    abi::{Arguments, FdNumber, SysResult},
    fs::{
        Location,
        path::{Answer, Target, Walk, locate},
        regular::path_of,
        special::{EXECUTE, permit},
    },
    task::Thread,
};

/// The form of an entry in a getdents buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// struct linux_dirent: the type is the record's last byte.
    Old,
    /// struct linux_dirent64: the type is before the name.
    New,
}

/// Appends an entry, unless it would grow `bytes` beyond `space`.
fn append(bytes: &mut Vec<u8>, space: usize, entry: &DirEntry, form: Form) -> bool {
    const HEAD: usize = 18;
    let start = bytes.len();
    let needed = match form {
        Form::Old => HEAD + entry.name.len() + 2,
        Form::New => HEAD + 1 + entry.name.len() + 1,
    };
    let length = needed.next_multiple_of(8);
    if length > space - start {
        return false;
    }
    bytes.extend_from_slice(&entry.inode.to_ne_bytes());
    bytes.extend_from_slice(&entry.next.to_ne_bytes());
    bytes.extend_from_slice(&(length as u16).to_ne_bytes());
    if form == Form::New {
        bytes.push(entry.kind);
    }
    bytes.extend_from_slice(&entry.name);
    bytes.resize(start + length, 0);
    if form == Form::Old {
        bytes[start + length - 1] = entry.kind;
    }
    true
}

fn read_entries(thread: &Thread, arguments: &Arguments, form: Form) -> SysResult {
    /// More than this in one call gains nothing.
    const MOST: usize = 256 * 1024;
    let file = usable(thread, arguments.fd(0))?;
    let space = (arguments.uint(2) as usize).min(MOST);
    let before = *file.position.lock();
    let mut bytes = Vec::with_capacity(space.min(32 * 1024));
    let mut full = false;
    file.ops.read_directory(thread, &file, &mut |entry| {
        let fits = append(&mut bytes, space, entry, form);
        full |= !fits;
        fits
    })?;
    if bytes.is_empty() && full {
        return Err(Errno::EINVAL);
    }
    if let Err(errno) = thread.memory().write(arguments.address(1), &bytes) {
        *file.position.lock() = before;
        return Err(errno);
    }
    Ok(bytes.len() as u64)
}

/// getdents(2)
pub fn getdents(thread: &mut Thread, arguments: Arguments) -> SysResult {
    read_entries(thread, &arguments, Form::Old)
}

/// getdents64(2)
pub fn getdents64(thread: &mut Thread, arguments: Arguments) -> SysResult {
    read_entries(thread, &arguments, Form::New)
}

/// getcwd(2)
pub fn getcwd(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let fs = thread.fs();
    let root = fs.root_node();
    let directory = fs.directory.read().clone();
    let mut path = match &directory {
        Location::Vfs(handle) => path_of(handle, root)?,
        Location::Special(place) => place.path(root),
    };
    if path.ends_with(b" (deleted)") {
        return Err(Errno::ENOENT);
    }
    path.push(0);
    if path.len() > arguments.size(1) {
        return Err(Errno::ERANGE);
    }
    thread.memory().write(arguments.address(0), &path)?;
    Ok(path.len() as u64)
}

/// The directory that a target is, if the caller may enter it.
fn enter(thread: &Thread, mut walk: Walk<'_>, target: Target) -> Result<Location, Errno> {
    let (location, attributes) = locate(&mut walk, target, true)?;
    if permit(&thread.credentials(), &attributes, EXECUTE).is_ok() {
        return Ok(location);
    }
    // Mode bits do not say it all (an access control list may allow it): the owner of the file system decides.
    let itself = walk.here(&location);
    match walk.ask(itself, |at| Request::Access { at, mode: EXECUTE })? {
        Answer::Vfs(Reply::Done, _) => Ok(location),
        _ => Err(Errno::EACCES),
    }
}

/// The directory of a path argument.
fn enter_path(thread: &Thread, arguments: &Arguments) -> Result<Location, Errno> {
    let path = path_argument(thread, arguments.address(0))?;
    let mut walk = Walk::new(thread);
    let target = walk.resolve(FdNumber::WORKING_DIRECTORY, &path, true, false)?;
    enter(thread, walk, target)
}

/// chdir(2)
pub fn chdir(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let location = enter_path(thread, &arguments)?;
    *thread.fs().directory.write() = location;
    Ok(0)
}

/// fchdir(2)
pub fn fchdir(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = thread.files().get(arguments.fd(0))?;
    let walk = Walk::new(thread);
    let target = match walk.file(&file) {
        Target::File(_) => return Err(Errno::ENOTDIR),
        target => target,
    };
    let location = enter(thread, walk, target)?;
    *thread.fs().directory.write() = location;
    Ok(0)
}

/// chroot(2)
pub fn chroot(thread: &mut Thread, arguments: Arguments) -> SysResult {
    const CAP_SYS_CHROOT: u32 = 18;
    let location = enter_path(thread, &arguments)?;
    if !thread.credentials().has(CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    *thread.fs().root.write() = location;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_end_with_a_nul() {
        let entry = DirEntry { inode: 7, next: 9, kind: libc::DT_REG, name: b"name5".to_vec() };
        for (form, length) in [(Form::New, 32), (Form::Old, 32)] {
            let mut bytes = Vec::new();
            assert!(append(&mut bytes, 64, &entry, form));
            assert_eq!(bytes.len(), length);
            assert!(append(&mut bytes, 64, &entry, form));
            assert!(!append(&mut bytes, 64, &entry, form));
            assert_eq!(u16::from_ne_bytes([bytes[16], bytes[17]]) as usize, length);
        }
        let mut bytes = Vec::new();
        append(&mut bytes, 64, &entry, Form::Old);
        assert_eq!((bytes[23], bytes[31]), (0, libc::DT_REG));
    }
}
