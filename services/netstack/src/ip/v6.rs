//! IPv6 headers and the walk through extension headers (RFC 8200, 4).

use super::{Header, protocol};
use crate::{packet::Packet, stack::counters::Drop};
use smoltcp::wire::{Ipv6ExtHeader, Ipv6FragmentHeader, Ipv6Packet};
use std::net::{IpAddr, Ipv6Addr};

/// Bytes of the fixed header.
pub(crate) const HEADER: usize = smoltcp::wire::IPV6_HEADER_LEN;
/// Bytes of a fragment header.
pub(crate) const FRAGMENT_HEADER: usize = 8;
/// More extension headers than this nobody needs.
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const NO_NEXT: u8 = 59;
const DESTINATION: u8 = 60;

/// A fragment header's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub ident: u32,
    /// In bytes.
    pub offset: u16,
    pub more: bool,
}

/// A header that was checked, and what follows it and its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parsed<'a> {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    pub fragment: Option<Fragment>,
    pub header: &'a [u8],
    pub payload: &'a [u8],
}

/// A packet that is wrong in a way that its sender is told: code and pointer of a parameter problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Problem {
    pub code: u8,
    pub pointer: u32,
    /// Tell also when the packet was for a group.
    pub even_for_groups: bool,
}

/// Why a packet goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Silently(Drop),
    Tell(Problem),
}

impl From<Drop> for Refused {
    fn from(reason: Drop) -> Refused {
        Refused::Silently(reason)
    }
}

/// The fixed header alone.
pub(crate) fn fixed(bytes: &[u8]) -> Result<Parsed<'_>, Drop> {
    let packet = Ipv6Packet::new_checked(bytes).map_err(|_| Drop::IpMalformed)?;
    if packet.version() != 6 {
        return Err(Drop::IpMalformed);
    }
    let (header, payload) = bytes.split_at_checked(HEADER).ok_or(Drop::IpMalformed)?;
    let payload = payload.get(..usize::from(packet.payload_len())).ok_or(Drop::IpMalformed)?;
    Ok(Parsed {
        source: packet.src_addr(),
        destination: packet.dst_addr(),
        protocol: packet.next_header().into(),
        ttl: packet.hop_limit(),
        tos: packet.traffic_class(),
        fragment: None,
        header,
        payload,
    })
}

/// Takes a packet apart, to its fragment header or to what carries data.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Refused> {
    let mut parsed = fixed(bytes)?;
    walk(&mut parsed, bytes, 0)?;
    Ok(parsed)
}

/// Goes on behind a fragment header, when a packet is whole. `bytes` begins with `parsed.header`.
pub(crate) fn walk<'a>(parsed: &mut Parsed<'a>, bytes: &'a [u8], already: usize) -> Result<(), Refused> {
    for position in already..=MAX_EXTENSIONS {
        // The place of the field that named this header, for errors: close enough is the header's own start.
        let pointer = parsed.header.len() as u32;
        match parsed.protocol {
            HOP_BY_HOP if position > 0 => {
                return Err(Refused::Tell(Problem { code: 1, pointer, even_for_groups: false }));
            }
            HOP_BY_HOP | DESTINATION | ROUTING => {
                let extension = Ipv6ExtHeader::new_checked(parsed.payload).map_err(|_| Drop::IpMalformed)?;
                let length = (usize::from(extension.header_len()) + 1) * 8;
                if parsed.protocol == ROUTING {
                    // With segments left it is for a router (RFC 5095, RFC 8200 4.4).
                    if parsed.payload.get(3).is_some_and(|&left| left > 0) {
                        return Err(Refused::Tell(Problem { code: 0, pointer: pointer + 2, even_for_groups: false }));
                    }
                } else {
                    options(extension.payload(), pointer + 2)?;
                }
                step(parsed, bytes, extension.next_header().into(), length)?;
            }
            protocol::FRAGMENT => {
                let extension = Ipv6ExtHeader::new_checked(parsed.payload).map_err(|_| Drop::IpMalformed)?;
                let content = parsed.payload.get(2..FRAGMENT_HEADER).ok_or(Drop::IpMalformed)?;
                let fragment = Ipv6FragmentHeader::new_checked(content).map_err(|_| Drop::IpMalformed)?;
                parsed.fragment =
                    Some(Fragment { ident: fragment.ident(), offset: fragment.frag_offset() << 3, more: fragment.more_frags() });
                let next = extension.next_header().into();
                return step(parsed, bytes, next, FRAGMENT_HEADER);
            }
            NO_NEXT => return Err(Drop::NoNextHeader.into()),
            _ => return Ok(()),
        }
    }
    Err(Drop::TooManyExtensions.into())
}

fn step<'a>(parsed: &mut Parsed<'a>, bytes: &'a [u8], next: u8, length: usize) -> Result<(), Refused> {
    parsed.payload = parsed.payload.get(length..).ok_or(Drop::IpMalformed)?;
    parsed.header = bytes.get(..parsed.header.len() + length).ok_or(Drop::IpMalformed)?;
    parsed.protocol = next;
    Ok(())
}

/// Looks through options. The two highest bits of an unknown one say what to do (RFC 8200, 4.2).
fn options(mut bytes: &[u8], mut pointer: u32) -> Result<(), Refused> {
    const PAD1: u8 = 0;
    const PADN: u8 = 1;
    const ROUTER_ALERT: u8 = 5;
    while let [kind, rest @ ..] = bytes {
        if *kind == PAD1 {
            bytes = rest;
            pointer += 1;
            continue;
        }
        let length = usize::from(*rest.first().ok_or(Drop::IpMalformed)?) + 2;
        if !matches!(*kind, PADN | ROUTER_ALERT) {
            match kind >> 6 {
                0 => {}
                1 => return Err(Drop::UnknownOption.into()),
                action => return Err(Refused::Tell(Problem { code: 2, pointer, even_for_groups: action == 2 })),
            }
        }
        bytes = bytes.get(length..).ok_or(Drop::IpMalformed)?;
        pointer += length as u32;
    }
    Ok(())
}

/// Puts a header in front.
pub(crate) fn emit(packet: &mut Packet, header: &Header, flow: u32) {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (header.source, header.destination) else { return };
    let payload = packet.len();
    let mut ip = Ipv6Packet::new_unchecked(packet.prepend(HEADER));
    ip.set_version(6);
    ip.set_traffic_class(header.tos);
    ip.set_flow_label(flow & 0xf_ffff);
    ip.set_payload_len(u16::try_from(payload).unwrap_or(0));
    ip.set_next_header(header.protocol.into());
    ip.set_hop_limit(header.ttl);
    ip.set_src_addr(source);
    ip.set_dst_addr(destination);
}

/// Puts a fragment header in front, which names what is in the packet.
pub(crate) fn emit_fragment(packet: &mut Packet, next: u8, fragment: Fragment) {
    let bytes = packet.prepend(FRAGMENT_HEADER);
    bytes[0] = next;
    let mut header = Ipv6FragmentHeader::new_unchecked(&mut bytes[2..FRAGMENT_HEADER]);
    header.set_frag_offset(fragment.offset >> 3);
    header.set_more_frags(fragment.more);
    header.set_ident(fragment.ident);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::Fragmentation;

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            source: "fd00::1".parse().unwrap(),
            destination: "fd00::2".parse().unwrap(),
            protocol,
            ttl: 64,
            tos: 0,
            fragmentation: Fragmentation::Source,
        };
        let mut packet = Packet::of(payload);
        emit(&mut packet, &header, 0);
        packet.as_ref().to_vec()
    }

    #[test]
    fn extension_headers_are_walked_to_the_data() {
        let bytes = packet(HOP_BY_HOP, &[60, 0, 5, 2, 0, 0, 1, 0, 17, 0, 1, 4, 0, 0, 0, 0, 0xaa, 0xbb]);
        let parsed = parse(&bytes).unwrap();
        assert_eq!((parsed.protocol, parsed.payload), (17, &[0xaa, 0xbb][..]));
        assert_eq!(parsed.header.len(), 56);
    }

    #[test]
    fn an_unknown_option_is_answered_as_its_bits_say() {
        for (kind, want) in [
            (0x3e, None),
            (0x7e, Some(Refused::Silently(Drop::UnknownOption))),
            (0xbe, Some(Refused::Tell(Problem { code: 2, pointer: 42, even_for_groups: true }))),
            (0xfe, Some(Refused::Tell(Problem { code: 2, pointer: 42, even_for_groups: false }))),
        ] {
            let bytes = packet(DESTINATION, &[17, 0, kind, 4, 0, 0, 0, 0]);
            assert_eq!(parse(&bytes).err(), want);
        }
    }

    #[test]
    fn a_chain_without_end_is_dropped() {
        let mut payload = Vec::new();
        for _ in 0..20 {
            payload.extend_from_slice(&[DESTINATION, 0, 1, 4, 0, 0, 0, 0]);
        }
        assert_eq!(parse(&packet(DESTINATION, &payload)).err(), Some(Refused::Silently(Drop::TooManyExtensions)));
    }

    #[test]
    fn a_fragment_header_is_read_as_it_was_written() {
        let fragment = Fragment { ident: 99, offset: 1232, more: true };
        let mut data = Packet::of(&[1; 8]);
        emit_fragment(&mut data, 17, fragment);
        let bytes = packet(protocol::FRAGMENT, data.as_ref());
        let parsed = parse(&bytes).unwrap();
        assert_eq!((parsed.fragment, parsed.protocol, parsed.payload.len()), (Some(fragment), 17, 8));
    }
}
