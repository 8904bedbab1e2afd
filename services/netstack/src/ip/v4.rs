//! IPv4 headers.

use super::{Fragmentation, Header};
use crate::{packet::Packet, stack::counters::Drop};
use smoltcp::wire::Ipv4Packet;
use std::net::{IpAddr, Ipv4Addr};

/// Bytes of a header without options, which is what we send.
pub(crate) const HEADER: usize = smoltcp::wire::IPV4_HEADER_LEN;

/// A header that was checked, and what follows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parsed<'a> {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    pub ident: u16,
    pub more_fragments: bool,
    pub fragment_offset: u16,
    pub header: &'a [u8],
    pub payload: &'a [u8],
}

/// Takes a packet apart. What the link added behind it is cut off.
pub(crate) fn parse(bytes: &[u8], trusted: bool) -> Result<Parsed<'_>, Drop> {
    let packet = Ipv4Packet::new_checked(bytes).map_err(|_| Drop::IpMalformed)?;
    if packet.version() != 4 {
        return Err(Drop::IpMalformed);
    }
    if !trusted && !packet.verify_checksum() {
        return Err(Drop::IpChecksum);
    }
    let length = usize::from(packet.header_len());
    let (header, payload) = bytes.split_at_checked(length).ok_or(Drop::IpMalformed)?;
    let payload = payload.get(..usize::from(packet.total_len()).saturating_sub(length)).ok_or(Drop::IpMalformed)?;
    let parsed = Parsed {
        source: packet.src_addr(),
        destination: packet.dst_addr(),
        protocol: packet.next_header().into(),
        ttl: packet.hop_limit(),
        tos: packet.dscp() << 2 | packet.ecn(),
        ident: packet.ident(),
        more_fragments: packet.more_frags(),
        fragment_offset: packet.frag_offset(),
        header,
        payload,
    };
    // A source route that is not used up is for a router, and nobody means well with one (RFC 7126).
    if header.get(HEADER..).is_some_and(has_source_route) {
        return Err(Drop::SourceRoute);
    }
    Ok(parsed)
}

fn has_source_route(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        match kind {
            0 => return false,
            1 => options = rest,
            131 | 137 => return true,
            _ => {
                let length = rest.first().map_or(0, |&length| usize::from(length));
                if length < 2 {
                    return false;
                }
                options = options.get(length..).unwrap_or(&[]);
            }
        }
    }
    false
}

/// A fragment's place in its packet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub ident: u16,
    /// In bytes, a multiple of eight.
    pub offset: u16,
    pub more: bool,
}

/// Puts a header in front.
pub(crate) fn emit(packet: &mut Packet, header: &Header, place: Place) {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (header.source, header.destination) else { return };
    let mut ip = Ipv4Packet::new_unchecked(packet.prepend(HEADER));
    ip.set_version(4);
    ip.set_header_len(HEADER as u8);
    ip.set_dscp(header.tos >> 2);
    ip.set_ecn(header.tos & 3);
    // A packet that the link is to cut may be longer than the field: the link writes the pieces' lengths.
    let total = ip.as_ref().len();
    ip.set_total_len(u16::try_from(total).unwrap_or(0));
    ip.set_ident(place.ident);
    ip.clear_flags();
    ip.set_dont_frag(header.fragmentation != Fragmentation::Allowed && place.offset == 0 && !place.more);
    ip.set_more_frags(place.more);
    ip.set_frag_offset(place.offset);
    ip.set_hop_limit(header.ttl);
    ip.set_next_header(header.protocol.into());
    ip.set_src_addr(source);
    ip.set_dst_addr(destination);
    ip.fill_checksum();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            protocol: 17,
            ttl: 64,
            tos: 0x12,
            fragmentation: Fragmentation::Forbidden,
        }
    }

    #[test]
    fn what_is_emitted_is_parsed_again() {
        let mut packet = Packet::of(b"payload");
        emit(&mut packet, &header(), Place { ident: 7, offset: 0, more: false });
        let mut bytes = packet.as_ref().to_vec();
        bytes.extend_from_slice(b"the link's padding");
        let parsed = parse(&bytes, false).unwrap();
        assert_eq!((parsed.payload, parsed.tos, parsed.ttl, parsed.ident), (&b"payload"[..], 0x12, 64, 7));
        assert!(!parsed.more_fragments);
        assert_eq!(bytes[6] & 0x40, 0x40);
    }

    #[test]
    fn a_damaged_header_is_dropped() {
        let mut packet = Packet::of(b"payload");
        emit(&mut packet, &header(), Place::default());
        packet.as_mut()[8] ^= 1;
        assert_eq!(parse(packet.as_ref(), false).err(), Some(Drop::IpChecksum));
        assert!(parse(&packet.as_ref()[..19], false).is_err());
    }

    #[test]
    fn a_source_route_is_found_behind_other_options() {
        assert!(has_source_route(&[1, 7, 3, 4, 131, 3, 4]));
        assert!(!has_source_route(&[1, 7, 3, 131, 0, 131]));
        assert!(!has_source_route(&[7]));
    }
}
