//! From the wire to types. Every field is checked here: what comes out has paths and names no longer than Linux allows, known
//! enum values, and bounded lists. Ids are still only what the other side says they are.

use super::{
    At, Attributes, Caller, DirEntry, Foreign, ForeignFs, FsStatistics, Lock, LockFamily, LockKind, MountInfo, NodeId, Published,
    Reply, Request, SetTime, Timestamp,
};
use crate::{
    Errno,
    published::Key,
    vfs_capnp as schema,
    wire::{DecodeError, bounded, count},
};

/// PATH_MAX without its NUL.
pub(crate) const PATH_LIMIT: usize = 4095;
/// NAME_MAX, also the limit of an attribute's name (XATTR_NAME_MAX).
pub(crate) const NAME_LIMIT: usize = 255;
/// XATTR_SIZE_MAX.
pub(crate) const VALUE_LIMIT: usize = 65536;
/// NGROUPS_MAX.
const GROUP_LIMIT: u32 = 65536;
/// Elements of any other list; the size of a message bounds them further.
pub(crate) const LIST_LIMIT: u32 = 16384;
/// Options of a mount (a page, as mount(2)).
const OPTIONS_LIMIT: usize = 4096;

pub(super) fn get_request(from: schema::request::Reader<'_>) -> Result<Request, DecodeError> {
    use schema::request::Which;
    let at = || get_at(from.get_at()?);
    let to = || get_at(from.get_to()?);
    let flags = || u32::try_from(from.get_flags()).map_err(|_| DecodeError::Invalid("flags"));
    let name = || bounded(from.get_name()?, NAME_LIMIT, "name of an attribute");
    let node = NodeId(from.get_node());
    let mode = from.get_mode();
    Ok(match from.which()? {
        Which::Lookup(group) => Request::Lookup { at: at()?, directory: group.get_directory() },
        Which::Open(group) => Request::Open { at: at()?, flags: flags()?, mode, execute: group.get_execute() },
        Which::Reopen(()) => Request::Reopen { node, flags: flags()? },
        Which::Stat(()) => Request::Stat { at: at()? },
        Which::Access(()) => Request::Access { at: at()?, mode },
        Which::Readlink(()) => Request::Readlink { at: at()? },
        Which::Mkdir(()) => Request::Mkdir { at: at()?, mode },
        Which::Mknod(group) => Request::Mknod { at: at()?, mode, device: group.get_device() },
        Which::Symlink(()) => {
            Request::Symlink { at: at()?, target: bounded(from.get_value()?, PATH_LIMIT, "target of a symbolic link")? }
        }
        Which::Link(()) => Request::Link { from: at()?, to: to()? },
        Which::Unlink(group) => Request::Unlink { at: at()?, directory: group.get_directory() },
        Which::Rename(()) => Request::Rename { from: at()?, to: to()?, flags: flags()? },
        Which::Chmod(()) => Request::Chmod { at: at()?, mode },
        Which::Chown(group) => Request::Chown { at: at()?, uid: optional(group.get_uid())?, gid: optional(group.get_gid())? },
        Which::SetTimes(group) => Request::SetTimes {
            at: at()?,
            accessed: get_set_time(group.get_accessed()?)?,
            modified: get_set_time(group.get_modified()?)?,
        },
        Which::Truncate(group) => Request::Truncate { at: at()?, size: group.get_size() },
        Which::GetXattr(()) => Request::GetXattr { at: at()?, name: name()? },
        Which::SetXattr(()) => Request::SetXattr {
            at: at()?,
            name: name()?,
            value: bounded(from.get_value()?, VALUE_LIMIT, "value of an attribute")?,
            flags: flags()?,
        },
        Which::ListXattr(()) => Request::ListXattr { at: at()? },
        Which::RemoveXattr(()) => Request::RemoveXattr { at: at()?, name: name()? },
        Which::Statfs(()) => Request::Statfs { at: at()? },
        Which::ReadDir(group) => Request::ReadDir { node, cookie: group.get_cookie(), space: group.get_space() },
        Which::PathOf(group) => Request::PathOf { node, root: NodeId(group.get_root()) },
        Which::Remember(()) => Request::Remember { node },
        Which::Forget(list) => {
            let list = list?;
            count(list.len(), LIST_LIMIT, "count of nodes")?;
            Request::Forget { nodes: list.iter().map(NodeId).collect() }
        }
        Which::SetLock(lock) => Request::SetLock { node, lock: get_lock(lock?)? },
        Which::GetLock(lock) => Request::GetLock { node, lock: get_lock(lock?)? },
        Which::DropLocks(group) => {
            Request::DropLocks { node, family: get_lock_family(group.get_family()?), owner: group.get_owner() }
        }
        Which::Mounts(()) => Request::Mounts { root: node },
        Which::Sync(group) => Request::Sync { node: (!group.get_everything()).then_some(node) },
        Which::Mount(group) => Request::Mount {
            source: if from.has_to() { Some(to()?) } else { None },
            at: at()?,
            fstype: bounded(group.get_fstype()?, NAME_LIMIT, "file system type")?,
            flags: from.get_flags(),
            options: bounded(group.get_options()?, OPTIONS_LIMIT, "mount options")?,
        },
        Which::Unmount(()) => Request::Unmount { at: at()?, flags: flags()? },
        Which::Publication(()) => Request::Publication,
    })
}

pub(super) fn get_reply(from: schema::reply::Reader<'_>) -> Result<Reply, DecodeError> {
    use schema::reply::Which;
    Ok(match from.which()? {
        Which::Error(number) => Reply::Error(Errno::new(number)),
        Which::Done(()) => Reply::Done,
        Which::Node(group) => Reply::Node {
            node: NodeId(group.get_id()),
            attributes: get_attributes(group.get_attributes()?)?,
            published: get_published(group.get_published()?),
        },
        Which::Opened(group) => Reply::Opened {
            node: NodeId(group.get_id()),
            attributes: get_attributes(group.get_attributes()?)?,
            created: group.get_created(),
            has_fd: group.get_has_fd(),
            published: get_published(group.get_published()?),
            in_memory: group.get_in_memory(),
        },
        Which::Attributes(attributes) => Reply::Attributes(get_attributes(attributes?)?),
        Which::Bytes(bytes) => Reply::Bytes(bytes?.to_vec()),
        Which::Entries(list) => Reply::Entries(get_entries(list?)?),
        Which::Statistics(statistics) => Reply::Statistics(get_statistics(statistics?)),
        Which::Lock(group) => Reply::Lock(match group.which()? {
            schema::reply::lock::Which::None(()) => None,
            schema::reply::lock::Which::Held(lock) => Some(get_lock(lock?)?),
        }),
        Which::Mounts(list) => {
            let list = list?;
            let mut mounts = Vec::with_capacity(count(list.len(), LIST_LIMIT, "count of mounts")?);
            for mount in list.iter() {
                mounts.push(MountInfo {
                    id: mount.get_id(),
                    parent: mount.get_parent(),
                    device: mount.get_device(),
                    root: bounded(mount.get_root()?, PATH_LIMIT, "root of a mount")?,
                    mountpoint: bounded(mount.get_mountpoint()?, PATH_LIMIT, "mount point")?,
                    flags: mount.get_flags(),
                    fstype: mount.get_fstype()?.to_str()?.to_owned(),
                    source: mount.get_source()?.to_str()?.to_owned(),
                    options: mount.get_options()?.to_str()?.to_owned(),
                });
            }
            Reply::Mounts(mounts)
        }
        Which::Foreign(group) => Reply::Foreign { place: get_foreign(group.get_place()?)?, second: group.get_second() },
        Which::Publication(group) => Reply::Publication { root: get_published(group.get_root()?), mount: group.get_mount() },
    })
}

/// -1 for "keep", else an id.
fn optional(number: i64) -> Result<Option<u32>, DecodeError> {
    if number == -1 { Ok(None) } else { u32::try_from(number).map(Some).map_err(|_| DecodeError::Invalid("owner")) }
}

fn get_caller(from: schema::caller::Reader<'_>) -> Result<Caller, DecodeError> {
    let groups = from.get_groups()?;
    count(groups.len(), GROUP_LIMIT, "count of groups")?;
    Ok(Caller {
        uid: from.get_uid(),
        gid: from.get_gid(),
        groups: groups.iter().collect(),
        capabilities: from.get_capabilities(),
    })
}

fn get_at(from: schema::at::Reader<'_>) -> Result<At, DecodeError> {
    let path = from.get_path()?;
    if path.contains(&0) {
        return Err(DecodeError::Invalid("a path with a NUL"));
    }
    Ok(At {
        caller: get_caller(from.get_caller()?)?,
        root: NodeId(from.get_root()),
        base: NodeId(from.get_base()),
        path: bounded(path, PATH_LIMIT, "path")?,
        follow: from.get_follow(),
    })
}

fn get_time(seconds: i64, nanoseconds: u32) -> Result<Timestamp, DecodeError> {
    if nanoseconds < 1_000_000_000 { Ok(Timestamp { seconds, nanoseconds }) } else { Err(DecodeError::Invalid("nanoseconds")) }
}

fn get_published(from: schema::published::Reader<'_>) -> Published {
    Published { dentry: Key(from.get_dentry()), inode: Key(from.get_inode()) }
}

pub(crate) fn get_set_time(from: schema::set_time::Reader<'_>) -> Result<SetTime, DecodeError> {
    use schema::set_time::Which;
    Ok(match from.which()? {
        Which::Keep(()) => SetTime::Keep,
        Which::Now(()) => SetTime::Now,
        Which::To(time) => {
            let time = time?;
            SetTime::To(get_time(time.get_seconds(), time.get_nanoseconds())?)
        }
    })
}

pub(crate) fn get_attributes(from: schema::attributes::Reader<'_>) -> Result<Attributes, DecodeError> {
    Ok(Attributes {
        device: from.get_device(),
        inode: from.get_inode(),
        mode: from.get_mode(),
        links: from.get_links(),
        uid: from.get_uid(),
        gid: from.get_gid(),
        special_device: from.get_special_device(),
        size: from.get_size(),
        blocks: from.get_blocks(),
        block_size: from.get_block_size(),
        accessed: get_time(from.get_accessed_seconds(), from.get_accessed_nanoseconds())?,
        modified: get_time(from.get_modified_seconds(), from.get_modified_nanoseconds())?,
        changed: get_time(from.get_changed_seconds(), from.get_changed_nanoseconds())?,
        created: get_time(from.get_created_seconds(), from.get_created_nanoseconds())?,
        mount: from.get_mount(),
        mount_flags: from.get_mount_flags(),
    })
}

pub(crate) fn get_entries(list: capnp::struct_list::Reader<'_, schema::dir_entry::Owned>) -> Result<Vec<DirEntry>, DecodeError> {
    let mut entries = Vec::with_capacity(count(list.len(), LIST_LIMIT, "count of entries")?);
    for entry in list.iter() {
        entries.push(DirEntry {
            inode: entry.get_inode(),
            next: entry.get_next(),
            kind: entry.get_kind(),
            name: bounded(entry.get_name()?, NAME_LIMIT, "name of an entry")?,
        });
    }
    Ok(entries)
}

pub(crate) fn get_statistics(from: schema::fs_statistics::Reader<'_>) -> FsStatistics {
    FsStatistics {
        magic: from.get_magic(),
        block_size: from.get_block_size(),
        blocks: from.get_blocks(),
        blocks_free: from.get_blocks_free(),
        blocks_available: from.get_blocks_available(),
        files: from.get_files(),
        files_free: from.get_files_free(),
        name_length: from.get_name_length(),
        flags: from.get_flags(),
    }
}

fn get_foreign(from: schema::foreign::Reader<'_>) -> Result<Foreign, DecodeError> {
    Ok(Foreign {
        fs: match from.get_fs()? {
            schema::ForeignFs::Proc => ForeignFs::Proc,
            schema::ForeignFs::Sysfs => ForeignFs::Sysfs,
            schema::ForeignFs::Devpts => ForeignFs::Devpts,
            schema::ForeignFs::Mqueue => ForeignFs::Mqueue,
            schema::ForeignFs::Cgroup => ForeignFs::Cgroup,
        },
        mount: from.get_mount(),
        mount_flags: from.get_mount_flags(),
        inner: bounded(from.get_inner()?, PATH_LIMIT, "path")?,
        mountpoint: NodeId(from.get_mountpoint()),
        rest: bounded(from.get_rest()?, PATH_LIMIT, "path")?,
    })
}

fn get_lock(from: schema::lock::Reader<'_>) -> Result<Lock, DecodeError> {
    Ok(Lock {
        family: get_lock_family(from.get_family()?),
        kind: match from.get_kind()? {
            schema::LockKind::Read => LockKind::Read,
            schema::LockKind::Write => LockKind::Write,
            schema::LockKind::Unlock => LockKind::Unlock,
        },
        owner: from.get_owner(),
        pid: from.get_pid(),
        start: from.get_start(),
        end: from.get_end(),
    })
}

fn get_lock_family(family: schema::LockFamily) -> LockFamily {
    match family {
        schema::LockFamily::Record => LockFamily::Record,
        schema::LockFamily::Flock => LockFamily::Flock,
    }
}
