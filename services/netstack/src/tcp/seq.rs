//! Sequence numbers. On the wire they are 32 bits and wrap; inside they are 64 bits and do not, so that comparing them is
//! plain arithmetic. Only here is one made into the other.

/// A sequence number that does not wrap. The SYN has [`START`]; the stream's first byte comes after it.
pub(crate) type Seq = u64;

/// The SYN's number: far enough from zero that whatever a peer sends lies above.
pub(crate) const START: Seq = 1 << 32;

/// One direction's initial sequence number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(pub u32);

impl Origin {
    /// As on the wire.
    pub(crate) fn wire(self, seq: Seq) -> u32 {
        self.0.wrapping_add(seq as u32)
    }

    /// The number nearest to `near` that looks so on the wire.
    pub(crate) fn unwrap(self, wire: u32, near: Seq) -> Seq {
        let ahead = wire.wrapping_sub(self.wire(near)).cast_signed();
        near.saturating_add_signed(i64::from(ahead))
    }
}

/// A byte's place in the stream.
pub(crate) fn position(seq: Seq) -> u64 {
    seq.saturating_sub(START + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_survives_the_wire_within_half_the_space(iss: u32, near in 0_u64..1 << 40, ahead in -0x7fff_ffff_i64..0x7fff_ffff) {
            let origin = Origin(iss);
            let near = START + near;
            let seq = near.saturating_add_signed(ahead);
            prop_assert_eq!(origin.unwrap(origin.wire(seq), near), seq);
        }
    }
}
