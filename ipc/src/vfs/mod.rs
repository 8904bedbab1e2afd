//! What the sentry asks of vfs: the typed requests and replies. `schema/vfs.capnp` is their form on the wire and
//! [`Request::encode`], [`Request::decode`] and their twins of [`Reply`] turn one into the other; nothing here is trusted before
//! it was decoded.
//!
//! A request names files by a *base* node and a path. vfs walks the path itself (permission checks, symlinks, mount
//! crossings included). Where a walk enters a file system that the sentry implements (proc, sysfs, devpts, mqueue), the
//! reply is [`Reply::Foreign`] with the rest of the path, and the sentry goes on by itself.

pub(crate) mod decode;
pub(crate) mod encode;
pub mod permissions;
mod status;
#[cfg(test)]
pub(crate) mod tests;

pub use status::FileStatus;

use crate::{Errno, published::Key};

/// A file or directory that vfs keeps alive for the sentry: one reference per handed-out id, given back by
/// [`Request::Forget`]. Ids are never reused within a sandbox's life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the mount tree; needs no reference.
    pub const ROOT: NodeId = NodeId(1);
}

/// Who asks, for permission checks (credentials(7)).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// File-system user id.
    pub uid: u32,
    /// File-system group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Effective capabilities, bit n = capability number n.
    pub capabilities: u64,
}

/// Where a path starts, what it is, and who walks it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct At {
    /// Whose permissions count for this walk and what is done at its end.
    pub caller: Caller,
    /// The caller's root directory (chroot(2)): absolute paths and `..` stop here.
    pub root: NodeId,
    /// Where relative paths start: the working directory or a directory fd.
    pub base: NodeId,
    /// The path, without NUL; empty means `base` itself (AT_EMPTY_PATH).
    pub path: Vec<u8>,
    /// Whether a symbolic link in the last component is followed.
    pub follow: bool,
}

/// stat(2) and statx(2)'s fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    /// Device number of the file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Type and permission bits (inode(7)).
    pub mode: u32,
    /// Hard links.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, for device nodes.
    pub special_device: u64,
    /// Bytes.
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
    /// Preferred I/O size in bytes.
    pub block_size: u32,
    /// Last access.
    pub accessed: Timestamp,
    /// Last modification of the contents.
    pub modified: Timestamp,
    /// Last change of the inode.
    pub changed: Timestamp,
    /// Creation.
    pub created: Timestamp,
    /// The mount's id, as in mountinfo.
    pub mount: u32,
    /// Mount flags (ST_* of statvfs(3)) of the mount it was reached by.
    pub mount_flags: u32,
}

/// A time of a file: seconds and nanoseconds since the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: i64,
    /// 0..1_000_000_000.
    pub nanoseconds: u32,
}

/// utimensat(2)'s way to give a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// UTIME_OMIT.
    Keep,
    /// UTIME_NOW.
    Now,
    /// A given time.
    To(Timestamp),
}

/// Under which keys a place is [published](crate::published); none if it is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Published {
    pub dentry: Key,
    pub inode: Key,
}

/// The file systems whose contents are views of the sentry's own state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForeignFs {
    /// proc(5).
    Proc,
    /// sysfs(5).
    Sysfs,
    /// Pseudo-terminals.
    Devpts,
    /// mq_overview(7).
    Mqueue,
    /// cgroup file systems, v1 or v2.
    Cgroup,
}

/// Where a walk left vfs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreign {
    /// Which file system it entered.
    pub fs: ForeignFs,
    /// The mount's id.
    pub mount: u32,
    /// Mount flags (ST_*).
    pub mount_flags: u32,
    /// Path within that file system at which its mount is rooted (empty, or of a bind mount of a part of it).
    pub inner: Vec<u8>,
    /// The directory it is mounted on, referenced: a walk by `..` from it goes to its parent in vfs.
    pub mountpoint: NodeId,
    /// What is left of the path, relative to the mount's root; empty for the root itself.
    pub rest: Vec<u8>,
}

/// A directory entry, as getdents64(2) gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Inode number.
    pub inode: u64,
    /// Where the next entry is read from.
    pub next: u64,
    /// DT_*.
    pub kind: u8,
    /// Name without NUL.
    pub name: Vec<u8>,
}

/// statfs(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct FsStatistics {
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_length: u64,
    pub flags: u64,
}

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct MountInfo {
    pub id: u32,
    pub parent: u32,
    pub device: u64,
    pub root: Vec<u8>,
    pub mountpoint: Vec<u8>,
    /// ST_* flags.
    pub flags: u32,
    pub fstype: String,
    pub source: String,
    pub options: String,
}

/// An advisory lock (fcntl(2) record locks, open file description locks, flock(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lock {
    /// Which of the two kinds, which do not see each other.
    pub family: LockFamily,
    /// F_RDLCK, F_WRLCK or F_UNLCK.
    pub kind: LockKind,
    /// Who holds it: the sentry's number for a process (POSIX) or an open file description (OFD, flock).
    pub owner: u64,
    /// The guest process id to report for F_GETLK; -1 for OFD locks.
    pub pid: i32,
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive; `u64::MAX` to the end.
    pub end: u64,
}

/// Which locks a lock can conflict with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockFamily {
    /// fcntl(2), POSIX and OFD.
    Record,
    /// flock(2).
    Flock,
}

/// A lock's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum LockKind {
    Read,
    Write,
    Unlock,
}

/// A request. Those with an [`At`] walk first; all of them are answered by [`Reply::Foreign`] when the walk leaves vfs, and by
/// [`Reply::Error`] otherwise when they fail (the errno is the one of the system call of that name).
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Request {
    /// Walk only; answered by `Node`. `directory` asks for ENOTDIR where it is none. Used for chdir, O_PATH, exec's script paths.
    Lookup { at: At, directory: bool },
    /// open(2). `flags` are O_* as the guest gave them, checked by the sentry. Answered by `Opened`. For regular files the
    /// reply carries an fd with exactly the asked access. `execute` asks for an fd to run or map (read access that needs
    /// only x permission; EACCES on a noexec mount).
    Open { at: At, flags: u32, mode: u32, execute: bool },
    /// A second fd for a node that is open already, with this access mode (O_RDONLY, O_WRONLY, O_RDWR); answered by `Opened`.
    /// No permission check: for re-opening /proc/self/fd/N use `Open` with an empty path.
    Reopen { node: NodeId, flags: u32 },
    /// stat(2); answered by `Attributes`.
    Stat { at: At },
    /// access(2) with the caller given; answered by `Done`.
    Access { at: At, mode: u32 },
    /// readlink(2); answered by `Bytes`.
    Readlink { at: At },
    /// mkdir(2).
    Mkdir { at: At, mode: u32 },
    /// mknod(2), also for FIFOs and bound AF_UNIX sockets.
    Mknod { at: At, mode: u32, device: u64 },
    /// symlink(2).
    Symlink { at: At, target: Vec<u8> },
    /// link(2): `from` is the existing file.
    Link { from: At, to: At },
    /// unlink(2), or rmdir(2) with `directory`.
    Unlink { at: At, directory: bool },
    /// renameat2(2) with RENAME_* flags.
    Rename { from: At, to: At, flags: u32 },
    /// chmod(2).
    Chmod { at: At, mode: u32 },
    /// chown(2); `None` keeps.
    Chown { at: At, uid: Option<u32>, gid: Option<u32> },
    /// utimensat(2).
    SetTimes { at: At, accessed: SetTime, modified: SetTime },
    /// truncate(2) by path (ftruncate works on the donated fd).
    Truncate { at: At, size: u64 },
    /// getxattr(2); answered by `Bytes`.
    GetXattr { at: At, name: Vec<u8> },
    /// setxattr(2) with XATTR_* flags.
    SetXattr { at: At, name: Vec<u8>, value: Vec<u8>, flags: u32 },
    /// listxattr(2): NUL-terminated names; answered by `Bytes`.
    ListXattr { at: At },
    /// removexattr(2).
    RemoveXattr { at: At, name: Vec<u8> },
    /// statfs(2); answered by `Statistics`.
    Statfs { at: At },
    /// getdents64(2): entries from `cookie` (0 the first) for about `space` bytes; answered by `Entries` (empty at the end).
    ReadDir { node: NodeId, cookie: u64, space: u32 },
    /// The path of a node as seen from `root` (getcwd(2), /proc/self/fd): answered by `Bytes`; " (deleted)" is appended for an
    /// unlinked one, "(unreachable)" prepended for one that is not beneath root.
    PathOf { node: NodeId, root: NodeId },
    /// One more reference to a node (dup across fork of a working directory and the like).
    Remember { node: NodeId },
    /// Gives references back, one for each occurrence.
    Forget { nodes: Vec<NodeId> },
    /// Sets or clears a lock; `Error(EAGAIN)` when it conflicts (the sentry waits and asks again).
    SetLock { node: NodeId, lock: Lock },
    /// F_GETLK; answered by `Lock` (`None` when it could be set).
    GetLock { node: NodeId, lock: Lock },
    /// Drops all locks of an owner on a node (close(2)).
    DropLocks { node: NodeId, family: LockFamily, owner: u64 },
    /// The mount table beneath `root`; answered by `Mounts`.
    Mounts { root: NodeId },
    /// syncfs(2) and sync(2): everything that is backed by the host.
    Sync { node: Option<NodeId> },
    /// mount(2) of kinds that vfs knows: tmpfs, proc, sysfs, bind, remount, move; EINVAL or ENODEV otherwise.
    Mount { source: Option<At>, at: At, fstype: Vec<u8>, flags: u64, options: Vec<u8> },
    /// umount2(2).
    Unmount { at: At, flags: u32 },
    /// The memory in which vfs publishes what it knows; answered by `Publication`.
    Publication,
}

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Reply {
    /// It failed.
    Error(Errno),
    /// It is done.
    Done,
    /// A node, referenced.
    Node { node: NodeId, attributes: Attributes, published: Published },
    /// An open file, referenced. For a regular file the reply's one fd is attached; `in_memory` says that it is a memory file of
    /// vfs, which allows all access.
    Opened { node: NodeId, attributes: Attributes, created: bool, has_fd: bool, published: Published, in_memory: bool },
    /// Attributes.
    Attributes(Attributes),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A directory's entries.
    Entries(Vec<DirEntry>),
    /// File-system statistics.
    Statistics(FsStatistics),
    /// A conflicting lock, if any.
    Lock(Option<Lock>),
    /// The mount table.
    Mounts(Vec<MountInfo>),
    /// The walk left vfs. `second` says that it was the second path of a request with two.
    Foreign { place: Foreign, second: bool },
    /// Where the root of the mount tree ([`NodeId::ROOT`]) is published, and its mount. The region's fd is attached, if there is one.
    Publication { root: Published, mount: u32 },
}

crate::wire::protocol! {
    Request: encode::put_request, decode::get_request;
    Reply: encode::put_reply, decode::get_reply
}
