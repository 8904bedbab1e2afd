//! pipe(2).

use std::sync::Arc;

use bulkhead_ipc::Errno;

use super::fd::install;
use crate::{
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    fs::{OpenFile, pipe::Pipe},
    task::Thread,
};

/// pipe(2)
pub fn pipe(thread: &mut Thread, arguments: Arguments) -> SysResult {
    make(thread, arguments.address(0), 0)
}

/// pipe2(2)
pub fn pipe2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    make(thread, arguments.address(0), arguments.int(1))
}

fn make(thread: &Thread, address: UserAddress, flags: i32) -> SysResult {
    // O_EXCL is O_NOTIFICATION_PIPE here, which a kernel without watch queues does not know.
    if flags & !(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let status = (flags & (libc::O_NONBLOCK | libc::O_DIRECT)) as u32;
    let (reader, writer) = Pipe::pair(&thread.credentials(), status);
    install_two(thread, [reader, writer], flags & libc::O_CLOEXEC != 0, address)
}

/// Installs two files, or none, and writes their numbers to `address`.
pub(super) fn install_two(
    thread: &Thread,
    [first, second]: [Arc<OpenFile>; 2],
    close_on_exec: bool,
    address: UserAddress,
) -> SysResult {
    let files = thread.files();
    let first = install(thread, first, close_on_exec)? as i32;
    let outcome = install(thread, second, close_on_exec).and_then(|second| {
        let written = thread.memory().write_value(address, &[first, second as i32]);
        written.inspect_err(|_| drop(files.remove(FdNumber(second as i32))))
    });
    if let Err(errno) = outcome {
        drop(files.remove(FdNumber(first)));
        return Err(errno);
    }
    Ok(0)
}
