//! RACK (RFC 8985): a segment is lost when one that was sent sufficiently later has been delivered.

use super::seq::Seq;
use crate::time::Instant;
use std::time::Duration;

const DUPLICATES: u64 = 3;
const PERSIST: u32 = 16;

/// A segment that was delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    pub end: Seq,
    pub at: Instant,
    pub retransmitted: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Rack {
    /// The latest sent of those delivered: when, and where it ended.
    pub latest: Option<(Instant, Seq)>,
    pub rtt: Duration,
    furthest: Seq,
    reordering: bool,
    multiplier: u32,
    persist: u32,
    round: Option<Seq>,
}

impl Default for Rack {
    fn default() -> Rack {
        Rack { latest: None, rtt: Duration::ZERO, furthest: 0, reordering: false, multiplier: 1, persist: 0, round: None }
    }
}

impl Rack {
    /// Steps 1 to 3.
    pub(crate) fn delivered(&mut self, segment: Delivered, now: Instant, least: Option<Duration>) {
        let rtt = now.since(segment.at);
        // The answer to a retransmission that came too soon was for the original.
        if segment.retransmitted && least.is_some_and(|least| rtt < least) {
            return;
        }
        if segment.end > self.furthest {
            self.furthest = segment.end;
        } else if segment.end < self.furthest && !segment.retransmitted {
            self.reordering = true;
        }
        if self.latest.is_none_or(|latest| (segment.at, segment.end) > latest) {
            self.latest = Some((segment.at, segment.end));
            self.rtt = rtt;
        }
    }

    /// Step 4: a spurious retransmission was reported, or not; or recovery has ended.
    pub(crate) fn adapt(&mut self, duplicate: bool, una: Seq, next: Seq, recovered: bool) {
        if self.round.is_some_and(|round| una >= round) {
            self.round = None;
        }
        if duplicate && self.round.is_none() {
            self.round = Some(next);
            self.multiplier = (self.multiplier + 1).min(255);
            self.persist = PERSIST;
        } else if recovered {
            self.persist = self.persist.saturating_sub(1);
            if self.persist == 0 {
                self.multiplier = 1;
            }
        }
    }

    /// For how long segments may overtake each other.
    pub(crate) fn window(&self, recovering: bool, sacked: u64, least: Option<Duration>, smoothed: Option<Duration>) -> Duration {
        if !self.reordering && (recovering || sacked >= DUPLICATES) {
            return Duration::ZERO;
        }
        let quarter = least.unwrap_or(Duration::ZERO) / 4;
        (quarter * self.multiplier).min(smoothed.unwrap_or(Duration::MAX))
    }

    pub(crate) fn reordering(&self) -> bool {
        self.reordering
    }
}
