//! Segments: taking one apart, and making one.

use crate::{
    ip::{Datagram, protocol},
    network::{Path, Work},
    packet::Packet,
    stack::counters::Drop,
};
use bitflags::bitflags;
use smoltcp::wire::{IpAddress, TcpOption, TcpPacket, TcpSeqNumber};
use std::net::SocketAddr;

const HEADER: usize = smoltcp::wire::TCP_HEADER_LEN;
/// The longest that options can be.
const MAX_OPTIONS: usize = 40;

bitflags! {
    /// The header's flags.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(crate) struct Flags: u8 {
        const FIN = 1;
        const SYN = 2;
        const RST = 4;
        const PSH = 8;
        const ACK = 16;
        const URG = 32;
        const ECE = 64;
        const CWR = 128;
    }
}

/// Up to four blocks, as they are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Blocks {
    blocks: [(u32, u32); 4],
    count: usize,
}

impl Blocks {
    pub(crate) fn push(&mut self, block: (u32, u32)) {
        if let Some(place) = self.blocks.get_mut(self.count) {
            *place = block;
            self.count += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.blocks.iter().take(self.count).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
    }
}

/// The options that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    /// Value and echo.
    pub timestamps: Option<(u32, u32)>,
    pub sacks: Blocks,
}

/// A segment without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub seq: u32,
    pub ack: u32,
    pub flags: Flags,
    /// As on the wire: not scaled.
    pub window: u16,
    pub urgent: u16,
    pub options: Options,
}

impl Head {
    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }
}

/// A segment that came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub head: Head,
    pub payload: &'a [u8],
    /// A router has marked it.
    pub congestion: bool,
}

impl Segment<'_> {
    /// How much of the sequence space it takes.
    pub(crate) fn length(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.head.has(Flags::SYN)) + u32::from(self.head.has(Flags::FIN))
    }
}

/// Takes a datagram apart.
pub(crate) fn parse<'a>(datagram: &'a Datagram<'_>) -> Result<Segment<'a>, Drop> {
    let bytes = &datagram.payload[..];
    let packet = TcpPacket::new_checked(bytes).map_err(|_| Drop::TransportMalformed)?;
    let (source, destination) = datagram.ends();
    if !datagram.checksum_known && !packet.verify_checksum(&source, &destination) {
        return Err(Drop::TransportChecksum);
    }
    if packet.src_port() == 0 || packet.dst_port() == 0 {
        return Err(Drop::TransportMalformed);
    }
    let flags = Flags::from_bits_retain(bytes.get(13).copied().unwrap_or(0));
    Ok(Segment {
        source: SocketAddr::new(datagram.source, packet.src_port()),
        destination: SocketAddr::new(datagram.destination, packet.dst_port()),
        head: Head {
            seq: packet.seq_number().0.cast_unsigned(),
            ack: packet.ack_number().0.cast_unsigned(),
            flags,
            window: packet.window_len(),
            urgent: packet.urgent_at(),
            options: options(packet.options(), flags.contains(Flags::SYN)),
        },
        payload: packet.payload(),
        congestion: datagram.tos & 3 == 3,
    })
}

/// Reads options up to the first that makes no sense. Some are meant in a SYN only.
fn options(mut bytes: &[u8], syn: bool) -> Options {
    let mut options = Options::default();
    while !bytes.is_empty() {
        // A length below two would not get us further.
        if bytes.first().is_some_and(|&kind| kind > 1) && bytes.get(1).is_none_or(|&length| length < 2) {
            break;
        }
        // The library knows three blocks; a fourth is read here.
        if let [5, 34, data @ ..] = bytes
            && let Some(fourth) = data.get(24..32)
        {
            let word = |at: usize| fourth.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes);
            let last = (word(0), word(4));
            if let Ok((_, TcpOption::SackRange(ranges))) = TcpOption::parse(bytes) {
                ranges.into_iter().flatten().chain([last]).for_each(|block| options.sacks.push(block));
            }
            bytes = data.get(32..).unwrap_or(&[]);
            continue;
        }
        let Ok((rest, option)) = TcpOption::parse(bytes) else { break };
        bytes = rest;
        match option {
            TcpOption::EndOfList => break,
            TcpOption::MaxSegmentSize(mss) if syn => options.mss = Some(mss),
            TcpOption::WindowScale(shift) if syn => options.window_scale = Some(shift.min(14)),
            TcpOption::SackPermitted if syn => options.sack_permitted = true,
            TcpOption::TimeStamp { tsval, tsecr } => options.timestamps = Some((tsval, tsecr)),
            TcpOption::SackRange(ranges) if !syn => {
                ranges.into_iter().flatten().for_each(|block| options.sacks.push(block));
            }
            _ => {}
        }
    }
    options
}

impl Options {
    /// How long they are, padding included. Laid out as Linux does, in words.
    pub(crate) fn length(&self) -> usize {
        let sacks = if self.sacks.len() > 0 { 4 + 8 * self.sacks.len() } else { 0 };
        let stamps = if self.timestamps.is_some() { 12 } else { 0 };
        let permitted = if self.sack_permitted && self.timestamps.is_none() { 4 } else { 0 };
        self.mss.map_or(0, |_| 4) + self.window_scale.map_or(0, |_| 4) + permitted + stamps + sacks
    }

    fn emit(&self, mut place: &mut [u8]) {
        let pad = |place: &mut [u8]| place.iter_mut().for_each(|byte| *byte = 1);
        if let Some(mss) = self.mss {
            place = TcpOption::MaxSegmentSize(mss).emit(place);
        }
        if self.sack_permitted || self.timestamps.is_some() {
            if self.sack_permitted {
                place = TcpOption::SackPermitted.emit(place);
            } else {
                let (two, rest) = place.split_at_mut(2);
                pad(two);
                place = rest;
            }
            match self.timestamps {
                Some((tsval, tsecr)) => place = TcpOption::TimeStamp { tsval, tsecr }.emit(place),
                None => {
                    let (two, rest) = place.split_at_mut(2);
                    pad(two);
                    place = rest;
                }
            }
        }
        if let Some(shift) = self.window_scale {
            let (one, rest) = place.split_at_mut(1);
            pad(one);
            place = TcpOption::WindowScale(shift).emit(rest);
        }
        if self.sacks.len() > 0 {
            place[..4].copy_from_slice(&[1, 1, 5, 2 + 8 * self.sacks.len() as u8]);
            for (block, place) in self.sacks.iter().zip(place[4..].chunks_exact_mut(8)) {
                place[..4].copy_from_slice(&block.0.to_be_bytes());
                place[4..].copy_from_slice(&block.1.to_be_bytes());
            }
        }
    }
}

/// Puts the header in front of a payload of pieces of `size`. What the link can do is left to it.
pub(crate) fn emit(path: &Path, local: SocketAddr, remote: SocketAddr, head: &Head, packet: &mut Packet, size: usize) -> Work {
    let payload = packet.len();
    let mut head = *head;
    while head.options.length() > MAX_OPTIONS {
        let fewer = head.options.sacks.len().saturating_sub(1);
        head.options.sacks.truncate(fewer);
    }
    let header = HEADER + head.options.length();
    let mut tcp = TcpPacket::new_unchecked(packet.prepend(header));
    tcp.set_src_port(local.port());
    tcp.set_dst_port(remote.port());
    tcp.set_seq_number(TcpSeqNumber(head.seq.cast_signed()));
    tcp.set_ack_number(TcpSeqNumber(head.ack.cast_signed()));
    tcp.set_header_len(header as u8);
    tcp.set_window_len(head.window);
    tcp.set_urgent_at(head.urgent);
    head.options.emit(tcp.options_mut());
    let (from, to): (IpAddress, IpAddress) = (local.ip().into(), remote.ip().into());
    let segments = (payload > size).then_some((size as u16, header as u16));
    packet.as_mut()[13] = head.flags.bits();
    let mut tcp = TcpPacket::new_unchecked(packet.as_mut());
    let ecn = head.has(Flags::CWR);
    if path.capabilities.checksum {
        let length = (header + payload) as u32;
        tcp.set_checksum(smoltcp::wire::checksum::pseudo_header(&from, &to, protocol::TCP.into(), length));
        return Work { checksum: Some(16), segments, ecn };
    }
    tcp.fill_checksum(&from, &to);
    Work { checksum: None, segments, ecn }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(count: u32) -> Blocks {
        let mut blocks = Blocks::default();
        (0..count).for_each(|block| blocks.push((block * 10, block * 10 + 5)));
        blocks
    }

    #[test]
    fn options_are_read_as_they_were_written() {
        let syn = Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 2)),
            sacks: Blocks::default(),
        };
        let cases = [
            (syn, true, 20),
            (Options { timestamps: None, ..syn }, true, 12),
            (Options { sack_permitted: false, ..syn }, true, 20),
            (Options { timestamps: Some((7, 8)), sacks: blocks(3), ..Options::default() }, false, 40),
            (Options { sacks: blocks(4), ..Options::default() }, false, 36),
        ];
        for (written, syn, length) in cases {
            assert_eq!(written.length(), length);
            let mut bytes = vec![0; length];
            written.emit(&mut bytes);
            assert_eq!(options(&bytes, syn), written);
        }
    }

    #[test]
    fn broken_options_end_the_reading() {
        assert_eq!(options(&[8, 0, 1, 2], true), Options::default());
        assert_eq!(options(&[2, 4, 5], true), Options::default());
        assert_eq!(options(&[1, 1, 3, 3, 200], true).window_scale, Some(14));
        assert_eq!(options(&[2, 4, 5, 0xb4], false).mss, None);
    }
}
