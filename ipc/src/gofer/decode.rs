//! From the wire to types, every field checked: names are one component (not empty, no slash, no NUL, neither `.` nor `..`, at
//! most NAME_MAX bytes), lists are bounded, enum values are known.

use super::{Entry, Handle, Reply, Request, WALK_LIMIT};
use crate::{
    Errno, gofer_capnp as schema,
    vfs::decode::{LIST_LIMIT, NAME_LIMIT, PATH_LIMIT, VALUE_LIMIT, get_attributes, get_entries, get_set_time, get_statistics},
    wire::{DecodeError, bounded, count},
};

/// Checks one component of a path.
fn component(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(DecodeError::Invalid("a name"));
    }
    bounded(bytes, NAME_LIMIT, "name")
}

fn attribute_name(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(DecodeError::Invalid("name of an attribute"));
    }
    bounded(bytes, NAME_LIMIT, "name of an attribute")
}

pub(super) fn get_request(from: schema::request::Reader<'_>) -> Result<Request, DecodeError> {
    use schema::request::Which;
    let handle = Handle(from.get_handle());
    let other = Handle(from.get_other());
    let name = || component(from.get_name()?);
    let other_name = || component(from.get_other_name()?);
    let attribute = || attribute_name(from.get_name()?);
    let (mode, flags, uid, gid) = (from.get_mode(), from.get_flags(), from.get_uid(), from.get_gid());
    let access = || {
        let known = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR].contains(&flags.cast_signed());
        if known { Ok(flags) } else { Err(DecodeError::Invalid("access mode")) }
    };
    Ok(match from.which()? {
        Which::Attach(group) => Request::Attach { root: group.get_root() },
        Which::Walk(group) => {
            let list = group.get_names()?;
            let mut names = Vec::with_capacity(count(list.len(), WALK_LIMIT as u32, "count of names")?);
            for name in list.iter() {
                names.push(component(name?)?);
            }
            Request::Walk { base: handle, names }
        }
        Which::Attributes(()) => Request::Attributes { handle },
        Which::Open(()) => {
            let name = if from.get_name()?.is_empty() { Vec::new() } else { name()? };
            Request::Open { directory: handle, name, access: access()? }
        }
        Which::Create(()) => Request::Create { directory: handle, name: name()?, mode, uid, gid, access: access()? },
        Which::Make(group) => {
            let target = bounded(from.get_value()?, PATH_LIMIT, "target of a symbolic link")?;
            if target.contains(&0) {
                return Err(DecodeError::Invalid("target of a symbolic link"));
            }
            Request::Make { directory: handle, name: name()?, mode, device: group.get_device(), uid, gid, target }
        }
        Which::Link(()) => Request::Link { from: handle, from_name: name()?, directory: other, name: other_name()? },
        Which::Unlink(group) => Request::Unlink { directory: handle, name: name()?, is_directory: group.get_directory() },
        Which::Rename(()) => Request::Rename { from: handle, from_name: name()?, directory: other, name: other_name()?, flags },
        Which::Chmod(()) => Request::Chmod { handle, mode },
        Which::Chown(group) => {
            Request::Chown { handle, uid: group.get_set_uid().then_some(uid), gid: group.get_set_gid().then_some(gid) }
        }
        Which::SetTimes(group) => Request::SetTimes {
            handle,
            accessed: get_set_time(group.get_accessed()?)?,
            modified: get_set_time(group.get_modified()?)?,
        },
        Which::ReadDir(group) => Request::ReadDir { handle, cookie: group.get_cookie(), space: group.get_space() },
        Which::GetXattr(()) => Request::GetXattr { handle, name: attribute()? },
        Which::SetXattr(()) => Request::SetXattr {
            handle,
            name: attribute()?,
            value: bounded(from.get_value()?, VALUE_LIMIT, "value of an attribute")?,
            flags,
        },
        Which::ListXattr(()) => Request::ListXattr { handle },
        Which::RemoveXattr(()) => Request::RemoveXattr { handle, name: attribute()? },
        Which::Statfs(()) => Request::Statfs { handle },
        Which::Sync(()) => Request::Sync { handle },
        Which::Close(list) => {
            let list = list?;
            count(list.len(), LIST_LIMIT, "count of handles")?;
            Request::Close { handles: list.iter().map(Handle).collect() }
        }
    })
}

pub(super) fn get_reply(from: schema::reply::Reader<'_>) -> Result<Reply, DecodeError> {
    use schema::reply::Which;
    Ok(match from.which()? {
        Which::Error(number) => Reply::Error(Errno::new(number)),
        Which::Done(()) => Reply::Done,
        Which::Walked(group) => {
            let list = group.get_entries()?;
            let mut entries = Vec::with_capacity(count(list.len(), WALK_LIMIT as u32, "count of entries")?);
            for entry in list.iter() {
                entries.push(get_entry(entry)?);
            }
            let stopped = Some(group.get_stopped()).filter(|number| *number != 0).map(Errno::new);
            Reply::Walked { entries, stopped }
        }
        Which::Attributes(attributes) => Reply::Attributes(get_attributes(attributes?)?),
        Which::Opened(entry) => Reply::Opened(get_entry(entry?)?),
        Which::Bytes(bytes) => Reply::Bytes(bytes?.to_vec()),
        Which::Entries(list) => Reply::Entries(get_entries(list?)?),
        Which::Statistics(statistics) => Reply::Statistics(get_statistics(statistics?)),
    })
}

fn get_entry(from: schema::entry::Reader<'_>) -> Result<Entry, DecodeError> {
    Ok(Entry {
        handle: Handle(from.get_handle()),
        attributes: get_attributes(from.get_attributes()?)?,
        target: bounded(from.get_target()?, PATH_LIMIT, "target of a symbolic link")?,
    })
}
