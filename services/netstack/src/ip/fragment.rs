//! Cutting a packet that is longer than the path's MTU.

use super::{
    Header, protocol,
    v4::{self, Place},
    v6::{self, Fragment},
};
use crate::packet::Packet;

/// The packets, with IP headers, that carry `payload`. `None` if the MTU leaves no room.
pub(crate) fn fragments(header: &Header, payload: &[u8], mtu: usize, ident: u32) -> Option<Vec<Packet>> {
    let overhead = if header.source.is_ipv4() { v4::HEADER } else { v6::HEADER + v6::FRAGMENT_HEADER };
    let size = mtu.checked_sub(overhead)? & !7;
    if size == 0 || payload.len() + v4::HEADER > usize::from(u16::MAX) {
        return None;
    }
    let pieces = payload.len().div_ceil(size);
    let cut = payload.chunks(size).enumerate().map(|(index, piece)| {
        let more = index + 1 < pieces;
        let offset = (index * size) as u16;
        let mut packet = Packet::of(piece);
        if header.source.is_ipv4() {
            v4::emit(&mut packet, header, Place { ident: ident as u16, offset, more });
        } else {
            v6::emit_fragment(&mut packet, header.protocol, Fragment { ident, offset, more });
            v6::emit(&mut packet, &Header { protocol: protocol::FRAGMENT, ..*header }, 0);
        }
        packet
    });
    Some(cut.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::Fragmentation;

    #[test]
    fn fragments_fit_the_mtu_and_carry_everything() {
        let payload: Vec<u8> = (0..5000_u32).map(|byte| byte as u8).collect();
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let header = Header {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                protocol: 17,
                ttl: 64,
                tos: 0,
                fragmentation: Fragmentation::Allowed,
            };
            let packets = fragments(&header, &payload, 1280, 5).unwrap();
            assert!(packets.iter().all(|packet| packet.len() <= 1280));
            let mut whole = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                let last = index + 1 == packets.len();
                if header.source.is_ipv4() {
                    let parsed = v4::parse(packet.as_ref(), false).unwrap();
                    assert_eq!((usize::from(parsed.fragment_offset), parsed.more_fragments), (whole.len(), !last));
                    whole.extend_from_slice(parsed.payload);
                } else {
                    let parsed = v6::parse(packet.as_ref()).unwrap();
                    let fragment = parsed.fragment.unwrap();
                    assert_eq!((usize::from(fragment.offset), fragment.more), (whole.len(), !last));
                    whole.extend_from_slice(parsed.payload);
                }
            }
            assert_eq!(whole, payload);
            assert!(fragments(&header, &payload, 20, 5).is_none());
        }
    }
}
