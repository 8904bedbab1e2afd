//! The client of the gofer: its protocol as methods. A handle is closed when the last [`Held`] of it is dropped; closing is
//! gathered into batches.

use std::{os::fd::OwnedFd, sync::Arc};

use bulkhead_ipc::{
    Errno,
    gofer::{Entry, Handle, Reply, Request},
    rpc::{Answered, Asker, Client, RpcError},
    vfs::{Attributes, DirEntry, FsStatistics, SetTime},
};
use parking_lot::Mutex;

/// Handles that nobody holds any more and that the gofer has not been told of; shared by all connections.
pub type Dropped = Arc<Mutex<Vec<Handle>>>;

/// Closing a handle is told the gofer when this many came together.
const CLOSE_BATCH: usize = 64;

/// A handle of the gofer; dropping it closes it.
#[derive(Debug)]
pub struct Held {
    handle: Handle,
    dropped: Dropped,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.dropped.lock().push(self.handle);
    }
}

/// What the gofer found under a name.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its handle.
    pub held: Arc<Held>,
    /// Its attributes as the host has them.
    pub attributes: Attributes,
    /// Where it points, if it is a symbolic link.
    pub target: Vec<u8>,
}

/// One connection to the gofer.
pub struct Gofer {
    connection: Asker,
    dropped: Dropped,
}

impl Gofer {
    /// A connection; `dropped` is the same for all of a process.
    pub fn new(client: Client, dropped: Dropped) -> Gofer {
        Gofer { connection: Asker::new(client), dropped }
    }

    fn call(&mut self, request: &Request) -> Result<(Reply, Option<OwnedFd>), Errno> {
        match self.connection.ask(request) {
            Ok(Answered { reply: Reply::Error(errno), .. }) => Err(errno),
            // If it was lost, whoever expects an fd finds that.
            Ok(Answered { reply, mut fds, .. }) => Ok((reply, if fds.len() == 1 { fds.pop() } else { None })),
            Err(error) => {
                if !matches!(error, RpcError::Closed) {
                    tracing::error!(%error, "the gofer does not answer");
                }
                Err(Errno::EIO)
            }
        }
    }

    fn done(&mut self, request: &Request) -> Result<(), Errno> {
        self.call(request).map(drop)
    }

    fn found(&self, entry: Entry) -> Found {
        let held = Arc::new(Held { handle: entry.handle, dropped: self.dropped.clone() });
        Found { held, attributes: entry.attributes, target: entry.target }
    }

    fn walked(&mut self, request: &Request) -> Result<(Vec<Found>, Option<Errno>), Errno> {
        match self.call(request)?.0 {
            Reply::Walked { entries, stopped } => Ok((entries.into_iter().map(|entry| self.found(entry)).collect(), stopped)),
            _ => Err(Errno::EIO),
        }
    }

    /// Closes what was dropped, if it is worth a call or `all`.
    pub fn close_dropped(&mut self, all: bool) {
        let handles = {
            let mut dropped = self.dropped.lock();
            if dropped.is_empty() || (!all && dropped.len() < CLOSE_BATCH) {
                return;
            }
            let keep = dropped.len().saturating_sub(4096);
            dropped.split_off(keep)
        };
        let _ = self.done(&Request::Close { handles });
    }

    /// The root with this index.
    pub fn attach(&mut self, root: u32) -> Result<Found, Errno> {
        self.walked(&Request::Attach { root })?.0.pop().ok_or(Errno::EIO)
    }

    /// Walks as far as it goes; the error says why not further.
    pub fn walk(&mut self, base: &Held, names: Vec<Vec<u8>>) -> Result<(Vec<Found>, Option<Errno>), Errno> {
        let asked = names.len();
        let (entries, stopped) = self.walked(&Request::Walk { base: base.handle, names })?;
        if entries.len() > asked || (entries.is_empty() && stopped.is_none()) {
            return Err(Errno::EIO);
        }
        Ok((entries, stopped))
    }

    /// Attributes now.
    pub fn attributes(&mut self, held: &Held) -> Result<Attributes, Errno> {
        match self.call(&Request::Attributes { handle: held.handle })?.0 {
            Reply::Attributes(attributes) => Ok(attributes),
            _ => Err(Errno::EIO),
        }
    }

    /// Opens a regular file.
    pub fn open(&mut self, directory: &Held, name: &[u8], access: u32) -> Result<OwnedFd, Errno> {
        let request = Request::Open { directory: directory.handle, name: name.to_vec(), access };
        self.call(&request)?.1.ok_or(Errno::ENFILE)
    }

    /// Makes a regular file.
    pub fn create(
        &mut self,
        directory: &Held,
        name: &[u8],
        mode: u32,
        (uid, gid): (u32, u32),
        access: u32,
    ) -> Result<(Found, OwnedFd), Errno> {
        let request = Request::Create { directory: directory.handle, name: name.to_vec(), mode, uid, gid, access };
        match self.call(&request)? {
            (Reply::Opened(entry), Some(fd)) => Ok((self.found(entry), fd)),
            (Reply::Opened(entry), None) => {
                // Without its fd it is as if it had not been made.
                drop(self.found(entry));
                let _ = self.unlink(directory, name, false);
                Err(Errno::ENFILE)
            }
            _ => Err(Errno::EIO),
        }
    }

    /// Makes anything else.
    pub fn make(
        &mut self,
        directory: &Held,
        name: &[u8],
        mode: u32,
        device: u64,
        (uid, gid): (u32, u32),
        target: &[u8],
    ) -> Result<Found, Errno> {
        let (name, target) = (name.to_vec(), target.to_vec());
        let request = Request::Make { directory: directory.handle, name, mode, device, uid, gid, target };
        self.walked(&request)?.0.pop().ok_or(Errno::EIO)
    }

    /// link(2).
    pub fn link(&mut self, from: &Held, from_name: &[u8], directory: &Held, name: &[u8]) -> Result<(), Errno> {
        let (from_name, name) = (from_name.to_vec(), name.to_vec());
        self.done(&Request::Link { from: from.handle, from_name, directory: directory.handle, name })
    }

    /// unlink(2), rmdir(2).
    pub fn unlink(&mut self, directory: &Held, name: &[u8], is_directory: bool) -> Result<(), Errno> {
        self.done(&Request::Unlink { directory: directory.handle, name: name.to_vec(), is_directory })
    }

    /// renameat2(2).
    pub fn rename(&mut self, from: &Held, from_name: &[u8], directory: &Held, name: &[u8], flags: u32) -> Result<(), Errno> {
        let (from_name, name) = (from_name.to_vec(), name.to_vec());
        self.done(&Request::Rename { from: from.handle, from_name, directory: directory.handle, name, flags })
    }

    /// chmod(2).
    pub fn chmod(&mut self, held: &Held, mode: u32) -> Result<(), Errno> {
        self.done(&Request::Chmod { handle: held.handle, mode })
    }

    /// chown(2).
    pub fn chown(&mut self, held: &Held, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        self.done(&Request::Chown { handle: held.handle, uid, gid })
    }

    /// utimensat(2).
    pub fn set_times(&mut self, held: &Held, accessed: SetTime, modified: SetTime) -> Result<(), Errno> {
        self.done(&Request::SetTimes { handle: held.handle, accessed, modified })
    }

    /// A batch of a directory.
    pub fn read_directory(&mut self, held: &Held, cookie: u64, space: u32) -> Result<Vec<DirEntry>, Errno> {
        match self.call(&Request::ReadDir { handle: held.handle, cookie, space })?.0 {
            Reply::Entries(entries) => Ok(entries),
            _ => Err(Errno::EIO),
        }
    }

    fn bytes(&mut self, request: &Request) -> Result<Vec<u8>, Errno> {
        match self.call(request)?.0 {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(Errno::EIO),
        }
    }

    /// getxattr(2).
    pub fn get_xattr(&mut self, held: &Held, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.bytes(&Request::GetXattr { handle: held.handle, name: name.to_vec() })
    }

    /// listxattr(2).
    pub fn list_xattrs(&mut self, held: &Held) -> Result<Vec<u8>, Errno> {
        self.bytes(&Request::ListXattr { handle: held.handle })
    }

    /// setxattr(2).
    pub fn set_xattr(&mut self, held: &Held, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        let (name, value) = (name.to_vec(), value.to_vec());
        self.done(&Request::SetXattr { handle: held.handle, name, value, flags })
    }

    /// removexattr(2).
    pub fn remove_xattr(&mut self, held: &Held, name: &[u8]) -> Result<(), Errno> {
        self.done(&Request::RemoveXattr { handle: held.handle, name: name.to_vec() })
    }

    /// statfs(2).
    pub fn statistics(&mut self, held: &Held) -> Result<FsStatistics, Errno> {
        match self.call(&Request::Statfs { handle: held.handle })?.0 {
            Reply::Statistics(statistics) => Ok(statistics),
            _ => Err(Errno::EIO),
        }
    }

    /// syncfs(2).
    pub fn sync(&mut self, held: &Held) -> Result<(), Errno> {
        self.done(&Request::Sync { handle: held.handle })
    }
}
