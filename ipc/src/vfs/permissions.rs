//! Who may do what (path_resolution(7), capabilities(7)). vfs decides, and the sentry for what is published and for its own file
//! systems: they have to agree.

use super::{Attributes, Caller};
use crate::Errno;

/// Asked of a file: execute or search.
pub const EXECUTE: u32 = 1;
/// Asked of a file: write.
pub const WRITE: u32 = 2;
/// Asked of a file: read.
pub const READ: u32 = 4;

const RDONLY: u32 = libc::ST_RDONLY as u32;
const NOEXEC: u32 = libc::ST_NOEXEC as u32;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// Who asks, without what they own.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// File-system user id.
    pub uid: u32,
    /// File-system group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'a [u32],
    /// Effective capabilities.
    pub capabilities: u64,
}

impl<'a> From<&'a Caller> for Asker<'a> {
    fn from(caller: &'a Caller) -> Self {
        Asker { uid: caller.uid, gid: caller.gid, groups: &caller.groups, capabilities: caller.capabilities }
    }
}

/// EACCES unless who asks may do all of `wanted` (a mask of [`READ`], [`WRITE`], [`EXECUTE`]).
pub fn permit<'a>(asker: impl Into<Asker<'a>>, attributes: &Attributes, wanted: u32) -> Result<(), Errno> {
    let asker = asker.into();
    let shift = if asker.uid == attributes.uid {
        6
    } else if asker.gid == attributes.gid || asker.groups.contains(&attributes.gid) {
        3
    } else {
        0
    };
    if wanted & !(attributes.mode >> shift) & 7 == 0 {
        return Ok(());
    }
    let directory = attributes.mode & libc::S_IFMT == libc::S_IFDIR;
    let executable = directory || attributes.mode & 0o111 != 0;
    if asker.capabilities & CAP_DAC_OVERRIDE != 0 && (wanted & EXECUTE == 0 || executable) {
        return Ok(());
    }
    let read_search = if directory { READ | EXECUTE } else { READ };
    if asker.capabilities & CAP_DAC_READ_SEARCH != 0 && wanted & !read_search == 0 {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// access(2) on a mount with these ST_* flags: EACCES; EROFS where writing is asked for.
pub fn permit_access<'a>(
    asker: impl Into<Asker<'a>>,
    attributes: &Attributes,
    mount_flags: u32,
    wanted: u32,
) -> Result<(), Errno> {
    let kind = attributes.mode & libc::S_IFMT;
    if wanted & EXECUTE != 0 && kind == libc::S_IFREG && mount_flags & NOEXEC != 0 {
        return Err(Errno::EACCES);
    }
    permit(asker, attributes, wanted)?;
    // A device, FIFO or socket can be written to whatever its file system is.
    let is_written = [libc::S_IFREG, libc::S_IFDIR, libc::S_IFLNK].contains(&kind);
    if wanted & WRITE != 0 && is_written && mount_flags & RDONLY != 0 { Err(Errno::EROFS) } else { Ok(()) }
}

/// execve(2) from a mount with these ST_* flags: EACCES.
pub fn permit_execution<'a>(asker: impl Into<Asker<'a>>, attributes: &Attributes, mount_flags: u32) -> Result<(), Errno> {
    if attributes.mode & libc::S_IFMT != libc::S_IFREG || mount_flags & NOEXEC != 0 {
        return Err(Errno::EACCES);
    }
    permit(asker, attributes, EXECUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32) -> Attributes {
        Attributes { mode, uid: 10, gid: 20, ..Attributes::default() }
    }

    fn asker(uid: u32, gid: u32, capabilities: u64) -> Asker<'static> {
        Asker { uid, gid, groups: &[], capabilities }
    }

    #[test]
    fn only_the_first_class_that_fits_counts() {
        let odd = file(libc::S_IFREG | 0o077);
        assert_eq!(permit(asker(10, 20, 0), &odd, READ), Err(Errno::EACCES));
        assert_eq!(permit(asker(11, 20, 0), &odd, READ | WRITE), Ok(()));
        assert_eq!(permit(asker(11, 21, 0), &file(libc::S_IFREG | 0o640), READ), Err(Errno::EACCES));
        let member = Asker { groups: &[7, 20], ..asker(11, 21, 0) };
        assert_eq!(permit(member, &file(libc::S_IFREG | 0o640), READ), Ok(()));
    }

    #[test]
    fn override_does_not_run_what_nobody_may_run() {
        let root = asker(0, 0, CAP_DAC_OVERRIDE);
        assert_eq!(permit(root, &file(libc::S_IFREG), READ | WRITE), Ok(()));
        assert_eq!(permit(root, &file(libc::S_IFREG | 0o600), EXECUTE), Err(Errno::EACCES));
        assert_eq!(permit(root, &file(libc::S_IFREG | 0o001), EXECUTE), Ok(()));
        assert_eq!(permit(root, &file(libc::S_IFDIR), EXECUTE), Ok(()));
    }

    #[test]
    fn read_search_does_not_write() {
        let reader = asker(5, 5, CAP_DAC_READ_SEARCH);
        assert_eq!(permit(reader, &file(libc::S_IFDIR), READ | EXECUTE), Ok(()));
        assert_eq!(permit(reader, &file(libc::S_IFDIR), WRITE), Err(Errno::EACCES));
        assert_eq!(permit(reader, &file(libc::S_IFREG), READ | EXECUTE), Err(Errno::EACCES));
    }
}
