//! Sockets: what all address families share, and the families.
//!
//! A family implements [`Family`] and, for its sockets, [`Socket`]; [`Sockets`] lists the families, one line each. What is here is
//! the same for all of them: socket files ([`SocketFile`]), options of the socket level ([`options`]), waiting with time-outs
//! ([`transfer`]), addresses and ancillary data as they lie in guest memory ([`address`], [`control`]).
//!
//! Invariants: every method of a socket returns at once, EAGAIN says "not now", and whoever waits does so on the socket's own
//! queue; bytes are copied once from the sender's memory and once to the receiver's.

pub mod address;
pub mod control;
mod core;
mod file;
pub mod inet;
pub mod message;
pub mod options;
pub mod transfer;
pub mod unix;

use std::{any::Any, sync::Arc};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

pub use self::core::Core;
pub use address::Address;
pub use file::SocketFile;
pub use message::{Incoming, Outgoing, Sink, Source};

use crate::{abi::UserAddress, executor::Readiness, task::Thread};

/// SO_ERROR, SO_SNDBUF and the like stand in [`options`]; this is net.core.somaxconn.
pub const MOST_BACKLOG: u32 = 4096;

/// An address family.
pub trait Family: Send + Sync {
    /// The domains (AF_*) it serves.
    fn domains(&self) -> &'static [i32];
    /// socket(2). `kind` is SOCK_* without flags. ESOCKTNOSUPPORT, EPROTONOSUPPORT, EACCES …
    fn socket(&self, thread: &Thread, domain: i32, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>, Errno>;
    /// socketpair(2).
    fn pair(&self, thread: &Thread, domain: i32, kind: i32, protocol: i32) -> Result<[Arc<dyn Socket>; 2], Errno> {
        let _ = (thread, domain, kind, protocol);
        Err(Errno::EOPNOTSUPP)
    }
    /// The names of its files in /proc/net.
    fn proc_files(&self) -> &'static [&'static str] {
        &[]
    }
    /// One of these files' contents.
    fn proc_file(&self, name: &str) -> Vec<u8> {
        let _ = name;
        Vec::new()
    }
}

/// Which halves shutdown(2) ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// SHUT_RD.
    Read,
    /// SHUT_WR.
    Write,
    /// SHUT_RDWR.
    Both,
}

/// A socket. It lives as long as its file: [`Socket::close`] is called when that is released.
pub trait Socket: Any + Send + Sync {
    /// What all sockets have.
    fn core(&self) -> &Core;
    /// bind(2).
    fn bind(&self, thread: &Thread, address: &Address) -> Result<(), Errno>;
    /// listen(2). `backlog` is at most [`MOST_BACKLOG`].
    fn listen(&self, thread: &Thread, backlog: u32) -> Result<(), Errno>;
    /// accept(2): the next connection; EAGAIN when there is none yet.
    fn accept(&self) -> Result<Arc<dyn Socket>, Errno>;
    /// connect(2). EAGAIN when it cannot begin yet, EINPROGRESS when it has begun; a caller that may wait calls it again, with
    /// `again`, whenever the socket has become writable.
    fn connect(&self, thread: &Thread, address: &Address, again: bool) -> Result<(), Errno>;
    /// getsockname(2).
    fn name(&self) -> Result<Address, Errno>;
    /// getpeername(2).
    fn peer_name(&self) -> Result<Address, Errno>;
    /// Sends what can be sent now, and says how many bytes that was; EAGAIN when it is none.
    fn send(&self, message: &mut Outgoing<'_>) -> Result<usize, Errno>;
    /// Receives what is there; EAGAIN when there is nothing yet. The number of bytes, or with MSG_TRUNC the message's length.
    fn receive(&self, message: &mut Incoming<'_>) -> Result<usize, Errno>;
    /// shutdown(2).
    fn shutdown(&self, how: Shutdown) -> Result<(), Errno>;
    /// Takes the pending error (SO_ERROR).
    fn take_error(&self) -> Option<Errno>;
    /// setsockopt(2) of what [`options`] does not know; `name` is of the level SOL_SOCKET or of another.
    fn set_option(&self, thread: &Thread, level: i32, name: i32, value: &[u8]) -> Result<(), Errno>;
    /// getsockopt(2) of what [`options`] does not know. `room` is how many bytes the caller has place for.
    fn option(&self, thread: &Thread, level: i32, name: i32, room: usize) -> Result<Vec<u8>, Errno>;
    /// An option that is on or off was changed.
    fn flags_changed(&self) -> Result<(), Errno> {
        Ok(())
    }
    /// SO_SNDBUF or SO_RCVBUF was changed.
    fn buffers_changed(&self) {}
    /// Whether it listens (SO_ACCEPTCONN).
    fn listens(&self) -> bool;
    /// ioctl(2).
    fn ioctl(&self, thread: &Thread, command: u32, argument: UserAddress) -> Result<u64, Errno>;
    /// What poll(2) says now.
    fn poll(&self) -> Readiness;
    /// Its file was released.
    fn close(&self);
    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
}

/// The families of a guest kernel.
pub struct Sockets {
    families: Vec<Arc<dyn Family>>,
    /// Domains that were asked for and are not there.
    missing: Mutex<Vec<i32>>,
}

impl Default for Sockets {
    fn default() -> Self {
        let families: Vec<Arc<dyn Family>> = vec![Arc::new(unix::UnixFamily::default())];
        Sockets { families, missing: Mutex::default() }
    }
}

impl Sockets {
    /// All families, with those that netstack serves.
    pub fn new(netstack: Arc<inet::client::NetClient>) -> Sockets {
        let mut sockets = Sockets::default();
        sockets.families.push(Arc::new(inet::InetFamily::new(netstack)));
        sockets
    }

    /// The family of a domain; EAFNOSUPPORT, which is logged once for each.
    pub fn family(&self, domain: i32) -> Result<&Arc<dyn Family>, Errno> {
        /// Where Linux's domains end (AF_MAX).
        const END: i32 = 46;
        if let Some(family) = self.families.iter().find(|family| family.domains().contains(&domain)) {
            return Ok(family);
        }
        let mut missing = self.missing.lock();
        if (0..END).contains(&domain) && !missing.contains(&domain) {
            missing.push(domain);
            tracing::info!(domain, "an address family that is not there");
        }
        Err(Errno::EAFNOSUPPORT)
    }

    /// The names of all families' files in /proc/net.
    pub fn proc_files(&self) -> Vec<&'static str> {
        self.families.iter().flat_map(|family| family.proc_files()).copied().collect()
    }

    /// A file of /proc/net; `None` if there is no such file.
    pub fn proc_file(&self, name: &str) -> Option<Vec<u8>> {
        let family = self.families.iter().find(|family| family.proc_files().contains(&name))?;
        Some(family.proc_file(name))
    }
}
