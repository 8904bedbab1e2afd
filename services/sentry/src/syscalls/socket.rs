//! Sockets: none yet. Making one fails as on a kernel without that address family; calls on other files fail as Linux has it.

use bulkhead_ipc::Errno;

use super::io::usable;
use crate::{
    abi::{Arguments, SysResult},
    task::Thread,
};

/// socket(2) and socketpair(2).
pub fn socket(_: &mut Thread, arguments: Arguments) -> SysResult {
    const TYPES: i32 = 0xf;
    let kind = arguments.int(1);
    if kind & !(TYPES | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    Err(Errno::EAFNOSUPPORT)
}

/// Every call whose first argument is a socket's fd: EBADF for what is not open, ENOTSOCK for what is.
pub fn on_socket(thread: &mut Thread, arguments: Arguments) -> SysResult {
    usable(thread, arguments.fd(0))?;
    Err(Errno::ENOTSOCK)
}
