//! Neighbour discovery's messages (RFC 4861), as far as a host in a container needs them: it is given its routes, so router
//! advertisements and redirects are not believed.

use crate::packet::Packet;
use smoltcp::wire::{EthernetAddress, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, NdiscNeighborFlags, NdiscRepr};
use std::net::Ipv6Addr;

/// A solicitation or an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Solicitation { target: Ipv6Addr, sender: Option<EthernetAddress> },
    Advertisement { target: Ipv6Addr, owner: Option<EthernetAddress>, solicited: bool, overrides: bool, router: bool },
}

impl Message {
    /// Takes apart an ICMPv6 message whose checksum has been checked. The hop limit has to be checked by the caller too.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Message> {
        let packet = Icmpv6Packet::new_checked(bytes).ok()?;
        if packet.msg_code() != 0 || !matches!(packet.msg_type(), Icmpv6Message::NeighborSolicit | Icmpv6Message::NeighborAdvert)
        {
            return None;
        }
        let ethernet = |raw: Option<smoltcp::wire::RawHardwareAddress>| {
            raw.and_then(|raw| <[u8; 6]>::try_from(raw.as_bytes()).ok()).map(EthernetAddress).filter(EthernetAddress::is_unicast)
        };
        match NdiscRepr::parse(&packet).ok()? {
            NdiscRepr::NeighborSolicit { target_addr, lladdr } if !target_addr.is_multicast() => {
                Some(Message::Solicitation { target: target_addr, sender: ethernet(lladdr) })
            }
            NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } if !target_addr.is_multicast() => {
                Some(Message::Advertisement {
                    target: target_addr,
                    owner: ethernet(lladdr),
                    solicited: flags.contains(NdiscNeighborFlags::SOLICITED),
                    overrides: flags.contains(NdiscNeighborFlags::OVERRIDE),
                    router: flags.contains(NdiscNeighborFlags::ROUTER),
                })
            }
            _ => None,
        }
    }

    /// The ICMPv6 message, with its checksum.
    pub(crate) fn emit(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Packet {
        let repr = match *self {
            Message::Solicitation { target, sender } => {
                NdiscRepr::NeighborSolicit { target_addr: target, lladdr: sender.map(Into::into) }
            }
            Message::Advertisement { target, owner, solicited, overrides, router } => {
                let mut flags = NdiscNeighborFlags::empty();
                flags.set(NdiscNeighborFlags::SOLICITED, solicited);
                flags.set(NdiscNeighborFlags::OVERRIDE, overrides);
                flags.set(NdiscNeighborFlags::ROUTER, router);
                NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr: owner.map(Into::into) }
            }
        };
        let repr = Icmpv6Repr::Ndisc(repr);
        let mut packet = Packet::with_room(0);
        let bytes = packet.prepend(repr.buffer_len());
        repr.emit(&source, &destination, &mut Icmpv6Packet::new_unchecked(bytes), &Default::default());
        packet
    }
}
