//! Raw sockets: packets of one IP protocol beside, or instead of, who else takes them.

use crate::udp::Queue;
use crate::{ip::Datagram, socket::Readiness, udp::Message};
use std::net::SocketAddr;

/// What a raw socket has.
#[derive(Debug)]
pub(crate) struct Socket {
    pub queue: Queue,
    /// What is sent begins with an IP header (IP_HDRINCL).
    pub header_included: bool,
}

impl Socket {
    pub(crate) fn new(limit: usize) -> Socket {
        Socket { queue: Queue::new(limit), header_included: false }
    }

    pub(crate) fn readiness(&self, error: bool) -> Readiness {
        let mut readiness = Readiness::WRITABLE;
        readiness.set(Readiness::READABLE, !self.queue.is_empty() || error);
        readiness.set(Readiness::ERROR, error);
        readiness
    }
}

/// A packet as a raw socket sees it: IPv4 with its header, IPv6 without.
pub(crate) fn message(datagram: &Datagram<'_>) -> Message {
    let mut data = Vec::with_capacity(datagram.header.len() + datagram.payload.len());
    if datagram.source.is_ipv4() {
        data.extend_from_slice(&datagram.header);
    }
    data.extend_from_slice(&datagram.payload);
    Message {
        source: SocketAddr::new(datagram.source, 0),
        destination: datagram.destination,
        interface: datagram.interface,
        ttl: datagram.ttl,
        tos: datagram.tos,
        data,
    }
}
