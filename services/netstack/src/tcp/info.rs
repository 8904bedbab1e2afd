//! What TCP_INFO and the debug plane show of a connection.

use super::connection::{Connection, Phase, State};
use std::time::Duration;

/// A connection's state in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Its state.
    pub state: State,
    /// Whether SACK was agreed on.
    pub sack: bool,
    /// Whether timestamps were.
    pub timestamps: bool,
    /// Whether ECN was.
    pub ecn: bool,
    /// The peer's window scale and ours.
    pub window_scale: (u8, u8),
    /// Payload bytes of a full segment.
    pub mss: usize,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Its variance.
    pub rtt_variance: Duration,
    /// The retransmission time-out.
    pub rto: Duration,
    /// The congestion window in bytes.
    pub congestion_window: u64,
    /// The slow-start threshold in bytes.
    pub threshold: u64,
    /// Bytes in flight.
    pub in_flight: u64,
    /// Bytes that arrived out of order at the peer.
    pub sacked: u64,
    /// Bytes taken for lost.
    pub lost: u64,
    /// Segments that were sent again, ever.
    pub retransmissions: u64,
    /// Whether it recovers from a loss.
    pub recovering: bool,
    /// Whether reordering was seen.
    pub reordering: bool,
    /// The peer's window.
    pub peer_window: u64,
    /// Bytes written and not acknowledged.
    pub send_queue: usize,
    /// Bytes received and not read.
    pub receive_queue: usize,
    /// Sizes of the send and the receive buffer.
    pub buffers: (usize, usize),
}

impl Connection {
    pub(crate) fn info(&self) -> Info {
        Info {
            state: self.state,
            sack: self.agreed.sack,
            timestamps: self.agreed.stamps,
            ecn: self.agreed.ecn,
            window_scale: (self.agreed.peer_scale, self.agreed.our_scale),
            mss: self.mss(),
            rtt: self.s.rtt.smoothed(),
            rtt_variance: self.s.rtt.variance(),
            rto: self.s.rtt.rto(),
            congestion_window: self.s.congestion.window,
            threshold: self.s.congestion.threshold,
            in_flight: self.flight(),
            sacked: self.s.board.sacked(),
            lost: self.s.board.lost(),
            retransmissions: self.s.retransmissions,
            recovering: matches!(self.s.phase, Phase::Recovery { .. } | Phase::Loss { .. }),
            reordering: self.s.rack.reordering(),
            peer_window: self.s.window,
            send_queue: self.queued(),
            receive_queue: self.readable() as usize,
            buffers: (self.s.limit, self.r.limit),
        }
    }
}
