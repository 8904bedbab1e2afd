//! Extended attributes.

use bulkhead_ipc::{
    Errno,
    vfs::{At, Reply, Request},
};

use super::{
    io::usable,
    path::{path_argument, wrong},
};
use crate::{
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    fs::path::{Answer, Target, Walk},
    task::Thread,
};

/// XATTR_SIZE_MAX, and XATTR_LIST_MAX.
const LARGEST: usize = 65536;

/// How a call names its file.
#[derive(Clone, Copy)]
enum By {
    Path,
    PathItself,
    Fd,
}

fn target(thread: &Thread, arguments: &Arguments, by: By) -> Result<Target, Errno> {
    let follow = match by {
        By::Path => true,
        By::PathItself => false,
        By::Fd => {
            let file = usable(thread, arguments.fd(0))?;
            return Ok(Walk::new(thread).file(&file));
        }
    };
    let path = path_argument(thread, arguments.address(0))?;
    Walk::new(thread).resolve(FdNumber::WORKING_DIRECTORY, &path, follow, false)
}

fn name(thread: &Thread, address: UserAddress) -> Result<Vec<u8>, Errno> {
    let name = thread.memory().read_string(address, 255).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::ERANGE,
        errno => errno,
    })?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// Asks vfs; files of the sentry's own have no extended attributes.
fn ask(thread: &Thread, target: Target, request: impl Fn(At) -> Request) -> Result<Reply, Errno> {
    match Walk::new(thread).ask(target, request)? {
        Answer::Vfs(reply, _) => Ok(reply),
        Answer::Special(_) | Answer::File(_) => Err(Errno::EOPNOTSUPP),
    }
}

/// Gives bytes back in a buffer whose size may be 0, which asks for the length only.
fn give(thread: &Thread, bytes: &[u8], buffer: UserAddress, size: usize) -> SysResult {
    if size > 0 {
        if bytes.len() > size {
            return Err(Errno::ERANGE);
        }
        thread.memory().write(buffer, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn set(thread: &Thread, arguments: &Arguments, by: By) -> SysResult {
    let flags = arguments.uint(4);
    if flags & !(libc::XATTR_CREATE | libc::XATTR_REPLACE) as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let name = name(thread, arguments.address(1))?;
    let size = arguments.size(3);
    if size > LARGEST {
        return Err(Errno::E2BIG);
    }
    let mut value = vec![0; size];
    thread.memory().read(arguments.address(2), &mut value)?;
    let target = target(thread, arguments, by)?;
    let request = |at| Request::SetXattr { at, name: name.clone(), value: value.clone(), flags };
    match ask(thread, target, request)? {
        Reply::Done => Ok(0),
        other => wrong(other),
    }
}

fn get(thread: &Thread, arguments: &Arguments, by: By) -> SysResult {
    let name = name(thread, arguments.address(1))?;
    let target = target(thread, arguments, by)?;
    match ask(thread, target, |at| Request::GetXattr { at, name: name.clone() })? {
        Reply::Bytes(value) => give(thread, &value, arguments.address(2), arguments.size(3)),
        other => wrong(other),
    }
}

fn list(thread: &Thread, arguments: &Arguments, by: By) -> SysResult {
    let target = target(thread, arguments, by)?;
    match ask(thread, target, |at| Request::ListXattr { at }) {
        Ok(Reply::Bytes(names)) => give(thread, &names, arguments.address(1), arguments.size(2)),
        Ok(other) => wrong(other),
        Err(Errno::EOPNOTSUPP) => Ok(0),
        Err(errno) => Err(errno),
    }
}

fn remove(thread: &Thread, arguments: &Arguments, by: By) -> SysResult {
    let name = name(thread, arguments.address(1))?;
    let target = target(thread, arguments, by)?;
    match ask(thread, target, |at| Request::RemoveXattr { at, name: name.clone() })? {
        Reply::Done => Ok(0),
        other => wrong(other),
    }
}

macro_rules! calls {
    ($($name:ident $work:ident $by:ident;)*) => {
        $(
            #[doc = concat!(stringify!($name), "(2)")]
            pub fn $name(thread: &mut Thread, arguments: Arguments) -> SysResult {
                $work(thread, &arguments, By::$by)
            }
        )*
    };
}

calls! {
    setxattr set Path;
    lsetxattr set PathItself;
    fsetxattr set Fd;
    getxattr get Path;
    lgetxattr get PathItself;
    fgetxattr get Fd;
    listxattr list Path;
    llistxattr list PathItself;
    flistxattr list Fd;
    removexattr remove Path;
    lremovexattr remove PathItself;
    fremovexattr remove Fd;
}
