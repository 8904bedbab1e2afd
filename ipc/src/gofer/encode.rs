//! From types to the wire.

use super::{Entry, Reply, Request};
use crate::{
    gofer_capnp as schema,
    vfs::encode::{put_attributes, put_entries, put_set_time, put_statistics},
    wire::list_length,
};

pub(super) fn put_request(request: &Request, mut to: schema::request::Builder<'_>) {
    match request {
        Request::Attach { root } => to.init_attach().set_root(*root),
        Request::Walk { base, names } => {
            to.set_handle(base.0);
            let mut list = to.init_walk().init_names(list_length(names.len()));
            for (index, name) in (0..).zip(names) {
                list.set(index, name);
            }
        }
        Request::Attributes { handle } => {
            to.set_handle(handle.0);
            to.set_attributes(());
        }
        Request::Open { directory, name, access } => {
            to.set_handle(directory.0);
            to.set_name(name);
            to.set_flags(*access);
            to.set_open(());
        }
        Request::Create { directory, name, mode, uid, gid, access } => {
            to.set_handle(directory.0);
            to.set_name(name);
            to.set_mode(*mode);
            to.set_uid(*uid);
            to.set_gid(*gid);
            to.set_flags(*access);
            to.set_create(());
        }
        Request::Make { directory, name, mode, device, uid, gid, target } => {
            to.set_handle(directory.0);
            to.set_name(name);
            to.set_mode(*mode);
            to.set_uid(*uid);
            to.set_gid(*gid);
            to.set_value(target);
            to.init_make().set_device(*device);
        }
        Request::Link { from, from_name, directory, name } => {
            to.set_handle(from.0);
            to.set_name(from_name);
            to.set_other(directory.0);
            to.set_other_name(name);
            to.set_link(());
        }
        Request::Unlink { directory, name, is_directory } => {
            to.set_handle(directory.0);
            to.set_name(name);
            to.init_unlink().set_directory(*is_directory);
        }
        Request::Rename { from, from_name, directory, name, flags } => {
            to.set_handle(from.0);
            to.set_name(from_name);
            to.set_other(directory.0);
            to.set_other_name(name);
            to.set_flags(*flags);
            to.set_rename(());
        }
        Request::Chmod { handle, mode } => {
            to.set_handle(handle.0);
            to.set_mode(*mode);
            to.set_chmod(());
        }
        Request::Chown { handle, uid, gid } => {
            to.set_handle(handle.0);
            to.set_uid(uid.unwrap_or(0));
            to.set_gid(gid.unwrap_or(0));
            let mut chown = to.init_chown();
            chown.set_set_uid(uid.is_some());
            chown.set_set_gid(gid.is_some());
        }
        Request::SetTimes { handle, accessed, modified } => {
            to.set_handle(handle.0);
            let mut times = to.init_set_times();
            put_set_time(accessed, times.reborrow().init_accessed());
            put_set_time(modified, times.init_modified());
        }
        Request::ReadDir { handle, cookie, space } => {
            to.set_handle(handle.0);
            let mut read = to.init_read_dir();
            read.set_cookie(*cookie);
            read.set_space(*space);
        }
        Request::GetXattr { handle, name } => {
            to.set_handle(handle.0);
            to.set_name(name);
            to.set_get_xattr(());
        }
        Request::SetXattr { handle, name, value, flags } => {
            to.set_handle(handle.0);
            to.set_name(name);
            to.set_value(value);
            to.set_flags(*flags);
            to.set_set_xattr(());
        }
        Request::ListXattr { handle } => {
            to.set_handle(handle.0);
            to.set_list_xattr(());
        }
        Request::RemoveXattr { handle, name } => {
            to.set_handle(handle.0);
            to.set_name(name);
            to.set_remove_xattr(());
        }
        Request::Statfs { handle } => {
            to.set_handle(handle.0);
            to.set_statfs(());
        }
        Request::Sync { handle } => {
            to.set_handle(handle.0);
            to.set_sync(());
        }
        Request::Close { handles } => {
            let mut list = to.init_close(list_length(handles.len()));
            for (index, handle) in (0..).zip(handles) {
                list.set(index, handle.0);
            }
        }
    }
}

pub(super) fn put_reply(reply: &Reply, mut to: schema::reply::Builder<'_>) {
    match reply {
        Reply::Error(errno) => to.set_error(errno.number()),
        Reply::Done => to.set_done(()),
        Reply::Walked { entries, stopped } => {
            let mut walked = to.init_walked();
            walked.set_stopped(stopped.map_or(0, |errno| errno.number()));
            let mut list = walked.init_entries(list_length(entries.len()));
            for (index, entry) in (0..).zip(entries) {
                put_entry(entry, list.reborrow().get(index));
            }
        }
        Reply::Attributes(attributes) => put_attributes(attributes, to.init_attributes()),
        Reply::Opened(entry) => put_entry(entry, to.init_opened()),
        Reply::Bytes(bytes) => to.set_bytes(bytes),
        Reply::Entries(entries) => put_entries(entries, to.init_entries(list_length(entries.len()))),
        Reply::Statistics(statistics) => put_statistics(statistics, to.init_statistics()),
    }
}

fn put_entry(entry: &Entry, mut to: schema::entry::Builder<'_>) {
    to.set_handle(entry.handle.0);
    to.set_target(&entry.target);
    put_attributes(&entry.attributes, to.init_attributes());
}
