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
