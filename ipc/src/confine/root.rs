//! An empty root directory.
#![forbid(unsafe_code)]

use super::{ConfineError, host};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

/// Where the new root is put for a moment: a directory that every host has.
const PLACES: [&str; 4] = ["/tmp", "/mnt", "/proc", "/dev"];

/// Replaces the root of this mount namespace by an empty directory that cannot be written to, and lets go of the old one.
/// Files that are open stay open.
pub(super) fn make_empty() -> Result<(), ConfineError> {
    const NONE: Option<&str> = None;
    // Nothing of what follows may reach the namespace that this one was copied from.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).map_err(host("make the mounts private"))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = Some("size=4k,nr_inodes=1,mode=555");
    let mut result = Err(nix::errno::Errno::ENOENT);
    for place in PLACES {
        result = mount(Some("none"), place, Some("tmpfs"), flags, options).and_then(|()| chdir(place));
        if result.is_ok() {
            break;
        }
    }
    result.map_err(host("mount an empty root"))?;
    // The old root is stacked on the new one, and then taken away from there.
    pivot_root(".", ".").map_err(host("change to an empty root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(host("detach the host's root"))?;
    chdir("/").map_err(host("enter the empty root"))
}
