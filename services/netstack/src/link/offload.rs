//! What a link does for us and tells us, in virtio-net's terms (`struct virtio_net_hdr`), which AF_PACKET with
//! PACKET_VNET_HDR and TAP devices speak too.

/// The header's length without and with `num_buffers`.
pub const HEADER_LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCP6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// A checksum that the link is to complete: it sums from `start` on and stores at `start + offset`, where the sum of the
/// pseudo-header stands. Both count from the frame's first byte on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where the sum begins.
    pub start: u16,
    /// Where it is stored, from there.
    pub offset: u16,
}

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP into datagrams.
    Udp,
}

/// A packet that the link is to cut into smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// What it is.
    pub cut: Cut,
    /// Payload bytes of each piece.
    pub size: u16,
    /// The headers' length, the link's included.
    pub headers: u16,
    /// CWR is to be in the first piece only.
    pub ecn: bool,
}

/// What is left for the link to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// A checksum to complete.
    pub checksum: Option<PartialChecksum>,
    /// A cut to make.
    pub segmentation: Option<Segmentation>,
}

impl Offload {
    /// As the header in front of an outgoing frame.
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut header = [0; HEADER_LENGTH];
        if let Some(checksum) = self.checksum {
            header[0] = NEEDS_CHECKSUM;
            header[6..8].copy_from_slice(&checksum.start.to_le_bytes());
            header[8..10].copy_from_slice(&checksum.offset.to_le_bytes());
        }
        if let Some(segmentation) = self.segmentation {
            header[1] = match segmentation.cut {
                Cut::Tcp4 => GSO_TCP4,
                Cut::Tcp6 => GSO_TCP6,
                Cut::Udp => GSO_UDP_L4,
            } | if segmentation.ecn { GSO_ECN } else { 0 };
            header[2..4].copy_from_slice(&segmentation.headers.to_le_bytes());
            header[4..6].copy_from_slice(&segmentation.size.to_le_bytes());
        }
        header
    }
}

/// What the link says of a frame that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// TCP's or UDP's checksum needs no check: the link has done it, or the frame never left the machine.
    pub checksum_known: bool,
    /// It was put together from pieces with so many payload bytes; 0 if not.
    pub segment_size: u16,
}

impl Received {
    /// Reads the header in front of an incoming frame. `None` if it is too short or of a kind that was not negotiated.
    pub fn decode(header: &[u8]) -> Option<Received> {
        let header: &[u8; HEADER_LENGTH] = header.get(..HEADER_LENGTH)?.try_into().ok()?;
        let segment_size = match header[1] & !GSO_ECN {
            GSO_NONE => 0,
            GSO_TCP4 | GSO_TCP6 | GSO_UDP | GSO_UDP_L4 => u16::from_le_bytes([header[4], header[5]]),
            _ => return None,
        };
        Some(Received { checksum_known: header[0] & (NEEDS_CHECKSUM | DATA_VALID) != 0, segment_size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segmented_frame_is_described_as_virtio_does() {
        let offload = Offload {
            checksum: Some(PartialChecksum { start: 34, offset: 16 }),
            segmentation: Some(Segmentation { cut: Cut::Tcp4, size: 1448, headers: 66, ecn: true }),
        };
        assert_eq!(offload.encode(), [1, 0x81, 66, 0, 0xa8, 5, 34, 0, 16, 0]);
        assert_eq!(Received::decode(&offload.encode()), Some(Received { checksum_known: true, segment_size: 1448 }));
    }

    #[test]
    fn a_header_that_makes_no_sense_is_refused() {
        assert_eq!(Received::decode(&[0; 9]), None);
        assert_eq!(Received::decode(&[0, 77, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
