//! ICMP (RFC 792).

use super::{Meaning, Report, Told, quotation, report};
use crate::{
    error::Error,
    ip::{Datagram, protocol},
    network::Network,
    packet::Packet,
    stack::counters::Drop,
    time::Instant,
};
use smoltcp::wire::{Icmpv4DstUnreachable as Unreachable, Icmpv4Message, Icmpv4Packet};
use std::net::IpAddr;

/// A quoted packet and an error's header together are no longer than this (RFC 1812, 4.3.2.3).
const MAX_ERROR: usize = 576 - crate::ip::v4::HEADER;
const HEADER: usize = 8;

/// An error message about a packet.
pub(crate) fn error(told: Told, about: &Datagram<'_>) -> Option<Packet> {
    let (kind, code) = match told {
        Told::PortUnreachable => (Icmpv4Message::DstUnreachable, Unreachable::PortUnreachable.into()),
        Told::ProtocolUnreachable => (Icmpv4Message::DstUnreachable, Unreachable::ProtoUnreachable.into()),
        Told::ReassemblyTimeout => (Icmpv4Message::TimeExceeded, 1),
        Told::Parameter { .. } => return None,
    };
    let mut packet = Packet::of(&quotation(about, MAX_ERROR - HEADER));
    let mut message = Icmpv4Packet::new_unchecked(packet.prepend(HEADER));
    message.set_msg_type(kind);
    message.set_msg_code(code);
    message.fill_checksum();
    Some(packet)
}

/// Takes a message: answers an echo, or says what an error is about.
pub(crate) fn receive(network: &mut Network, datagram: &Datagram<'_>, now: Instant) -> Option<Report> {
    let Ok(message) = Icmpv4Packet::new_checked(&datagram.payload[..]) else {
        network.counters.drop(Drop::TransportMalformed);
        return None;
    };
    if !message.verify_checksum() {
        network.counters.drop(Drop::TransportChecksum);
        return None;
    }
    let code = message.msg_code();
    let meaning = match message.msg_type() {
        Icmpv4Message::EchoRequest if !datagram.shared || datagram.destination.is_multicast() => {
            let mut answer = Packet::of(&datagram.payload);
            let mut message = Icmpv4Packet::new_unchecked(answer.as_mut());
            message.set_msg_type(Icmpv4Message::EchoReply);
            message.fill_checksum();
            super::reply(network, datagram, answer, now);
            return None;
        }
        // For sockets, which get it beside.
        Icmpv4Message::EchoReply => return None,
        Icmpv4Message::DstUnreachable => unreachable_means(code, &datagram.payload)?,
        Icmpv4Message::TimeExceeded => Meaning::Failed { error: Error::HostUnreachable, hard: false },
        Icmpv4Message::ParamProblem => Meaning::Failed { error: Error::Protocol, hard: true },
        _ => {
            network.counters.drop(Drop::IcmpIgnored);
            return None;
        }
    };
    let kind = (message.msg_type().into(), code);
    let report = report(meaning, kind, datagram.source, message.data());
    if report.is_none_or(|report| report.protocol == protocol::ICMPV6 || !report.local.is_ipv4()) {
        network.counters.drop(Drop::IcmpIgnored);
        return None;
    }
    report
}

fn unreachable_means(code: u8, message: &[u8]) -> Option<Meaning> {
    let failed = |error, hard| Some(Meaning::Failed { error, hard });
    match Unreachable::from(code) {
        Unreachable::NetUnreachable => failed(Error::NetworkUnreachable, false),
        Unreachable::ProtoUnreachable => failed(Error::NoProtocol, true),
        Unreachable::PortUnreachable => failed(Error::ConnectionRefused, true),
        Unreachable::FragRequired => {
            let told = usize::from(u16::from_be_bytes([*message.get(6)?, *message.get(7)?]));
            // Routers from before RFC 1191 say nothing: the next lower plateau for what was quoted.
            let quoted = usize::from(u16::from_be_bytes([*message.get(10)?, *message.get(11)?]));
            let plateau = [32000, 17914, 8166, 4352, 2002, 1492, 576].into_iter().find(|&size| size < quoted);
            Some(Meaning::TooBig(if told >= 68 { told } else { plateau.unwrap_or(552) }))
        }
        Unreachable::SrcRouteFailed => failed(Error::NotSupported, false),
        Unreachable::DstNetUnknown => failed(Error::NetworkUnreachable, true),
        Unreachable::HostUnreachable | Unreachable::HostUnreachToS | Unreachable::NetUnreachToS => {
            failed(Error::HostUnreachable, false)
        }
        Unreachable::DstHostUnknown
        | Unreachable::SrcHostIsolated
        | Unreachable::NetProhibited
        | Unreachable::HostProhibited
        | Unreachable::CommProhibited
        | Unreachable::HostPrecedViol
        | Unreachable::PrecedCutoff => failed(Error::HostUnreachable, true),
        Unreachable::Unknown(_) => None,
    }
}

/// The identifier of an echo request or reply, by which ping sockets are found.
pub(crate) fn echo_reply(datagram: &Datagram<'_>) -> Option<u16> {
    let payload = &datagram.payload;
    let wanted = if matches!(datagram.source, IpAddr::V4(_)) { 0 } else { 129 };
    (payload.len() >= HEADER && payload[0] == wanted).then(|| u16::from_be_bytes([payload[4], payload[5]]))
}
