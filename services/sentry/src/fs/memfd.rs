//! memfd_create(2): a memfd of the host's, whose seals are the host's as well.

use std::{ffi::CString, sync::Arc};

use bulkhead_ipc::Errno;

use super::{OpenFile, host_io, ownership::LocalInode, regular::RegularFile};
use crate::task::Thread;

/// Makes one; `flags` are MFD_*.
pub fn create(thread: &Thread, name: &[u8], flags: u32) -> Result<Arc<OpenFile>, Errno> {
    const KNOWN: u32 = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_NOEXEC_SEAL | libc::MFD_EXEC;
    // MFD_HUGETLB would need huge pages of the host.
    if flags & !KNOWN != 0 || flags & (libc::MFD_NOEXEC_SEAL | libc::MFD_EXEC) == libc::MFD_NOEXEC_SEAL | libc::MFD_EXEC {
        return Err(Errno::EINVAL);
    }
    if name.len() > 249 {
        return Err(Errno::EINVAL);
    }
    let sealable = flags & (libc::MFD_ALLOW_SEALING | libc::MFD_NOEXEC_SEAL) != 0;
    let host_flags = libc::MFD_CLOEXEC | if sealable { libc::MFD_ALLOW_SEALING } else { 0 };
    let fd = host_io::memfd(c"guest", host_flags)?;
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?.into_bytes();
    let permissions = if flags & libc::MFD_NOEXEC_SEAL != 0 { 0o666 } else { 0o777 };
    let file = RegularFile::memory(fd, LocalInode::new(permissions, &thread.credentials()), name);
    Ok(OpenFile::new(Arc::new(file), (libc::O_RDWR | super::open::O_LARGEFILE) as u32, None))
}

/// F_GET_SEALS.
pub fn seals(file: &RegularFile) -> Result<u64, Errno> {
    match file.is_memory() {
        true => Ok(host_io::control(file.host_fd(), libc::F_GET_SEALS, 0)? as u64),
        false => Err(Errno::EINVAL),
    }
}

/// F_ADD_SEALS.
pub fn add_seals(file: &RegularFile, seals: i32) -> Result<u64, Errno> {
    match file.is_memory() {
        true => Ok(host_io::control(file.host_fd(), libc::F_ADD_SEALS, seals)? as u64),
        false => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fs::{FileOps, Offset},
        task::Credentials,
    };

    fn file(flags: i32) -> Arc<OpenFile> {
        let fd = host_io::memfd(c"test", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING).expect("a memfd");
        let file = RegularFile::memory(fd, LocalInode::new(0o777, &Credentials::default()), b"test".to_vec());
        OpenFile::new(Arc::new(file), flags as u32, None)
    }

    #[test]
    fn what_appends_goes_to_the_end_and_takes_the_position_along() {
        let file = file(libc::O_RDWR | libc::O_APPEND);
        let regular: &dyn FileOps = &*file.ops;
        assert_eq!(regular.write_bytes(&file, b"first", Offset::Current), Ok(5));
        assert_eq!(regular.seek(&file, 0, libc::SEEK_SET), Ok(0));
        assert_eq!(regular.write_bytes(&file, b"more", Offset::Current), Ok(4));
        assert_eq!(*file.position.lock(), 9);
        let mut bytes = [0; 16];
        assert_eq!(regular.read_bytes(&file, &mut bytes, Offset::At(0)), Ok(9));
        assert_eq!(&bytes[..9], b"firstmore");
    }

    #[test]
    fn positions_are_checked() {
        let file = file(libc::O_RDWR);
        file.ops.truncate(&file, 100).expect("it grows");
        assert_eq!(file.ops.seek(&file, -1, libc::SEEK_SET), Err(Errno::EINVAL));
        assert_eq!(file.ops.seek(&file, -10, libc::SEEK_END), Ok(90));
        assert_eq!(file.ops.seek(&file, i64::MAX, libc::SEEK_CUR), Err(Errno::EOVERFLOW));
        assert_eq!(file.ops.seek(&file, 0, libc::SEEK_DATA), Err(Errno::ENXIO));
        assert_eq!(file.ops.seek(&file, 0, 99), Err(Errno::EINVAL));
    }

    #[test]
    fn a_sealed_file_does_not_grow() {
        let file = file(libc::O_RDWR);
        let regular = file.downcast::<RegularFile>().expect("it is one");
        add_seals(regular, libc::F_SEAL_GROW).expect("it may be sealed");
        assert_eq!(seals(regular), Ok(libc::F_SEAL_GROW as u64));
        assert_eq!(file.ops.truncate(&file, 1), Err(Errno::EPERM));
    }
}
