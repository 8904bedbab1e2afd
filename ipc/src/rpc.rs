//! Synchronous calls from one service to another: a request and its reply lie in a slot of a shared-memory ring, fds go over
//! the SEQPACKET socket beside it. The message is copied out of the slot before anything looks at it.

use std::os::fd::{BorrowedFd, OwnedFd};

/// The caller's end before it is put to use: two fds to be handed to the service (socket, ring memory; in this order).
#[derive(Debug)]
pub struct ClientEnd {
    /// SEQPACKET socket.
    pub socket: OwnedFd,
    /// memfd of the ring.
    pub ring: OwnedFd,
}

/// The answering end.
#[derive(Debug)]
pub struct ServerEnd {
    /// SEQPACKET socket.
    pub socket: OwnedFd,
    /// memfd of the ring.
    pub ring: OwnedFd,
}

/// Makes a connection (by the supervisor).
pub fn pair() -> Result<(ClientEnd, ServerEnd), RpcError> {
    todo!()
}

/// The caller's end in use. One call at a time.
pub struct Client {}

impl Client {
    /// Maps the ring.
    pub fn new(end: ClientEnd) -> Result<Client, RpcError> {
        let _ = end;
        todo!()
    }
    /// Sends `request` (a message of at most [`MAX_MESSAGE`] bytes) and waits for the reply, which replaces what is in `reply`; returns the fds that came with it.
    pub fn call(&mut self, request: &[u8], fds: &[BorrowedFd<'_>], reply: &mut Vec<u8>) -> Result<Vec<OwnedFd>, RpcError> {
        let _ = (request, fds, reply);
        todo!()
    }
}

/// The answering end in use.
pub struct Server {}

impl Server {
    /// Maps the ring.
    pub fn new(end: ServerEnd) -> Result<Server, RpcError> {
        let _ = end;
        todo!()
    }
    /// Waits for the next request, which replaces what is in `request`; returns the fds that came with it. `Closed` when the other side is gone.
    pub fn receive(&mut self, request: &mut Vec<u8>) -> Result<Vec<OwnedFd>, RpcError> {
        let _ = request;
        todo!()
    }
    /// Answers it.
    pub fn reply(&mut self, reply: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), RpcError> {
        let _ = (reply, fds);
        todo!()
    }
}

/// Bytes of a message at most.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The other side is gone.
    #[error("the other service is gone")]
    Closed,
    /// It sent something that is no message.
    #[error("the other service sent nonsense: {0}")]
    Nonsense(&'static str),
    /// The message is too large.
    #[error("a message of {0} bytes is too large")]
    TooLarge(usize),
    /// A host call failed.
    #[error("cannot {0}: {1}")]
    Host(&'static str, crate::Errno),
}
