//! execve(2), execveat(2).

use crate::{
    Errno,
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    task::{Thread, exec},
};

/// execve(2).
pub async fn execve(thread: &mut Thread, arguments: Arguments) -> SysResult {
    run(thread, FdNumber::WORKING_DIRECTORY, arguments.address(0), 0, arguments.address(1), arguments.address(2)).await
}

/// execveat(2).
pub async fn execveat(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = arguments.int(4);
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    run(thread, arguments.fd(0), arguments.address(1), flags, arguments.address(2), arguments.address(3)).await
}

async fn run(
    thread: &mut Thread,
    directory: FdNumber,
    path: UserAddress,
    flags: i32,
    argv: UserAddress,
    envp: UserAddress,
) -> SysResult {
    let path = thread.memory().read_string(path, libc::PATH_MAX as usize)?;
    if path.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    exec::execute(thread, directory, &path, flags, argv, envp).await
}
