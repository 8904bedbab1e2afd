//! struct tcp_info, as far as it was in the beginning (tcp(7)).

use std::time::Duration;

use crate::tcp::{Info, State};

/// sizeof(struct tcp_info) up to tcpi_total_retrans.
const LENGTH: usize = 104;

/// Its bytes; of a socket without a connection, hardly anything.
pub(super) fn bytes(info: Option<&Info>) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    let Some(info) = info else {
        bytes[0] = number(State::Closed);
        return bytes;
    };
    bytes[0] = number(info.state);
    // TCP_CA_Recovery.
    bytes[1] = if info.recovering { 3 } else { 0 };
    bytes[5] = u8::from(info.timestamps) | u8::from(info.sack) << 1 | 1 << 2 | u8::from(info.ecn) << 3;
    bytes[6] = info.window_scale.0 | info.window_scale.1 << 4;
    let mss = info.mss.max(1) as u64;
    let microseconds = |time: Duration| time.as_micros() as u64;
    let segments = |bytes: u64| bytes.div_ceil(mss);
    for (word, value) in [
        (0, microseconds(info.rto)),
        (2, mss),
        (3, mss),
        (4, segments(info.in_flight)),
        (5, segments(info.sacked)),
        (6, segments(info.lost)),
        (15, info.rtt.map_or(0, microseconds)),
        (16, microseconds(info.rtt_variance)),
        (17, segments(info.threshold)),
        (18, segments(info.congestion_window)),
        (19, mss),
        (20, 3),
        (22, info.buffers.1 as u64),
        (23, info.retransmissions),
    ] {
        let at = 8 + 4 * word;
        bytes[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_ne_bytes());
    }
    bytes
}

/// TCP_ESTABLISHED and so on.
fn number(state: State) -> u8 {
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Listen => 10,
        State::Closing => 11,
    }
}
