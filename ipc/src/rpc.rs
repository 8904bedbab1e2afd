//! Synchronous calls from one service to another: a request and its reply lie in a slot of a shared-memory [`ring`](crate::ring),
//! fds go over the SEQPACKET socket beside it. The message is copied out of the slot before anything looks at it.
//!
//! On one CPU a call costs two futex hand-overs: the caller posts and sleeps, which lets the server run, which answers and
//! sleeps, which lets the caller run. Nobody spins. Fds are sent before the message that they belong to is published, and the
//! packet that carries them repeats the message's sequence number.
//!
//! Invariant: after an error on a connection it is not used again; every later call answers [`RpcError::Closed`].
#![forbid(unsafe_code)]

mod typed;

pub use crate::ring::MAX_MESSAGE;
use crate::{
    channel::{Channel, ChannelError},
    ring::{Consumer, Direction, Producer, Ring, RingError, Waited},
};
use std::{
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};
pub use typed::{Answer, Answered, Asker, Question};

/// Fds with one message at most.
pub const MAX_FDS: usize = 64;

/// How long a caller sleeps before it looks whether the server is still there. A server that is about to answer wakes it;
/// this only bounds how long the death of a server goes unnoticed that had no time to say so.
const CALLER_LOOKS: Duration = Duration::from_secs(1);
/// The same for an idle server, which doubles it up to a bound, so that an idle sandbox costs (almost) nothing.
const SERVER_LOOKS: Duration = Duration::from_secs(1);
const SERVER_LOOKS_AT_LEAST: Duration = Duration::from_secs(16);

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
    let ring = Ring::create().map_err(host)?;
    let other = ring.try_clone().map_err(|e| RpcError::Host("duplicate a ring's fd", e.into()))?;
    let (a, b) = Channel::pair()?;
    Ok((ClientEnd { socket: a.into_fd(), ring }, ServerEnd { socket: b.into_fd(), ring: other }))
}

/// The caller's end in use. One call at a time.
pub struct Client {
    link: Link,
}

impl Client {
    /// Maps the ring.
    pub fn new(end: ClientEnd) -> Result<Client, RpcError> {
        Ok(Client { link: Link::new(end.socket, end.ring, Direction::Requests, Direction::Replies)? })
    }

    /// Sends `request` (a message of at most [`MAX_MESSAGE`] bytes) and waits for the reply, which replaces what is in
    /// `reply` (also when the fds are lost: [`RpcError::OutOfFiles`]); returns the fds that came with it.
    pub fn call(&mut self, request: &[u8], fds: &[BorrowedFd<'_>], reply: &mut Vec<u8>) -> Result<Vec<OwnedFd>, RpcError> {
        self.link.send(request, fds)?;
        self.link.receive(reply, CALLER_LOOKS, CALLER_LOOKS)
    }
}

/// The answering end in use.
pub struct Server {
    link: Link,
    /// A request was received and not yet answered.
    owes_reply: bool,
}

impl Server {
    /// Maps the ring.
    pub fn new(end: ServerEnd) -> Result<Server, RpcError> {
        Ok(Server { link: Link::new(end.socket, end.ring, Direction::Replies, Direction::Requests)?, owes_reply: false })
    }

    /// Waits for the next request, which replaces what is in `request`; returns the fds that came with it. `Closed` when the
    /// other side is gone.
    pub fn receive(&mut self, request: &mut Vec<u8>) -> Result<Vec<OwnedFd>, RpcError> {
        let fds = self.link.receive(request, SERVER_LOOKS, SERVER_LOOKS_AT_LEAST)?;
        self.owes_reply = true;
        Ok(fds)
    }

    /// Answers it. A reply that nobody waits for is an error.
    pub fn reply(&mut self, reply: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), RpcError> {
        if !std::mem::take(&mut self.owes_reply) {
            return Err(RpcError::NotAsked);
        }
        self.link.send(reply, fds)
    }
}

/// What both ends are made of.
struct Link {
    /// `None` after an error.
    channel: Option<Channel>,
    outgoing: Producer,
    incoming: Consumer,
}

impl Link {
    fn new(socket: OwnedFd, ring: OwnedFd, outgoing: Direction, incoming: Direction) -> Result<Link, RpcError> {
        let channel = Channel::from_fd(socket)?;
        // What comes over the socket was sent before it is asked for, so that waiting for it would only serve a liar.
        channel.set_nonblocking(true)?;
        let ring = Ring::map(&ring).map_err(host)?;
        Ok(Link { channel: Some(channel), outgoing: ring.producer(outgoing), incoming: ring.consumer(incoming) })
    }

    /// Runs one step, and gives the connection up when it fails by the other side's fault.
    fn attempt<T>(&mut self, step: impl FnOnce(&mut Link) -> Result<T, RpcError>) -> Result<T, RpcError> {
        let result = step(self);
        if matches!(result, Err(RpcError::Closed | RpcError::Nonsense(_) | RpcError::Host(..))) {
            self.hang_up();
        }
        result
    }

    fn channel(&self) -> Result<&Channel, RpcError> {
        self.channel.as_ref().ok_or(RpcError::Closed)
    }

    fn send(&mut self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), RpcError> {
        if message.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
            return Err(RpcError::TooLarge(message.len()));
        }
        self.attempt(|link| {
            let channel = link.channel()?;
            if !fds.is_empty() {
                channel.send(&link.outgoing.sequence().to_le_bytes(), fds)?;
            }
            Ok(link.outgoing.put(message, fds.len() as u32)?)
        })
    }

    fn receive(&mut self, message: &mut Vec<u8>, first: Duration, at_least: Duration) -> Result<Vec<OwnedFd>, RpcError> {
        self.attempt(|link| {
            let mut timeout = first;
            let mut closed = false;
            let description = loop {
                match link.incoming.take(message)? {
                    Some(description) => break description,
                    None if closed => return Err(RpcError::Closed),
                    None => {}
                }
                if link.incoming.wait(timeout) == Waited::Nothing {
                    // What it put before it died is still taken.
                    closed = link.channel()?.is_closed();
                    timeout = (timeout * 2).min(at_least);
                }
            };
            if description.fds == 0 {
                return Ok(Vec::new());
            }
            if description.fds as usize > MAX_FDS {
                return Err(RpcError::Nonsense("too many fds with a message"));
            }
            let mut note = Vec::new();
            let fds = match link.channel()?.receive_bounded(&mut note, 4, MAX_FDS) {
                Err(ChannelError::NotReady) => return Err(RpcError::Nonsense("fds that were promised are not there")),
                other => other?,
            };
            if note != description.sequence.to_le_bytes() || fds.len() != description.fds as usize {
                return Err(RpcError::Nonsense("fds that belong to another message"));
            }
            Ok(fds)
        })
    }

    /// Closes the socket and tells the other side, which need not look for it then.
    fn hang_up(&mut self) {
        if self.channel.take().is_some() {
            self.outgoing.leave();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The other side is gone.
    #[error("the other service is gone")]
    Closed,
    /// It sent something that is no message.
    #[error("the other service sent nonsense: {0}")]
    Nonsense(&'static str),
    /// The message is too large, or has too many fds.
    #[error("a message of {0} bytes is too large, or has too many fds")]
    TooLarge(usize),
    /// A reply without a request.
    #[error("a reply to no request")]
    NotAsked,
    /// The message came, but this process may not have the fds that came with it. The connection is as good as before.
    #[error("this process has too many open files")]
    OutOfFiles,
    /// What it sent is no message of the protocol.
    #[error("the other service sent nonsense: {0}")]
    Message(#[from] crate::DecodeError),
    /// A host call failed.
    #[error("cannot {0}: {1}")]
    Host(&'static str, crate::Errno),
}

impl From<ChannelError> for RpcError {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Closed => RpcError::Closed,
            ChannelError::NotReady => RpcError::Nonsense("it does not take the fds it is sent"),
            ChannelError::Nonsense(what) => RpcError::Nonsense(what),
            ChannelError::TooLarge { bytes, .. } => RpcError::TooLarge(bytes),
            ChannelError::OutOfFiles => RpcError::OutOfFiles,
            ChannelError::Host(doing, errno) => RpcError::Host(doing, errno),
        }
    }
}

impl From<RingError> for RpcError {
    fn from(error: RingError) -> Self {
        match error {
            RingError::Gone => RpcError::Closed,
            RingError::Broken(how) => RpcError::Nonsense(how),
        }
    }
}

fn host((doing, errno): (&'static str, crate::Errno)) -> RpcError {
    RpcError::Host(doing, errno)
}

#[cfg(test)]
mod tests;
