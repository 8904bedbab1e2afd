//! A packet on its way out: its payload is written first, and each layer puts its header in front without a copy.

/// Room for every header that can come in front of a payload: Ethernet, IPv6 with a fragment header, TCP with options.
const HEADROOM: usize = 128;

/// Bytes with room in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    start: usize,
}

impl Packet {
    /// An empty packet with room for `payload` bytes behind the headers.
    pub fn with_room(payload: usize) -> Packet {
        let mut bytes = Vec::with_capacity(HEADROOM + payload);
        bytes.resize(HEADROOM, 0);
        Packet { bytes, start: HEADROOM }
    }

    /// A packet with this payload.
    pub fn of(payload: &[u8]) -> Packet {
        let mut packet = Packet::with_room(payload.len());
        packet.bytes.extend_from_slice(payload);
        packet
    }

    /// Where the payload is appended.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Puts `length` zeros in front of what is there, and gives the whole packet to write the header into.
    pub fn prepend(&mut self, length: usize) -> &mut [u8] {
        if self.start < length {
            // Headers longer than the room: never in practice, and then merely slow.
            let missing = length - self.start;
            self.bytes.splice(0..0, std::iter::repeat_n(0, missing));
            self.start += missing;
        }
        self.start -= length;
        let packet = &mut self.bytes[self.start..];
        packet[..length].fill(0);
        packet
    }

    /// Removes `length` bytes from the front.
    pub fn strip(&mut self, length: usize) {
        self.start = (self.start + length).min(self.bytes.len());
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl AsMut<[u8]> for Packet {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}
