//! Receive offload in software: successive segments of one connection, from frames that came together, become one long segment
//! (what Linux calls GRO), so that the layers above work once for many.
//!
//! Only what says the same but for its bytes is put together: same addresses, ports, acknowledgement, window, options and marks;
//! pieces of one size, the last of which may be shorter. Everything else goes through as it is, and in its order.

use super::offload::Received;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};
use std::borrow::Cow;

/// Longer packets IP cannot say.
const MAX_PACKET: usize = 65_535;
const ETHERNET: usize = smoltcp::wire::ETHERNET_HEADER_LEN;
/// As many connections are watched at a time.
const MAX_OPEN: usize = 8;

const FIN_SYN_RST_URG: u8 = 0x27;
const PSH: u8 = 8;

/// A frame, perhaps of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged<'a> {
    /// Its bytes.
    pub bytes: Cow<'a, [u8]>,
    /// What is known of it.
    pub told: Received,
}

/// Where things are in a frame that can be put together with others.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Where TCP's header begins and where its payload does.
    tcp: usize,
    payload: usize,
    length: usize,
    seq: u32,
    push: bool,
}

/// A merged frame that may yet grow.
#[derive(Debug)]
struct Open {
    index: usize,
    piece: Piece,
    size: usize,
    next: u32,
}

/// Puts together what can be.
pub fn merge<'a>(frames: impl IntoIterator<Item = (&'a [u8], Received)>) -> Vec<Merged<'a>> {
    let mut merged: Vec<Merged<'a>> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for (bytes, told) in frames {
        let piece = piece(bytes, told);
        if let Some(flow) = flow(bytes) {
            let place =
                open.iter().position(|one| merged.get(one.index).and_then(|first| self::flow(&first.bytes)) == Some(flow));
            if let Some(place) = place {
                let (Some(one), Some(piece)) = (open.get_mut(place), piece) else {
                    // Not to be merged, and nothing may overtake it.
                    open.remove(place);
                    merged.push(Merged { bytes: Cow::Borrowed(bytes), told });
                    continue;
                };
                if let Some(first) = merged.get_mut(one.index)
                    && append(first, one, bytes, piece)
                {
                    if piece.length < one.size || piece.push {
                        open.remove(place);
                    }
                    continue;
                }
                open.remove(place);
            }
        }
        if let Some(piece) = piece.filter(|piece| !piece.push) {
            if open.len() >= MAX_OPEN {
                open.remove(0);
            }
            let next = piece.seq.wrapping_add(piece.length as u32);
            open.push(Open { index: merged.len(), piece, size: piece.length, next });
        }
        merged.push(Merged { bytes: Cow::Borrowed(bytes), told });
    }
    merged.iter_mut().for_each(finish);
    merged
}

/// Addresses and ports, as they lie in the frame.
fn flow(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let ip = bytes.get(ETHERNET..)?;
    let (addresses, tcp, protocol) = match ip.first()? >> 4 {
        4 => (ip.get(12..20)?, usize::from(ip[0] & 15) * 4, *ip.get(9)?),
        6 => (ip.get(8..40)?, smoltcp::wire::IPV6_HEADER_LEN, *ip.get(6)?),
        _ => return None,
    };
    let is_tcp = IpProtocol::from(protocol) == IpProtocol::Tcp;
    is_tcp.then_some((addresses, ip.get(tcp..tcp + 4)?))
}

/// A frame that can be put together with others: plain TCP with data, undamaged.
fn piece(bytes: &[u8], told: Received) -> Option<Piece> {
    if told.segment_size > 0 {
        return None;
    }
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    let payload = frame.payload();
    let (header, total, source, destination): (usize, usize, IpAddress, IpAddress) = match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(payload).ok()?;
            let whole = ip.version() == 4 && !ip.more_frags() && ip.frag_offset() == 0;
            if !whole || ip.header_len() != 20 || ip.next_header() != IpProtocol::Tcp || !ip.verify_checksum() {
                return None;
            }
            (20, ip.total_len().into(), ip.src_addr().into(), ip.dst_addr().into())
        }
        EthernetProtocol::Ipv6 => {
            let ip = Ipv6Packet::new_checked(payload).ok()?;
            if ip.version() != 6 || ip.next_header() != IpProtocol::Tcp {
                return None;
            }
            (40, ip.total_len(), ip.src_addr().into(), ip.dst_addr().into())
        }
        _ => return None,
    };
    let tcp = TcpPacket::new_checked(payload.get(header..total)?).ok()?;
    let flags = *payload.get(header + 13)?;
    let length = tcp.payload().len();
    if flags & FIN_SYN_RST_URG != 0 || !tcp.ack() || length == 0 {
        return None;
    }
    if !told.checksum_known && !tcp.verify_checksum(&source, &destination) {
        return None;
    }
    Some(Piece {
        tcp: ETHERNET + header,
        payload: ETHERNET + header + usize::from(tcp.header_len()),
        length,
        seq: tcp.seq_number().0.cast_unsigned(),
        push: flags & PSH != 0,
    })
}

/// Appends a piece to those before it, if it goes on where they end and says the same.
fn append(first: &mut Merged<'_>, open: &mut Open, bytes: &[u8], piece: Piece) -> bool {
    let known = &open.piece;
    let total = first.bytes.len().min(known.payload + open.size.max(first.bytes.len() - known.payload)) + piece.length;
    if piece.seq != open.next || piece.length > open.size || piece.payload != known.payload || total - ETHERNET > MAX_PACKET {
        return false;
    }
    let same = |from: usize, to: usize| first.bytes.get(from..to) == bytes.get(from..to);
    let ip = if known.tcp == ETHERNET + 20 {
        // TOS; fragment flags, TTL and protocol.
        same(ETHERNET, ETHERNET + 2) && same(ETHERNET + 6, ETHERNET + 10)
    } else {
        same(ETHERNET, ETHERNET + 4) && same(ETHERNET + 6, ETHERNET + 8)
    };
    // The acknowledgement, the window, the flags but PSH, the options.
    let flags = |bytes: &[u8]| bytes.get(known.tcp + 13).map(|flags| flags & !PSH);
    let tcp = same(known.tcp + 8, known.tcp + 13)
        && same(known.tcp + 14, known.tcp + 16)
        && same(known.tcp + 20, known.payload)
        && flags(&first.bytes) == flags(bytes);
    let Some(data) = bytes.get(piece.payload..piece.payload + piece.length).filter(|_| ip && tcp && same(0, ETHERNET)) else {
        return false;
    };
    let size = open.size;
    let whole = first.bytes.to_mut();
    if first.told.segment_size == 0 {
        // What the link has added behind the first packet goes.
        whole.truncate(known.payload + size);
        first.told.segment_size = size as u16;
    }
    whole.extend_from_slice(data);
    if piece.push
        && let Some(flags) = whole.get_mut(known.tcp + 13)
    {
        *flags |= PSH;
    }
    open.next = open.next.wrapping_add(piece.length as u32);
    true
}

/// Writes the length of what was put together. TCP's checksum was checked piece by piece.
fn finish(merged: &mut Merged<'_>) {
    if merged.told.segment_size == 0 {
        return;
    }
    merged.told.checksum_known = true;
    let bytes = merged.bytes.to_mut();
    let Some(ip) = bytes.get_mut(ETHERNET..) else { return };
    let length = ip.len();
    match ip.first().map(|byte| byte >> 4) {
        Some(4) => {
            let mut ip = Ipv4Packet::new_unchecked(ip);
            ip.set_total_len(length as u16);
            ip.fill_checksum();
        }
        _ => Ipv6Packet::new_unchecked(ip).set_payload_len((length - smoltcp::wire::IPV6_HEADER_LEN) as u16),
    }
}
