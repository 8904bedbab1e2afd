//! mount(2) and umount2(2).

use bulkhead_ipc::{
    Errno,
    vfs::{Reply, Request},
};

use super::path::{path_argument, wrong};
use crate::{
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    fs::path::{Answer, Walk},
    task::Thread,
};

const CAP_SYS_ADMIN: u32 = 21;
const HERE: FdNumber = FdNumber::WORKING_DIRECTORY;

fn allowed(thread: &Thread) -> Result<(), Errno> {
    if thread.credentials().has(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

/// mount(2)
pub fn mount(thread: &mut Thread, arguments: Arguments) -> SysResult {
    allowed(thread)?;
    let text = |address: UserAddress, most: usize| match address {
        UserAddress::NULL => Ok(Vec::new()),
        address => thread.memory().read_string(address, most),
    };
    let fstype = text(arguments.address(2), 255)?;
    let options = text(arguments.address(4), 4095)?;
    let flags = arguments.raw(3);
    let path = path_argument(thread, arguments.address(1))?;
    let mut walk = Walk::new(thread);
    let target = walk.resolve(HERE, &path, true, false)?;
    if flags & (libc::MS_BIND | libc::MS_MOVE) != 0 && flags & libc::MS_REMOUNT == 0 {
        let source = path_argument(thread, arguments.address(0))?;
        let from = walk.resolve(HERE, &source, true, false)?;
        walk.ask_two(from, target, |from, at| Request::Mount {
            source: Some(from),
            at,
            fstype: fstype.clone(),
            flags,
            options: options.clone(),
        })?;
        return Ok(0);
    }
    let request = |at| Request::Mount { source: None, at, fstype: fstype.clone(), flags, options: options.clone() };
    match walk.ask(target, request)? {
        Answer::Vfs(Reply::Done, _) => Ok(0),
        Answer::Vfs(other, _) => wrong(other),
        Answer::Special(_) | Answer::File(_) => Err(Errno::EINVAL),
    }
}

/// umount2(2)
pub fn umount2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    const NO_FOLLOW: u32 = 8;
    let flags = arguments.uint(1);
    if flags & !15 != 0 {
        return Err(Errno::EINVAL);
    }
    allowed(thread)?;
    let path = path_argument(thread, arguments.address(0))?;
    let mut walk = Walk::new(thread);
    let target = walk.resolve(HERE, &path, flags & NO_FOLLOW == 0, false)?;
    let mut answer = walk.ask(target, |at| Request::Unmount { at, flags })?;
    if let Answer::Special(place) = &answer
        && let (None, Some(mountpoint)) = (&place.parent, &place.mount.mountpoint)
    {
        // The root of a special mount: vfs knows it by the directory it lies on.
        let covered = walk.here(&crate::fs::Location::Vfs(mountpoint.clone()));
        answer = walk.ask(covered, |at| Request::Unmount { at, flags })?;
    }
    match answer {
        Answer::Vfs(Reply::Done, _) => Ok(0),
        Answer::Vfs(other, _) => wrong(other),
        Answer::Special(_) | Answer::File(_) => Err(Errno::EINVAL),
    }
}

/// pivot_root(2): the caller's privilege is checked, and then no mount can be moved to the root.
pub fn pivot_root(thread: &mut Thread, _: Arguments) -> SysResult {
    allowed(thread)?;
    Err(Errno::EINVAL)
}
