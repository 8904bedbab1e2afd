//! Ethernet framing.

use crate::packet::Packet;
use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};
use std::net::IpAddr;

const HEADER: usize = smoltcp::wire::ETHERNET_HEADER_LEN;

/// What a received frame is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub source: EthernetAddress,
    pub destination: EthernetAddress,
    pub protocol: EthernetProtocol,
    pub payload: &'a [u8],
}

/// Takes a frame apart.
pub(crate) fn parse(frame: &[u8]) -> Option<Received<'_>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    Some(Received {
        source: frame.src_addr(),
        destination: frame.dst_addr(),
        protocol: frame.ethertype(),
        payload: frame.payload(),
    })
}

/// Puts the header in front.
pub(crate) fn encapsulate(
    packet: &mut Packet,
    source: EthernetAddress,
    destination: EthernetAddress,
    protocol: EthernetProtocol,
) {
    let mut frame = EthernetFrame::new_unchecked(packet.prepend(HEADER));
    frame.set_src_addr(source);
    frame.set_dst_addr(destination);
    frame.set_ethertype(protocol);
}

/// The Ethernet address that a group's packets go to (RFC 1112, 6.4; RFC 2464, 7).
pub(crate) fn group_address(group: IpAddr) -> EthernetAddress {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            EthernetAddress([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            EthernetAddress([0x33, 0x33, a, b, c, d])
        }
    }
}
