//! UDP: datagrams in a bounded queue, and how one is made.

use crate::{
    error::Error,
    icmp::Report,
    ip::{Datagram, protocol},
    link::InterfaceId,
    network::{Path, Work},
    packet::Packet,
    socket::Readiness,
    stack::counters::Drop,
};
use smoltcp::wire::{IpAddress, UdpPacket};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

const HEADER: usize = smoltcp::wire::UDP_HEADER_LEN;
/// What a queued message costs beside its bytes; the least that Linux counts.
const OVERHEAD: usize = 256;
const MAX_ERRORS: usize = 64;

/// A datagram that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it was sent to (IP_PKTINFO).
    pub destination: IpAddr,
    /// Where it came in (IP_PKTINFO).
    pub interface: InterfaceId,
    /// TTL or hop limit (IP_RECVTTL).
    pub ttl: u8,
    /// TOS or traffic class (IP_RECVTOS).
    pub tos: u8,
    /// What it says. Raw sockets of IPv4 see the IP header too.
    pub data: Vec<u8>,
}

/// An error of the error queue (MSG_ERRQUEUE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedError {
    /// What went wrong.
    pub error: Error,
    /// Where the datagram was sent to.
    pub destination: SocketAddr,
    /// Who says so.
    pub reporter: IpAddr,
    /// ICMP's type and code.
    pub kind: (u8, u8),
    /// For EMSGSIZE, the path's MTU.
    pub mtu: usize,
}

/// Received datagrams, bounded by their bytes.
#[derive(Debug)]
pub(crate) struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    pub limit: usize,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Queue {
        Queue { messages: VecDeque::new(), bytes: 0, limit }
    }

    /// Keeps a message, if there is room. A single one always fits.
    pub(crate) fn push(&mut self, message: Message) -> bool {
        let cost = message.data.len() + OVERHEAD;
        if self.bytes > 0 && self.bytes + cost > self.limit {
            return false;
        }
        self.bytes += cost;
        self.messages.push_back(message);
        true
    }

    pub(crate) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.data.len() + OVERHEAD;
        Some(message)
    }

    pub(crate) fn front(&self) -> Option<&Message> {
        self.messages.front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// What a UDP or ping socket has.
#[derive(Debug)]
pub(crate) struct Socket {
    pub queue: Queue,
    pub errors: VecDeque<QueuedError>,
    pub groups: Vec<(InterfaceId, IpAddr)>,
    pub read_shut: bool,
    pub write_shut: bool,
}

impl Socket {
    pub(crate) fn new(limit: usize) -> Socket {
        let queue = Queue::new(limit);
        Socket { queue, errors: VecDeque::new(), groups: Vec::new(), read_shut: false, write_shut: false }
    }

    pub(crate) fn readiness(&self, error: bool) -> Readiness {
        let mut readiness = Readiness::WRITABLE;
        readiness.set(Readiness::READABLE, !self.queue.is_empty() || self.read_shut || error);
        readiness.set(Readiness::ERROR, error || !self.errors.is_empty());
        readiness.set(Readiness::READ_HANG_UP, self.read_shut);
        readiness.set(Readiness::HANG_UP, self.read_shut && self.write_shut);
        readiness
    }

    pub(crate) fn queue_error(&mut self, error: Error, report: &Report, mtu: usize) {
        if self.errors.len() < MAX_ERRORS {
            let (destination, reporter, kind) = (report.remote, report.reporter, report.kind);
            self.errors.push_back(QueuedError { error, destination, reporter, kind, mtu });
        }
    }
}

/// The ends and the payload of a datagram.
pub(crate) fn parse<'a>(datagram: &'a Datagram<'_>) -> Result<(SocketAddr, SocketAddr, &'a [u8]), Drop> {
    let packet = UdpPacket::new_checked(&datagram.payload[..]).map_err(|_| Drop::TransportMalformed)?;
    let (source, destination) = datagram.ends();
    if packet.dst_port() == 0 {
        return Err(Drop::TransportMalformed);
    }
    // Without a checksum IPv6 takes nothing (RFC 8200, 8.1).
    let without = packet.checksum() == 0;
    if without && !datagram.checksum_known && datagram.source.is_ipv6() {
        return Err(Drop::TransportChecksum);
    }
    if !without && !datagram.checksum_known && !packet.verify_checksum(&source, &destination) {
        return Err(Drop::TransportChecksum);
    }
    let ends = (SocketAddr::new(datagram.source, packet.src_port()), SocketAddr::new(datagram.destination, packet.dst_port()));
    Ok((ends.0, ends.1, packet.payload()))
}

/// A datagram's packet. Its checksum is left to the link where it can and the packet will not be cut.
pub(crate) fn emit(path: &Path, source: SocketAddr, destination: SocketAddr, data: &[u8]) -> (Packet, Work) {
    let mut packet = Packet::of(data);
    let length = packet.len() + HEADER;
    let mut udp = UdpPacket::new_unchecked(packet.prepend(HEADER));
    udp.set_src_port(source.port());
    udp.set_dst_port(destination.port());
    udp.set_len(length as u16);
    let (from, to): (IpAddress, IpAddress) = (source.ip().into(), destination.ip().into());
    let fits = length + crate::ip::v6::HEADER <= path.mtu;
    if path.capabilities.checksum && fits && !path.shared {
        let sum = smoltcp::wire::checksum::pseudo_header(&from, &to, protocol::UDP.into(), length as u32);
        udp.set_checksum(sum);
        return (packet, Work { checksum: Some(6), ..Work::default() });
    }
    udp.fill_checksum(&from, &to);
    (packet, Work::default())
}
