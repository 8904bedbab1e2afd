//! What vfs asks of the gofer: the typed requests and replies; `schema/gofer.capnp` is their form on the wire.
//!
//! Everything is named by a *handle* (an `O_PATH` fd that the gofer keeps until [`Request::Close`]) or by one component in a
//! directory that has a handle. There are no paths: a component holds no slash and is neither `.` nor `..`, and no symbolic link
//! is ever followed (vfs interprets them). What the gofer is asked to do it does with the rights it has; who in the guest may
//! do it is the question of vfs.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use crate::{
    Errno,
    vfs::{Attributes, DirEntry, FsStatistics, SetTime},
};

/// Names a file or directory that the gofer keeps open for vfs. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Handle(pub u64);

/// A file or directory that a walk found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its handle; vfs closes it.
    pub handle: Handle,
    /// Its attributes (`mount` and `mount_flags` are 0: mounts are the business of vfs).
    pub attributes: Attributes,
    /// Where it points, if it is a symbolic link.
    pub target: Vec<u8>,
}

/// A request. It is answered by [`Reply::Error`] when it fails.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Request {
    /// The root with this index; answered by `Walked` with one entry.
    Attach {
        root: u32,
    },
    /// Walks `names`, one beneath the other, and stops behind the first that is no directory or where one is missing; answered
    /// by `Walked` with what was found.
    Walk {
        base: Handle,
        names: Vec<Vec<u8>>,
    },
    /// Answered by `Attributes`.
    Attributes {
        handle: Handle,
    },
    /// Opens the regular file `name` in `directory` (or the root that is a single file, with an empty name) with an access mode
    /// of O_RDONLY, O_WRONLY or O_RDWR; answered by `Opened` (whose handle is 0) and an fd.
    Open {
        directory: Handle,
        name: Vec<u8>,
        access: u32,
    },
    /// Makes a new regular file; EEXIST when the name exists; answered by `Opened` and an fd.
    Create {
        directory: Handle,
        name: Vec<u8>,
        mode: u32,
        uid: u32,
        gid: u32,
        access: u32,
    },
    /// Makes a directory, FIFO, socket or (with `target`) symbolic link; EPERM for device nodes; answered by `Walked`.
    Make {
        directory: Handle,
        name: Vec<u8>,
        mode: u32,
        device: u64,
        uid: u32,
        gid: u32,
        target: Vec<u8>,
    },
    /// A hard link `name` in `directory` to `from_name` in `from`.
    Link {
        from: Handle,
        from_name: Vec<u8>,
        directory: Handle,
        name: Vec<u8>,
    },
    /// unlink(2), or rmdir(2) with `is_directory`.
    Unlink {
        directory: Handle,
        name: Vec<u8>,
        is_directory: bool,
    },
    /// renameat2(2).
    Rename {
        from: Handle,
        from_name: Vec<u8>,
        directory: Handle,
        name: Vec<u8>,
        flags: u32,
    },
    /// chmod(2).
    Chmod {
        handle: Handle,
        mode: u32,
    },
    /// chown(2); `None` keeps.
    Chown {
        handle: Handle,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    /// utimensat(2).
    SetTimes {
        handle: Handle,
        accessed: SetTime,
        modified: SetTime,
    },
    /// Entries from `cookie` on (0 the first) for about `space` bytes, without `.` and `..`; answered by `Entries`, empty at the end.
    ReadDir {
        handle: Handle,
        cookie: u64,
        space: u32,
    },
    /// Answered by `Bytes`.
    GetXattr {
        handle: Handle,
        name: Vec<u8>,
    },
    /// `flags` are XATTR_*.
    SetXattr {
        handle: Handle,
        name: Vec<u8>,
        value: Vec<u8>,
        flags: u32,
    },
    /// Answered by `Bytes`: NUL-terminated names.
    ListXattr {
        handle: Handle,
    },
    RemoveXattr {
        handle: Handle,
        name: Vec<u8>,
    },
    /// Answered by `Statistics`.
    Statfs {
        handle: Handle,
    },
    /// syncfs(2) of the file system that holds it.
    Sync {
        handle: Handle,
    },
    /// Gives handles back.
    Close {
        handles: Vec<Handle>,
    },
}

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Reply {
    Error(Errno),
    Done,
    /// What was found, and why the walk ended before the last name, if an error ended it.
    Walked {
        entries: Vec<Entry>,
        stopped: Option<Errno>,
    },
    Attributes(Attributes),
    /// The fd comes with the reply.
    Opened(Entry),
    Bytes(Vec<u8>),
    Entries(Vec<DirEntry>),
    Statistics(FsStatistics),
}

/// Names of one walk at most.
pub const WALK_LIMIT: usize = 32;

crate::wire::protocol! {
    Request: encode::put_request, decode::get_request;
    Reply: encode::put_reply, decode::get_reply
}
