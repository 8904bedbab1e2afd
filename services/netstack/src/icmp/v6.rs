//! ICMPv6 (RFC 4443), and what neighbour discovery needs of it.

use super::{Meaning, Report, Told, quotation, report};
use crate::{error::Error, ip::Datagram, link::ndp, network::Network, packet::Packet, stack::counters::Drop, time::Instant};
use smoltcp::wire::{Icmpv6DstUnreachable as Unreachable, Icmpv6Message, Icmpv6Packet};
use std::net::{IpAddr, Ipv6Addr};

const MAX_ERROR: usize = smoltcp::wire::IPV6_MIN_MTU - crate::ip::v6::HEADER;
const HEADER: usize = 8;

/// An error message about a packet.
pub(crate) fn error(told: Told, about: &Datagram<'_>, from: Ipv6Addr, to: Ipv6Addr) -> Option<Packet> {
    let (kind, code, word): (Icmpv6Message, u8, u32) = match told {
        Told::PortUnreachable => (Icmpv6Message::DstUnreachable, Unreachable::PortUnreachable.into(), 0),
        // The fixed header's next-header field is named, which it is where no extension headers are.
        Told::ProtocolUnreachable => (Icmpv6Message::ParamProblem, 1, 6),
        Told::ReassemblyTimeout => (Icmpv6Message::TimeExceeded, 1, 0),
        Told::Parameter { code, pointer } => (Icmpv6Message::ParamProblem, code, pointer),
    };
    let mut packet = Packet::of(&quotation(about, MAX_ERROR - HEADER));
    let bytes = packet.prepend(HEADER);
    bytes[4..8].copy_from_slice(&word.to_be_bytes());
    let mut message = Icmpv6Packet::new_unchecked(bytes);
    message.set_msg_type(kind);
    message.set_msg_code(code);
    message.fill_checksum(&from, &to);
    Some(packet)
}

/// Takes a message: answers, learns, or says what an error is about.
pub(crate) fn receive(network: &mut Network, datagram: &Datagram<'_>, now: Instant) -> Option<Report> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (datagram.source, datagram.destination) else { return None };
    let Ok(message) = Icmpv6Packet::new_checked(&datagram.payload[..]) else {
        network.counters.drop(Drop::TransportMalformed);
        return None;
    };
    if !message.verify_checksum(&source, &destination) {
        network.counters.drop(Drop::TransportChecksum);
        return None;
    }
    let code = message.msg_code();
    let failed = |error, hard| Meaning::Failed { error, hard };
    let meaning = match message.msg_type() {
        Icmpv6Message::EchoRequest => {
            let mut answer = Packet::of(&datagram.payload);
            Icmpv6Packet::new_unchecked(answer.as_mut()).set_msg_type(Icmpv6Message::EchoReply);
            super::reply(network, datagram, answer, now);
            return None;
        }
        Icmpv6Message::EchoReply => return None,
        Icmpv6Message::NeighborSolicit | Icmpv6Message::NeighborAdvert => {
            // From farther than the link nobody may speak of neighbours (RFC 4861, 7.1).
            match ndp::Message::parse(&datagram.payload).filter(|_| datagram.ttl == 255) {
                Some(message) => network.neighbour_message(datagram.interface, source, destination, message, now),
                None => network.counters.drop(Drop::NeighbourMalformed),
            }
            return None;
        }
        Icmpv6Message::MldQuery => {
            network.queried(datagram.interface, group(&datagram.payload), datagram.payload[4..6].try_into().ok()?, now);
            return None;
        }
        Icmpv6Message::DstUnreachable => match Unreachable::from(code) {
            Unreachable::NoRoute => failed(Error::NetworkUnreachable, false),
            Unreachable::BeyondScope | Unreachable::AddrUnreachable => failed(Error::HostUnreachable, false),
            Unreachable::PortUnreachable => failed(Error::ConnectionRefused, true),
            Unreachable::AdminProhibit | Unreachable::FailedPolicy | Unreachable::RejectRoute => {
                failed(Error::AccessDenied, true)
            }
            Unreachable::Unknown(_) => failed(Error::HostUnreachable, false),
        },
        Icmpv6Message::PktTooBig => Meaning::TooBig(message.pkt_too_big_mtu() as usize),
        Icmpv6Message::TimeExceeded => failed(Error::HostUnreachable, false),
        Icmpv6Message::ParamProblem => failed(Error::Protocol, true),
        _ => {
            network.counters.drop(Drop::IcmpIgnored);
            return None;
        }
    };
    let kind = (message.msg_type().into(), code);
    let quoted = datagram.payload.get(HEADER..).unwrap_or(&[]);
    let report = report(meaning, kind, datagram.source, quoted).filter(|report| report.local.is_ipv6());
    if report.is_none() {
        network.counters.drop(Drop::IcmpIgnored);
    }
    report
}

/// The group that a query is about; none for all.
fn group(message: &[u8]) -> Option<IpAddr> {
    let bytes: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    Some(IpAddr::from(bytes)).filter(|group| !group.is_unspecified())
}
