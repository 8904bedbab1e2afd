//! Names of sockets: paths, whose nodes are vfs's, and abstract ones; and the table of all sockets.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};

use bulkhead_ipc::{
    Errno,
    vfs::{
        Reply, Request,
        permissions::{WRITE, permit},
    },
};
use parking_lot::Mutex;

use super::{rights::Flight, socket::UnixSocket};
use crate::{
    abi::FdNumber,
    fs::{
        Location,
        path::{Answer, Walk, locate, stat},
        vfs::NodeHandle,
    },
    socket::Address,
    task::Thread,
};

/// Bytes of sun_path.
const PATH: usize = 108;

/// An abstract name is one of a type (SOCK_*).
type AbstractName = (i32, Vec<u8>);

/// What the sockets of this family have in common.
#[derive(Default)]
pub(super) struct World {
    /// Sockets with abstract names.
    abstracts: Mutex<HashMap<AbstractName, Weak<UnixSocket>>>,
    /// Sockets whose name is a path, by (device, inode) of the node.
    places: Mutex<HashMap<(u64, u64), Weak<UnixSocket>>>,
    /// All sockets by inode number.
    sockets: Mutex<BTreeMap<u64, Weak<UnixSocket>>>,
    next_automatic: AtomicU32,
    /// Files on their way.
    pub flight: Mutex<Flight>,
    /// What all sockets are charged with.
    pub charged: Arc<AtomicUsize>,
}

/// What a name is kept by.
pub(super) enum Binding {
    Abstract(Vec<u8>),
    /// The node is held, so that its number is not another's.
    Place((u64, u64), #[expect(dead_code, reason = "held, not used")] Arc<NodeHandle>),
}

/// sun_path of an address; EINVAL.
fn path_of(address: &Address) -> Result<&[u8], Errno> {
    let path = address.rest();
    if address.family() != Some(libc::AF_UNIX) || path.is_empty() || path.len() > PATH { Err(Errno::EINVAL) } else { Ok(path) }
}

/// The path in sun_path: up to a NUL.
fn path_name(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == 0).next().unwrap_or_default()
}

impl World {
    pub(super) fn enter(&self, number: u64, socket: &Weak<UnixSocket>) {
        self.sockets.lock().insert(number, socket.clone());
    }

    /// The socket was closed.
    pub(super) fn leave(&self, number: u64, binding: Option<&Binding>, kind: i32) {
        self.sockets.lock().remove(&number);
        match binding {
            Some(Binding::Abstract(name)) => drop(self.abstracts.lock().remove(&(kind, name.clone()))),
            Some(Binding::Place(inode, _)) => drop(self.places.lock().remove(inode)),
            None => {}
        }
    }

    /// The socket with this name; ECONNREFUSED when there is none, EPROTOTYPE when it is of another type.
    pub(super) fn find(&self, thread: &Thread, address: &Address, kind: i32) -> Result<Arc<UnixSocket>, Errno> {
        let path = path_of(address)?;
        if path[0] == 0 {
            let abstracts = self.abstracts.lock();
            return abstracts.get(&(kind, path.to_vec())).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED);
        }
        let mut walk = Walk::new(thread);
        let target = walk.resolve(FdNumber::WORKING_DIRECTORY, path_name(path), true, false)?;
        let attributes = stat(&mut walk, target)?;
        permit(&walk.caller, &attributes, WRITE)?;
        if attributes.mode & libc::S_IFMT != libc::S_IFSOCK {
            return Err(Errno::ECONNREFUSED);
        }
        let found = self.places.lock().get(&(attributes.device, attributes.inode)).and_then(Weak::upgrade);
        let found = found.ok_or(Errno::ECONNREFUSED)?;
        if found.kind() == kind { Ok(found) } else { Err(Errno::EPROTOTYPE) }
    }

    /// Gives a socket a name; what it is kept by, and sun_path as it is told. EADDRINUSE.
    pub(super) fn bind(
        &self,
        thread: &Thread,
        address: &Address,
        socket: &Weak<UnixSocket>,
        kind: i32,
        permissions: u32,
    ) -> Result<(Binding, Vec<u8>), Errno> {
        if address.family() == Some(libc::AF_UNIX) && address.rest().is_empty() {
            return self.bind_automatically(socket, kind);
        }
        let path = path_of(address)?;
        if path[0] == 0 {
            if !self.bind_abstract(socket, kind, path) {
                return Err(Errno::EADDRINUSE);
            }
            return Ok((Binding::Abstract(path.to_vec()), path.to_vec()));
        }
        let name = path_name(path);
        let (inode, node) = make_node(thread, name, permissions)?;
        self.places.lock().insert(inode, socket.clone());
        Ok((Binding::Place(inode, node), [name, b"\0"].concat()))
    }

    /// A name that nobody has: five hexadecimal digits. ENOSPC when all are taken.
    pub(super) fn bind_automatically(&self, socket: &Weak<UnixSocket>, kind: i32) -> Result<(Binding, Vec<u8>), Errno> {
        const NUMBERS: u32 = 1 << 20;
        for _ in 0..NUMBERS {
            let number = self.next_automatic.fetch_add(1, Relaxed) % NUMBERS;
            let name = format!("\0{number:05x}").into_bytes();
            if self.bind_abstract(socket, kind, &name) {
                return Ok((Binding::Abstract(name.clone()), name));
            }
        }
        Err(Errno::ENOSPC)
    }

    fn bind_abstract(&self, socket: &Weak<UnixSocket>, kind: i32, name: &[u8]) -> bool {
        let mut abstracts = self.abstracts.lock();
        let key = (kind, name.to_vec());
        let free = abstracts.get(&key).is_none_or(|holder| holder.strong_count() == 0);
        if free {
            abstracts.insert(key, socket.clone());
        }
        free
    }

    /// /proc/net/unix.
    pub(super) fn table(&self) -> Vec<u8> {
        const LISTENS: u32 = 1 << 16;
        let mut text = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
        let sockets: Vec<_> = self.sockets.lock().iter().filter_map(|(n, socket)| Some((*n, socket.upgrade()?))).collect();
        for (number, socket) in sockets {
            let flags = if socket.is_listening() { LISTENS } else { 0 };
            let (references, state) = (2 + u32::from(socket.is_connected()), socket.state_number());
            let _ = write!(text, "{:016x}: {references:08X} {:08X} {flags:08X} ", 0, 0);
            let _ = write!(text, "{:04X} {state:02X} {number:5}", socket.kind());
            if let Some(name) = socket.sun_path() {
                let shown: Vec<u8> = match name.first() {
                    Some(0) => name.iter().map(|&byte| if byte == 0 { b'@' } else { byte }).collect(),
                    _ => path_name(&name).to_vec(),
                };
                let _ = write!(text, " {}", String::from_utf8_lossy(&shown));
            }
            text.push('\n');
        }
        text.into_bytes()
    }
}

/// Makes a socket's node, and holds it.
fn make_node(thread: &Thread, name: &[u8], permissions: u32) -> Result<((u64, u64), Arc<NodeHandle>), Errno> {
    let mode = libc::S_IFSOCK | permissions & 0o7777 & !thread.fs().umask.load(Relaxed);
    let mut walk = Walk::new(thread);
    let target = walk.resolve(FdNumber::WORKING_DIRECTORY, name, false, false)?;
    match walk.ask(target.clone(), |at| Request::Mknod { at, mode, device: 0 }) {
        Ok(Answer::Vfs(Reply::Done, _)) => {}
        Ok(Answer::Vfs(..)) => return Err(Errno::EIO),
        Ok(Answer::Special(_) | Answer::File(_)) | Err(Errno::EEXIST) => return Err(Errno::EADDRINUSE),
        Err(errno) => return Err(errno),
    }
    match locate(&mut walk, target, false)? {
        (Location::Vfs(node), attributes) if attributes.mode & libc::S_IFMT == libc::S_IFSOCK => {
            Ok(((attributes.device, attributes.inode), node))
        }
        // Somebody replaced it meanwhile.
        _ => Err(Errno::EADDRINUSE),
    }
}
