//! Handles and what can be done with them.

mod handles;
#[cfg(test)]
mod tests;

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bulkhead_ipc::{
    Errno,
    gofer::{Entry, Handle, Reply, Request},
    vfs::Attributes,
};
use handles::{Held, Table};

use crate::{
    host::{self, component},
    roots::Root,
};

/// Bytes of a directory that one `ReadDir` reads at most, so that the entries fit a message.
const DIRECTORY_BATCH: u32 = 32 * 1024;

/// The file server. Shared by all server threads.
#[derive(Debug)]
pub struct Gofer {
    roots: Vec<Root>,
    handles: Table,
    served: Served,
}

/// What was done so far.
#[derive(Debug, Default)]
struct Served {
    requests: AtomicU64,
    refused: AtomicU64,
    donated: AtomicU64,
}

/// Figures of a file server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Requests that were answered.
    pub requests: u64,
    /// Of these, with an error.
    pub refused: u64,
    /// Fds that were handed over.
    pub donated: u64,
    /// Handles that are open.
    pub handles: usize,
    /// Handles that there may be.
    pub handle_limit: usize,
}

/// A reply and the fd that goes with it.
pub type Answer = (Reply, Option<OwnedFd>);

impl Gofer {
    /// Serves `roots`, with at most `limit` handles at a time.
    pub fn new(roots: Vec<Root>, limit: u64) -> Gofer {
        Gofer { roots, handles: Table::new(limit), served: Served::default() }
    }

    /// Handles that are open.
    pub fn open_handles(&self) -> usize {
        self.handles.len()
    }

    /// What is served.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The open handles, by number, with what is told of each: the root, and the names that led from there.
    pub fn list_handles(&self) -> Vec<(u64, u32, Vec<u8>)> {
        let handles = self.handles.list().into_iter();
        handles.map(|(id, held)| (id, held.root, held.path())).collect()
    }

    /// Figures so far.
    pub fn figures(&self) -> Figures {
        Figures {
            requests: self.served.requests.load(Relaxed),
            refused: self.served.refused.load(Relaxed),
            donated: self.served.donated.load(Relaxed),
            handles: self.handles.len(),
            handle_limit: self.handles.limit(),
        }
    }

    /// Answers a request.
    pub fn answer(&self, request: Request) -> Answer {
        self.served.requests.fetch_add(1, Relaxed);
        let answer = self.try_answer(request);
        if matches!(answer, Ok((_, Some(_)))) {
            self.served.donated.fetch_add(1, Relaxed);
        }
        answer.unwrap_or_else(|errno| {
            self.served.refused.fetch_add(1, Relaxed);
            (Reply::Error(errno), None)
        })
    }

    fn try_answer(&self, request: Request) -> Result<Answer, Errno> {
        let reply = match request {
            Request::Attach { root } => self.attach(root)?,
            Request::Walk { base, names } => self.walk(base, &names)?,
            Request::Attributes { handle } => Reply::Attributes(host::attributes(self.handles.get(handle)?.fd.as_fd())?),
            Request::Open { directory, name, access } => return self.open(directory, &name, access.cast_signed()),
            Request::Create { directory, name, mode, uid, gid, access } => {
                return self.create(directory, &name, mode, (uid, gid), access.cast_signed());
            }
            Request::Make { directory, name, mode, device: _, uid, gid, target } => {
                self.make(directory, &name, mode, (uid, gid), target)?
            }
            Request::Link { from, from_name, directory, name } => {
                let (from, directory) = self.writable_pair(from, directory)?;
                host::link(from.fd.as_fd(), &component(&from_name)?, directory.fd.as_fd(), &component(&name)?)?;
                Reply::Done
            }
            Request::Unlink { directory, name, is_directory } => {
                host::unlink(self.writable(directory)?.fd.as_fd(), &component(&name)?, is_directory)?;
                Reply::Done
            }
            Request::Rename { from, from_name, directory, name, flags } => {
                if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 {
                    return Err(Errno::EINVAL);
                }
                let (from, directory) = self.writable_pair(from, directory)?;
                host::rename(from.fd.as_fd(), &component(&from_name)?, directory.fd.as_fd(), &component(&name)?, flags)?;
                Reply::Done
            }
            Request::Chmod { handle, mode } => {
                host::change_mode(self.writable(handle)?.fd.as_fd(), mode)?;
                Reply::Done
            }
            Request::Chown { handle, uid, gid } => {
                host::change_owner(self.writable(handle)?.fd.as_fd(), uid, gid)?;
                Reply::Done
            }
            Request::SetTimes { handle, accessed, modified } => {
                host::set_times(self.writable(handle)?.fd.as_fd(), accessed, modified)?;
                Reply::Done
            }
            Request::ReadDir { handle, cookie, space } => {
                let directory = host::open_directory(self.handles.get(handle)?.fd.as_fd())?;
                let space = space.clamp(1024, DIRECTORY_BATCH) as usize;
                Reply::Entries(host::read_directory(directory.as_fd(), cookie, space)?)
            }
            Request::GetXattr { handle, name } => {
                let held = self.handles.get(handle)?;
                let (directory, entry) = self.place_of(&held)?;
                Reply::Bytes(host::get_xattr(directory, entry, &attribute_name(name)?)?)
            }
            Request::SetXattr { handle, name, value, flags } => {
                let held = self.writable(handle)?;
                let (directory, entry) = self.place_of(&held)?;
                host::set_xattr(directory, entry, &changeable_attribute(name)?, &value, flags)?;
                Reply::Done
            }
            Request::ListXattr { handle } => {
                let held = self.handles.get(handle)?;
                let (directory, entry) = self.place_of(&held)?;
                Reply::Bytes(host::list_xattrs(directory, entry)?)
            }
            Request::RemoveXattr { handle, name } => {
                let held = self.writable(handle)?;
                let (directory, entry) = self.place_of(&held)?;
                host::remove_xattr(directory, entry, &changeable_attribute(name)?)?;
                Reply::Done
            }
            Request::Statfs { handle } => Reply::Statistics(host::statistics(self.handles.get(handle)?.fd.as_fd())?),
            Request::Sync { handle } => self.sync(handle)?,
            Request::Close { handles } => {
                self.handles.close(&handles);
                Reply::Done
            }
        };
        Ok((reply, None))
    }

    fn root_of(&self, held: &Held) -> Result<&Root, Errno> {
        self.roots.get(held.root as usize).ok_or(Errno::EBADF)
    }

    /// A directory and a name in it by which the host knows what the handle stands for; ESTALE when it went elsewhere.
    fn place_of<'a>(&'a self, held: &'a Held) -> Result<(BorrowedFd<'a>, &'a CStr), Errno> {
        let attributes = host::attributes(held.fd.as_fd())?;
        if is(&attributes, libc::S_IFDIR) {
            return Ok((held.fd.as_fd(), c"."));
        }
        // A root that is a single file has no place.
        let (directory, name) =
            held.place.as_ref().map(|(directory, name)| (directory.fd.as_fd(), &**name)).ok_or(Errno::EOPNOTSUPP)?;
        let there = host::attributes_at(directory, name)?;
        if (there.device, there.inode) == (attributes.device, attributes.inode) {
            Ok((directory, name))
        } else {
            Err(Errno::ESTALE)
        }
    }

    /// A handle through which something may be changed.
    fn writable(&self, handle: Handle) -> Result<Arc<Held>, Errno> {
        let held = self.handles.get(handle)?;
        if self.root_of(&held)?.readonly { Err(Errno::EROFS) } else { Ok(held) }
    }

    /// Two directories of the same root.
    fn writable_pair(&self, one: Handle, other: Handle) -> Result<(Arc<Held>, Arc<Held>), Errno> {
        let (one, other) = (self.writable(one)?, self.writable(other)?);
        if one.root == other.root { Ok((one, other)) } else { Err(Errno::EXDEV) }
    }

    fn attach(&self, index: u32) -> Result<Reply, Errno> {
        let root = self.roots.get(index as usize).ok_or(Errno::ENOENT)?;
        let entry = self.entry(root.fd.try_clone()?, index, None)?;
        Ok(Reply::Walked { entries: vec![entry], stopped: None })
    }

    /// Puts an fd into the table.
    fn entry(&self, fd: OwnedFd, root: u32, place: Option<(Arc<Held>, CString)>) -> Result<Entry, Errno> {
        let attributes = host::attributes(fd.as_fd())?;
        let target = if is(&attributes, libc::S_IFLNK) { host::read_link(fd.as_fd())? } else { Vec::new() };
        let handle = self.handles.insert(Held { fd, root, place })?;
        Ok(Entry { handle, attributes, target })
    }

    fn walk(&self, base: Handle, names: &[Vec<u8>]) -> Result<Reply, Errno> {
        let mut here = self.handles.get(base)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(names.len());
        let mut stopped = None;
        for name in names {
            if entries.last().is_some_and(|entry| !is(&entry.attributes, libc::S_IFDIR)) {
                break;
            }
            let step = component(name)
                .and_then(|name| Ok((host::open_path(here.fd.as_fd(), &name)?, name)))
                .and_then(|(fd, name)| self.entry(fd, here.root, Some((here.clone(), name))))
                .and_then(|entry| Ok((self.handles.get(entry.handle)?, entry)));
            match step {
                Ok((held, entry)) => {
                    here = held;
                    entries.push(entry);
                }
                Err(errno) => {
                    stopped = Some(errno);
                    break;
                }
            }
        }
        Ok(Reply::Walked { entries, stopped })
    }

    fn open(&self, directory: Handle, name: &[u8], access: i32) -> Result<Answer, Errno> {
        let held = self.handles.get(directory)?;
        let root = self.root_of(&held)?;
        if root.readonly && access != libc::O_RDONLY {
            return Err(Errno::EROFS);
        }
        if name.is_empty() {
            let file = root.file(access)?.try_clone_to_owned()?;
            let attributes = host::attributes(file.as_fd())?;
            return Ok((Reply::Opened(Entry { handle: Handle(0), attributes, target: Vec::new() }), Some(file)));
        }
        open_regular(held.fd.as_fd(), &component(name)?, access)
    }

    fn create(&self, directory: Handle, name: &[u8], mode: u32, owner: (u32, u32), access: i32) -> Result<Answer, Errno> {
        let held = self.writable(directory)?;
        let directory = held.fd.as_fd();
        let name = component(name)?;
        let file = host::create_file(directory, &name, access, mode)?;
        let made = (|| {
            let path = host::open_path(directory, &name)?;
            let (new, found) = (host::attributes(file.as_fd())?, host::attributes(path.as_fd())?);
            if (new.device, new.inode) != (found.device, found.inode) {
                return Err(Errno::ESTALE);
            }
            give(path.as_fd(), &new, owner, mode)?;
            self.entry(path, held.root, Some((held.clone(), name.clone())))
        })();
        match made {
            Ok(entry) => Ok((Reply::Opened(entry), Some(file))),
            Err(errno) => {
                let _ = host::unlink(directory, &name, false);
                Err(errno)
            }
        }
    }

    fn make(&self, directory: Handle, name: &[u8], mode: u32, owner: (u32, u32), target: Vec<u8>) -> Result<Reply, Errno> {
        let held = self.writable(directory)?;
        let directory = held.fd.as_fd();
        let name = component(name)?;
        let kind = mode & libc::S_IFMT;
        match kind {
            libc::S_IFDIR => host::make_directory(directory, &name, mode)?,
            libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFREG => host::make_node(directory, &name, mode)?,
            libc::S_IFLNK => host::make_symlink(&CString::new(target).map_err(|_| Errno::EINVAL)?, directory, &name)?,
            libc::S_IFCHR | libc::S_IFBLK => return Err(Errno::EPERM),
            _ => return Err(Errno::EINVAL),
        }
        let made = (|| {
            let path = host::open_path(directory, &name)?;
            let new = host::attributes(path.as_fd())?;
            if !is(&new, kind) {
                return Err(Errno::ESTALE);
            }
            give(path.as_fd(), &new, owner, mode)?;
            self.entry(path, held.root, Some((held.clone(), name.clone())))
        })();
        match made {
            Ok(entry) => Ok(Reply::Walked { entries: vec![entry], stopped: None }),
            Err(errno) => {
                let _ = host::unlink(directory, &name, kind == libc::S_IFDIR);
                Err(errno)
            }
        }
    }

    fn sync(&self, handle: Handle) -> Result<Reply, Errno> {
        let held = self.handles.get(handle)?;
        let directory = host::open_directory(held.fd.as_fd()).or_else(|_| host::open_directory(self.root_of(&held)?.fd.as_fd()));
        match directory {
            Ok(directory) => host::sync(directory.as_fd())?,
            // A root that is a single file: whoever has it open can fsync it.
            Err(Errno::ENOTDIR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(Reply::Done)
    }
}

/// Gives a new file to its owner, and the bits back that giving it away takes.
fn give(path: BorrowedFd<'_>, new: &Attributes, (uid, gid): (u32, u32), mode: u32) -> Result<(), Errno> {
    if (new.uid, new.gid) != (uid, gid) {
        host::change_owner(path, Some(uid), Some(gid))?;
    }
    let lost = mode & 0o6000 != 0 || new.mode & 0o7777 != mode & 0o7777;
    if lost && !is(new, libc::S_IFLNK) { host::change_mode(path, mode) } else { Ok(()) }
}

/// Opens what is a regular file before and after: opening anything else could have effects on the host.
fn open_regular(directory: BorrowedFd<'_>, name: &CStr, access: i32) -> Result<Answer, Errno> {
    if !is(&host::attributes_at(directory, name)?, libc::S_IFREG) {
        return Err(Errno::EINVAL);
    }
    let file = host::open_file(directory, name, access)?;
    let attributes = host::attributes(file.as_fd())?;
    if !is(&attributes, libc::S_IFREG) {
        return Err(Errno::ESTALE);
    }
    Ok((Reply::Opened(Entry { handle: Handle(0), attributes, target: Vec::new() }), Some(file)))
}

fn is(attributes: &Attributes, kind: u32) -> bool {
    attributes.mode & libc::S_IFMT == kind
}

fn attribute_name(name: Vec<u8>) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::EINVAL)
}

/// The attributes that only describe the file to its users. The others (`security.*`, `trusted.*`) tell the host's kernel what
/// the file may do there.
fn changeable_attribute(name: Vec<u8>) -> Result<CString, Errno> {
    if name.starts_with(b"user.") { attribute_name(name) } else { Err(Errno::EPERM) }
}
