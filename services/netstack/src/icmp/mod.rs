//! ICMP and ICMPv6: echoes answered, errors sent within a limit, errors received and what they mean to a socket.

pub(crate) mod limit;
pub(crate) mod v4;
pub(crate) mod v6;

use crate::{
    error::Error,
    ip::{Datagram, Header, protocol, v4::HEADER as V4_HEADER},
    network::Network,
    packet::Packet,
    stack::counters::Drop,
    time::Instant,
};
use std::net::{IpAddr, SocketAddr};

/// An error that we tell a packet's sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    PortUnreachable,
    ProtocolUnreachable,
    ReassemblyTimeout,
    /// ICMPv6: code and pointer.
    Parameter {
        code: u8,
        pointer: u32,
    },
}

/// What an error that came in is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub meaning: Meaning,
    /// Who reported it.
    pub reporter: IpAddr,
    pub protocol: u8,
    /// Our end of what was sent, and the other.
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// The next four bytes of what was sent: TCP's sequence number.
    pub sequence: u32,
    /// ICMP's own type and code.
    pub kind: (u8, u8),
}

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The packet was longer than this.
    TooBig(usize),
    /// It did not arrive; a hard error will not go away by itself.
    Failed { error: Error, hard: bool },
}

/// The ends of a quoted packet. `quoted` begins at its IP header.
pub(crate) fn report(meaning: Meaning, kind: (u8, u8), reporter: IpAddr, quoted: &[u8]) -> Option<Report> {
    let version = quoted.first()? >> 4;
    let (source, destination, number, data): (IpAddr, IpAddr, u8, &[u8]) = match version {
        4 => {
            let length = usize::from(quoted[0] & 15) * 4;
            let header = quoted.get(..V4_HEADER)?;
            // Only a first fragment has ports.
            if u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 || length < V4_HEADER {
                return None;
            }
            let source: [u8; 4] = header[12..16].try_into().ok()?;
            let destination: [u8; 4] = header[16..20].try_into().ok()?;
            (source.into(), destination.into(), header[9], quoted.get(length..)?)
        }
        6 => {
            let header = quoted.get(..crate::ip::v6::HEADER)?;
            let source: [u8; 16] = header[8..24].try_into().ok()?;
            let destination: [u8; 16] = header[24..40].try_into().ok()?;
            let mut number = header[6];
            let mut data = quoted.get(crate::ip::v6::HEADER..)?;
            if number == protocol::FRAGMENT {
                let fragment = data.get(..8)?;
                if u16::from_be_bytes([fragment[2], fragment[3]]) & 0xfff8 != 0 {
                    return None;
                }
                number = fragment[0];
                data = &data[8..];
            }
            (source.into(), destination.into(), number, data)
        }
        _ => return None,
    };
    let ports = data.get(..8)?;
    let (local, remote) = match number {
        // An echo's identifier stands for our port.
        protocol::ICMP | protocol::ICMPV6 => (u16::from_be_bytes([ports[4], ports[5]]), 0),
        _ => (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])),
    };
    Some(Report {
        meaning,
        reporter,
        protocol: number,
        local: SocketAddr::new(source, local),
        remote: SocketAddr::new(destination, remote),
        sequence: u32::from_be_bytes([ports[4], ports[5], ports[6], ports[7]]),
        kind,
    })
}

/// Tells the sender of a packet that something is wrong with it, where that is allowed (RFC 1122, 3.2.2; RFC 4443, 2.4).
pub(crate) fn tell(network: &mut Network, about: &Datagram<'_>, told: Told, now: Instant) {
    let group_allowed = matches!(told, Told::Parameter { code: 2, .. });
    if (about.shared && !group_allowed) || about.source.is_unspecified() || about.source.is_multicast() || quotes_error(about) {
        return;
    }
    if !network.icmp_limit.allows(about.source, now) {
        network.counters.drop(Drop::IcmpRateLimit);
        return;
    }
    let local = if about.shared { None } else { Some(about.destination) };
    let Ok(path) = network.route(about.source, local, Some(about.interface), now) else { return };
    let message = match (about.source, path.source) {
        (IpAddr::V4(_), IpAddr::V4(_)) => v4::error(told, about),
        (IpAddr::V6(to), IpAddr::V6(from)) => v6::error(told, about, from, to),
        _ => None,
    };
    let Some(message) = message else { return };
    let header = Header::control(path.source, about.source);
    let _ = network.send(&path, &header, message, Default::default(), now);
}

/// An error about an error would be answered by an error.
fn quotes_error(about: &Datagram<'_>) -> bool {
    let kind = about.payload.first().copied();
    match about.protocol {
        protocol::ICMP => !matches!(kind, Some(0 | 8 | 13 | 14)),
        protocol::ICMPV6 => kind.is_none_or(|kind| kind < 128),
        _ => false,
    }
}

impl Header {
    /// For a message of ICMP.
    pub(crate) fn control(source: IpAddr, destination: IpAddr) -> Header {
        Header {
            source,
            destination,
            protocol: if destination.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 },
            ttl: 64,
            tos: 0,
            fragmentation: crate::ip::Fragmentation::Allowed,
        }
    }
}

/// As much of a packet as an error may quote.
fn quotation(about: &Datagram<'_>, limit: usize) -> Vec<u8> {
    let mut quoted = about.header.to_vec();
    quoted.extend_from_slice(&about.payload);
    quoted.truncate(limit);
    quoted
}

/// An echo answered: the same with another type.
pub(crate) fn reply(network: &mut Network, to: &Datagram<'_>, message: Packet, now: Instant) {
    // An echo to a group is answered from an address of our own; one to everybody is not answered, as on Linux.
    let local = if to.destination.is_multicast() { None } else { Some(to.destination) };
    let Ok(path) = network.route(to.source, local, Some(to.interface), now) else { return };
    let header = Header { tos: to.tos & !3, ..Header::control(path.source, to.source) };
    let mut message = message;
    if let (IpAddr::V6(from), IpAddr::V6(to)) = (path.source, to.source) {
        smoltcp::wire::Icmpv6Packet::new_unchecked(message.as_mut()).fill_checksum(&from, &to);
    }
    let _ = network.send(&path, &header, message, Default::default(), now);
}
