//! What the sentry asks of netstack: the typed requests and replies ([`Request`], [`Reply`]; `schema/net.capnp` is their form on the
//! wire), and the memory in which netstack says what each socket is ready for ([`readiness`]).
//!
//! No request waits: what cannot be done now is EAGAIN (or EINPROGRESS), and the socket's readiness changes when it can.

mod decode;
mod encode;
pub mod readiness;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use crate::Errno;

/// Names a socket of netstack. The low 32 bits are its slot in the readiness memory; no two sockets of a sandbox's life have the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SocketId(pub u64);

impl SocketId {
    /// Of the `serial`th socket in a slot.
    pub fn new(slot: u32, serial: u32) -> SocketId {
        SocketId(u64::from(serial) << 32 | u64::from(slot))
    }

    /// Its slot.
    pub fn slot(self) -> u32 {
        self.0 as u32
    }

    /// Its serial number.
    pub fn serial(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Bytes of data in one message at most: a datagram, or a piece of a stream.
pub const DATA_LIMIT: usize = 65_535;
/// Bytes of an option's value at most.
pub const VALUE_LIMIT: usize = 4096;

/// Send flag: more is about to follow (MSG_MORE).
pub const SEND_MORE: u32 = 1;
/// Send flag: the last byte is urgent (MSG_OOB).
pub const SEND_URGENT: u32 = 2;
/// Receive flag: the data stays where it is (MSG_PEEK).
pub const RECEIVE_PEEK: u32 = 1;
/// Receive flag: the urgent byte (MSG_OOB).
pub const RECEIVE_URGENT: u32 = 2;

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// socket(2). Answered by `Opened`.
    Open {
        /// AF_INET or AF_INET6.
        family: u16,
        /// SOCK_STREAM, SOCK_DGRAM or SOCK_RAW.
        kind: u16,
        /// IPPROTO_*; 0 is the kind's own.
        protocol: u16,
        /// Effective user: by whom a port can be shared.
        owner: u32,
    },
    /// The last close(2).
    Close {
        /// Which.
        socket: SocketId,
    },
    /// bind(2).
    Bind {
        /// Which.
        socket: SocketId,
        /// Where.
        address: SocketAddr,
    },
    /// connect(2).
    Connect {
        /// Which.
        socket: SocketId,
        /// To whom; `None` dissolves what there is (AF_UNSPEC).
        peer: Option<SocketAddr>,
    },
    /// listen(2).
    Listen {
        /// Which.
        socket: SocketId,
        /// Connections that may wait to be accepted.
        backlog: u32,
    },
    /// accept(2). Answered by `Accepted`.
    Accept {
        /// Which.
        socket: SocketId,
    },
    /// shutdown(2).
    Shutdown {
        /// Which.
        socket: SocketId,
        /// SHUT_RD.
        read: bool,
        /// SHUT_WR.
        write: bool,
    },
    /// getsockname(2). Answered by `Name`.
    LocalName {
        /// Which.
        socket: SocketId,
    },
    /// getpeername(2). Answered by `Name`.
    PeerName {
        /// Which.
        socket: SocketId,
    },
    /// sendmsg(2). Answered by `Sent`.
    Send {
        /// Which.
        socket: SocketId,
        /// A datagram, or a piece of a stream; [`DATA_LIMIT`].
        data: Vec<u8>,
        /// To whom, if it is said.
        to: Option<SocketAddr>,
        /// SEND_*.
        flags: u32,
    },
    /// recvmsg(2). Answered by `Received`.
    Receive {
        /// Which.
        socket: SocketId,
        /// Bytes at most; the rest of a datagram is lost.
        room: u32,
        /// RECEIVE_*.
        flags: u32,
    },
    /// SO_ERROR. Answered by `Pending`.
    TakeError {
        /// Which.
        socket: SocketId,
    },
    /// setsockopt(2).
    SetOption {
        /// Which.
        socket: SocketId,
        /// SOL_* or IPPROTO_*.
        level: i32,
        /// The option's number.
        name: i32,
        /// Its value, as the guest gave it; [`VALUE_LIMIT`].
        value: Vec<u8>,
    },
    /// getsockopt(2). Answered by `Value`.
    Option {
        /// Which.
        socket: SocketId,
        /// SOL_* or IPPROTO_*.
        level: i32,
        /// The option's number.
        name: i32,
    },
    /// What netdevice(7) and rtnetlink(7) tell of interfaces. Answered by `Interfaces`.
    Interfaces,
}

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It cannot be done, or not now.
    Error(Errno),
    /// It is done.
    Done,
    /// The new socket.
    Opened(SocketId),
    /// The next connection.
    Accepted {
        /// Its socket.
        socket: SocketId,
        /// Who is at its other end.
        peer: SocketAddr,
    },
    /// An address.
    Name(SocketAddr),
    /// So many bytes were taken.
    Sent(u32),
    /// Data.
    Received {
        /// As many bytes as there was room for; none is a stream's end.
        data: Vec<u8>,
        /// How long the datagram was.
        length: u32,
        /// Who sent it, if it is a datagram.
        from: Option<SocketAddr>,
    },
    /// The error that was pending.
    Pending(Option<Errno>),
    /// An option's value.
    Value(Vec<u8>),
    /// All interfaces.
    Interfaces(Vec<Interface>),
}

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address; `None` of loopback.
    pub hardware_address: Option<[u8; 6]>,
    /// Bytes of an IP packet at most.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses, and the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

crate::wire::protocol! {
    Request: encode::put_request, decode::get_request;
    Reply: encode::put_reply, decode::get_reply
}
