//! Who may do what (path_resolution(7), capabilities(7)).

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, Caller},
};

/// Asked of a file: execute or search.
pub const EXECUTE: u32 = 1;
/// Asked of a file: write.
pub const WRITE: u32 = 2;
/// Asked of a file: read.
pub const READ: u32 = 4;

/// Capabilities that matter to files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Capability {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    Fowner = 3,
    Fsetid = 4,
    SysAdmin = 21,
    Mknod = 27,
    Setfcap = 31,
}

/// Whether the caller has a capability.
pub fn has(caller: &Caller, capability: Capability) -> bool {
    caller.capabilities & (1 << capability as u32) != 0
}

/// Whether the caller is in a group.
pub fn in_group(caller: &Caller, gid: u32) -> bool {
    caller.gid == gid || caller.groups.contains(&gid)
}

/// Whether the caller is the owner or acts as one.
pub fn owns(caller: &Caller, attributes: &Attributes) -> bool {
    caller.uid == attributes.uid || has(caller, Capability::Fowner)
}

/// EACCES unless the caller may do all of `wanted` (a mask of [`READ`], [`WRITE`], [`EXECUTE`]).
pub fn permit(caller: &Caller, attributes: &Attributes, wanted: u32) -> Result<(), Errno> {
    let shift = if caller.uid == attributes.uid {
        6
    } else if in_group(caller, attributes.gid) {
        3
    } else {
        0
    };
    if wanted & !(attributes.mode >> shift) & 7 == 0 {
        return Ok(());
    }
    let directory = attributes.mode & libc::S_IFMT == libc::S_IFDIR;
    let executable = directory || attributes.mode & 0o111 != 0;
    if has(caller, Capability::DacOverride) && (wanted & EXECUTE == 0 || executable) {
        return Ok(());
    }
    let read_search = if directory { READ | EXECUTE } else { READ };
    if has(caller, Capability::DacReadSearch) && wanted & !read_search == 0 {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// EPERM when the directory is sticky and neither it nor the file is the caller's.
pub fn permit_removal(caller: &Caller, directory: &Attributes, file: &Attributes) -> Result<(), Errno> {
    let sticky = directory.mode & libc::S_ISVTX != 0;
    let mine = caller.uid == file.uid || caller.uid == directory.uid || has(caller, Capability::Fowner);
    if sticky && !mine { Err(Errno::EPERM) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32) -> Attributes {
        Attributes { mode, uid: 10, gid: 20, ..Attributes::default() }
    }

    fn caller(uid: u32, gid: u32, capabilities: u64) -> Caller {
        Caller { uid, gid, groups: Vec::new(), capabilities }
    }

    #[test]
    fn only_the_first_class_that_fits_counts() {
        let odd = file(libc::S_IFREG | 0o077);
        assert_eq!(permit(&caller(10, 20, 0), &odd, READ), Err(Errno::EACCES));
        assert_eq!(permit(&caller(11, 20, 0), &odd, READ | WRITE), Ok(()));
        assert_eq!(permit(&caller(11, 21, 0), &file(libc::S_IFREG | 0o640), READ), Err(Errno::EACCES));
    }

    #[test]
    fn override_does_not_run_what_nobody_may_run() {
        let root = caller(0, 0, 1 << Capability::DacOverride as u32);
        assert_eq!(permit(&root, &file(libc::S_IFREG), READ | WRITE), Ok(()));
        assert_eq!(permit(&root, &file(libc::S_IFREG | 0o600), EXECUTE), Err(Errno::EACCES));
        assert_eq!(permit(&root, &file(libc::S_IFREG | 0o001), EXECUTE), Ok(()));
        assert_eq!(permit(&root, &file(libc::S_IFDIR), EXECUTE), Ok(()));
    }

    #[test]
    fn read_search_does_not_write() {
        let reader = caller(5, 5, 1 << Capability::DacReadSearch as u32);
        assert_eq!(permit(&reader, &file(libc::S_IFDIR), READ | EXECUTE), Ok(()));
        assert_eq!(permit(&reader, &file(libc::S_IFDIR), WRITE), Err(Errno::EACCES));
    }
}
