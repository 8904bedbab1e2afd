//! From types to the wire.

use super::{
    At, Attributes, Caller, DirEntry, Foreign, ForeignFs, FsStatistics, Lock, LockFamily, LockKind, Published, Reply, Request,
    SetTime, Timestamp,
};
use crate::{vfs_capnp as schema, wire::list_length};

pub(super) fn put_request(request: &Request, mut to: schema::request::Builder<'_>) {
    match request {
        Request::Lookup { at, directory } => {
            put_at(at, to.reborrow().init_at());
            to.init_lookup().set_directory(*directory);
        }
        Request::Open { at, flags, mode, execute } => {
            put_at(at, to.reborrow().init_at());
            to.set_flags((*flags).into());
            to.set_mode(*mode);
            to.init_open().set_execute(*execute);
        }
        Request::Reopen { node, flags } => {
            to.set_node(node.0);
            to.set_flags((*flags).into());
            to.set_reopen(());
        }
        Request::Stat { at } => {
            put_at(at, to.reborrow().init_at());
            to.set_stat(());
        }
        Request::Access { at, mode } => {
            put_at(at, to.reborrow().init_at());
            to.set_mode(*mode);
            to.set_access(());
        }
        Request::Readlink { at } => {
            put_at(at, to.reborrow().init_at());
            to.set_readlink(());
        }
        Request::Mkdir { at, mode } => {
            put_at(at, to.reborrow().init_at());
            to.set_mode(*mode);
            to.set_mkdir(());
        }
        Request::Mknod { at, mode, device } => {
            put_at(at, to.reborrow().init_at());
            to.set_mode(*mode);
            to.init_mknod().set_device(*device);
        }
        Request::Symlink { at, target } => {
            put_at(at, to.reborrow().init_at());
            to.set_value(target);
            to.set_symlink(());
        }
        Request::Link { from, to: new } => {
            put_at(from, to.reborrow().init_at());
            put_at(new, to.reborrow().init_to());
            to.set_link(());
        }
        Request::Unlink { at, directory } => {
            put_at(at, to.reborrow().init_at());
            to.init_unlink().set_directory(*directory);
        }
        Request::Rename { from, to: new, flags } => {
            put_at(from, to.reborrow().init_at());
            put_at(new, to.reborrow().init_to());
            to.set_flags((*flags).into());
            to.set_rename(());
        }
        Request::Chmod { at, mode } => {
            put_at(at, to.reborrow().init_at());
            to.set_mode(*mode);
            to.set_chmod(());
        }
        Request::Chown { at, uid, gid } => {
            put_at(at, to.reborrow().init_at());
            let mut chown = to.init_chown();
            chown.set_uid(uid.map_or(-1, i64::from));
            chown.set_gid(gid.map_or(-1, i64::from));
        }
        Request::SetTimes { at, accessed, modified } => {
            put_at(at, to.reborrow().init_at());
            let mut times = to.init_set_times();
            put_set_time(accessed, times.reborrow().init_accessed());
            put_set_time(modified, times.init_modified());
        }
        Request::Truncate { at, size } => {
            put_at(at, to.reborrow().init_at());
            to.init_truncate().set_size(*size);
        }
        Request::GetXattr { at, name } => {
            put_at(at, to.reborrow().init_at());
            to.set_name(name);
            to.set_get_xattr(());
        }
        Request::SetXattr { at, name, value, flags } => {
            put_at(at, to.reborrow().init_at());
            to.set_name(name);
            to.set_value(value);
            to.set_flags((*flags).into());
            to.set_set_xattr(());
        }
        Request::ListXattr { at } => {
            put_at(at, to.reborrow().init_at());
            to.set_list_xattr(());
        }
        Request::RemoveXattr { at, name } => {
            put_at(at, to.reborrow().init_at());
            to.set_name(name);
            to.set_remove_xattr(());
        }
        Request::Statfs { at } => {
            put_at(at, to.reborrow().init_at());
            to.set_statfs(());
        }
        Request::ReadDir { node, cookie, space } => {
            to.set_node(node.0);
            let mut read = to.init_read_dir();
            read.set_cookie(*cookie);
            read.set_space(*space);
        }
        Request::PathOf { node, root } => {
            to.set_node(node.0);
            to.init_path_of().set_root(root.0);
        }
        Request::Remember { node } => {
            to.set_node(node.0);
            to.set_remember(());
        }
        Request::Forget { nodes } => {
            let mut list = to.init_forget(list_length(nodes.len()));
            for (index, node) in (0..).zip(nodes) {
                list.set(index, node.0);
            }
        }
        Request::SetLock { node, lock } => {
            to.set_node(node.0);
            put_lock(lock, to.init_set_lock());
        }
        Request::GetLock { node, lock } => {
            to.set_node(node.0);
            put_lock(lock, to.init_get_lock());
        }
        Request::DropLocks { node, family, owner } => {
            to.set_node(node.0);
            let mut drop = to.init_drop_locks();
            drop.set_family(lock_family(*family));
            drop.set_owner(*owner);
        }
        Request::Mounts { root } => {
            to.set_node(root.0);
            to.set_mounts(());
        }
        Request::Sync { node } => {
            to.set_node(node.map_or(0, |node| node.0));
            to.init_sync().set_everything(node.is_none());
        }
        Request::Mount { source, at, fstype, flags, options } => {
            put_at(at, to.reborrow().init_at());
            if let Some(source) = source {
                put_at(source, to.reborrow().init_to());
            }
            to.set_flags(*flags);
            let mut mount = to.init_mount();
            mount.set_fstype(fstype);
            mount.set_options(options);
        }
        Request::Unmount { at, flags } => {
            put_at(at, to.reborrow().init_at());
            to.set_flags((*flags).into());
            to.set_unmount(());
        }
        Request::Publication => to.set_publication(()),
    }
}

pub(super) fn put_reply(reply: &Reply, mut to: schema::reply::Builder<'_>) {
    match reply {
        Reply::Error(errno) => to.set_error(errno.number()),
        Reply::Done => to.set_done(()),
        Reply::Node { node, attributes, published } => {
            let mut group = to.init_node();
            group.set_id(node.0);
            put_published(published, group.reborrow().init_published());
            put_attributes(attributes, group.init_attributes());
        }
        Reply::Opened { node, attributes, created, has_fd, published, in_memory } => {
            let mut group = to.init_opened();
            group.set_id(node.0);
            group.set_in_memory(*in_memory);
            put_published(published, group.reborrow().init_published());
            group.set_created(*created);
            group.set_has_fd(*has_fd);
            put_attributes(attributes, group.init_attributes());
        }
        Reply::Attributes(attributes) => put_attributes(attributes, to.init_attributes()),
        Reply::Bytes(bytes) => to.set_bytes(bytes),
        Reply::Entries(entries) => put_entries(entries, to.init_entries(list_length(entries.len()))),
        Reply::Statistics(statistics) => put_statistics(statistics, to.init_statistics()),
        Reply::Lock(lock) => match lock {
            None => to.init_lock().set_none(()),
            Some(lock) => put_lock(lock, to.init_lock().init_held()),
        },
        Reply::Mounts(mounts) => {
            let mut list = to.init_mounts(list_length(mounts.len()));
            for (index, mount) in (0..).zip(mounts) {
                let mut to = list.reborrow().get(index);
                to.set_id(mount.id);
                to.set_parent(mount.parent);
                to.set_device(mount.device);
                to.set_root(&mount.root);
                to.set_mountpoint(&mount.mountpoint);
                to.set_flags(mount.flags);
                to.set_fstype(&mount.fstype[..]);
                to.set_source(&mount.source[..]);
                to.set_options(&mount.options[..]);
            }
        }
        Reply::Foreign { place, second } => {
            let mut group = to.reborrow().init_foreign();
            group.set_second(*second);
            put_foreign(place, group.init_place());
        }
        Reply::Publication { root, mount } => {
            let mut group = to.init_publication();
            group.set_mount(*mount);
            put_published(root, group.init_root());
        }
    }
}

fn put_caller(caller: &Caller, mut to: schema::caller::Builder<'_>) {
    to.set_uid(caller.uid);
    to.set_gid(caller.gid);
    to.set_capabilities(caller.capabilities);
    let mut groups = to.init_groups(list_length(caller.groups.len()));
    for (index, group) in (0..).zip(&caller.groups) {
        groups.set(index, *group);
    }
}

fn put_at(at: &At, mut to: schema::at::Builder<'_>) {
    put_caller(&at.caller, to.reborrow().init_caller());
    to.set_root(at.root.0);
    to.set_base(at.base.0);
    to.set_path(&at.path);
    to.set_follow(at.follow);
}

fn put_published(published: &Published, mut to: schema::published::Builder<'_>) {
    to.set_dentry(published.dentry.0);
    to.set_inode(published.inode.0);
}

fn put_timestamp(time: Timestamp, mut to: schema::timestamp::Builder<'_>) {
    to.set_seconds(time.seconds);
    to.set_nanoseconds(time.nanoseconds);
}

pub(crate) fn put_set_time(time: &SetTime, mut to: schema::set_time::Builder<'_>) {
    match time {
        SetTime::Keep => to.set_keep(()),
        SetTime::Now => to.set_now(()),
        SetTime::To(time) => put_timestamp(*time, to.init_to()),
    }
}

pub(crate) fn put_attributes(attributes: &Attributes, mut to: schema::attributes::Builder<'_>) {
    to.set_device(attributes.device);
    to.set_inode(attributes.inode);
    to.set_mode(attributes.mode);
    to.set_links(attributes.links);
    to.set_uid(attributes.uid);
    to.set_gid(attributes.gid);
    to.set_special_device(attributes.special_device);
    to.set_size(attributes.size);
    to.set_blocks(attributes.blocks);
    to.set_block_size(attributes.block_size);
    to.set_mount(attributes.mount);
    to.set_mount_flags(attributes.mount_flags);
    to.set_accessed_seconds(attributes.accessed.seconds);
    to.set_accessed_nanoseconds(attributes.accessed.nanoseconds);
    to.set_modified_seconds(attributes.modified.seconds);
    to.set_modified_nanoseconds(attributes.modified.nanoseconds);
    to.set_changed_seconds(attributes.changed.seconds);
    to.set_changed_nanoseconds(attributes.changed.nanoseconds);
    to.set_created_seconds(attributes.created.seconds);
    to.set_created_nanoseconds(attributes.created.nanoseconds);
}

pub(crate) fn put_entries(entries: &[DirEntry], mut list: capnp::struct_list::Builder<'_, schema::dir_entry::Owned>) {
    for (index, entry) in (0..).zip(entries) {
        let mut to = list.reborrow().get(index);
        to.set_inode(entry.inode);
        to.set_next(entry.next);
        to.set_kind(entry.kind);
        to.set_name(&entry.name);
    }
}

pub(crate) fn put_statistics(statistics: &FsStatistics, mut to: schema::fs_statistics::Builder<'_>) {
    to.set_magic(statistics.magic);
    to.set_block_size(statistics.block_size);
    to.set_blocks(statistics.blocks);
    to.set_blocks_free(statistics.blocks_free);
    to.set_blocks_available(statistics.blocks_available);
    to.set_files(statistics.files);
    to.set_files_free(statistics.files_free);
    to.set_name_length(statistics.name_length);
    to.set_flags(statistics.flags);
}

fn put_foreign(foreign: &Foreign, mut to: schema::foreign::Builder<'_>) {
    to.set_fs(match foreign.fs {
        ForeignFs::Proc => schema::ForeignFs::Proc,
        ForeignFs::Sysfs => schema::ForeignFs::Sysfs,
        ForeignFs::Devpts => schema::ForeignFs::Devpts,
        ForeignFs::Mqueue => schema::ForeignFs::Mqueue,
        ForeignFs::Cgroup => schema::ForeignFs::Cgroup,
    });
    to.set_mount(foreign.mount);
    to.set_mount_flags(foreign.mount_flags);
    to.set_inner(&foreign.inner);
    to.set_mountpoint(foreign.mountpoint.0);
    to.set_rest(&foreign.rest);
}

fn put_lock(lock: &Lock, mut to: schema::lock::Builder<'_>) {
    to.set_family(lock_family(lock.family));
    to.set_kind(match lock.kind {
        LockKind::Read => schema::LockKind::Read,
        LockKind::Write => schema::LockKind::Write,
        LockKind::Unlock => schema::LockKind::Unlock,
    });
    to.set_owner(lock.owner);
    to.set_pid(lock.pid);
    to.set_start(lock.start);
    to.set_end(lock.end);
}

fn lock_family(family: LockFamily) -> schema::LockFamily {
    match family {
        LockFamily::Record => schema::LockFamily::Record,
        LockFamily::Flock => schema::LockFamily::Flock,
    }
}
