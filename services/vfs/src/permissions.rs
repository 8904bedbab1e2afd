//! Who may do what (path_resolution(7), capabilities(7)).

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, Caller},
};

pub use bulkhead_ipc::vfs::permissions::{EXECUTE, READ, WRITE, permit, permit_access, permit_execution};

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

/// EPERM when the directory is sticky and neither it nor the file is the caller's.
pub fn permit_removal(caller: &Caller, directory: &Attributes, file: &Attributes) -> Result<(), Errno> {
    let sticky = directory.mode & libc::S_ISVTX != 0;
    let mine = caller.uid == file.uid || caller.uid == directory.uid || has(caller, Capability::Fowner);
    if sticky && !mine { Err(Errno::EPERM) } else { Ok(()) }
}
