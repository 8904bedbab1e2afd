//! ARP (RFC 826): what to answer, and what is learnt.

use crate::packet::Packet;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use std::net::Ipv4Addr;

/// A request or a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub request: bool,
    pub sender: (EthernetAddress, Ipv4Addr),
    pub target: (EthernetAddress, Ipv4Addr),
}

impl Message {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Message> {
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        } = ArpRepr::parse(&ArpPacket::new_checked(bytes).ok()?).ok()?
        else {
            return None;
        };
        let request = match operation {
            ArpOperation::Request => true,
            ArpOperation::Reply => false,
            ArpOperation::Unknown(_) => return None,
        };
        // A sender that is a group or everybody would have packets for it go to many.
        if !source_hardware_addr.is_unicast() || source_protocol_addr.is_multicast() || source_protocol_addr.is_broadcast() {
            return None;
        }
        Some(Message {
            request,
            sender: (source_hardware_addr, source_protocol_addr),
            target: (target_hardware_addr, target_protocol_addr),
        })
    }

    pub(crate) fn emit(&self) -> Packet {
        let repr = ArpRepr::EthernetIpv4 {
            operation: if self.request { ArpOperation::Request } else { ArpOperation::Reply },
            source_hardware_addr: self.sender.0,
            source_protocol_addr: self.sender.1,
            target_hardware_addr: self.target.0,
            target_protocol_addr: self.target.1,
        };
        let mut packet = Packet::with_room(0);
        repr.emit(&mut ArpPacket::new_unchecked(packet.prepend(repr.buffer_len())));
        packet
    }
}
