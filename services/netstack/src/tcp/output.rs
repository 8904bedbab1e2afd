//! What a connection sends: one segment for each call, in the order of what is urgent.

use super::{
    connection::{Connection, Phase, State, TailProbe},
    segment::{Blocks, Flags, Head, Options},
    seq::{START, Seq, position},
    settings::Ecn,
};
use crate::time::Instant;
use std::time::Duration;

/// How long corked data waits at most.
const CORK: Duration = Duration::from_millis(200);

/// A segment to send: its header, and where its payload lies in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Emission {
    pub head: Head,
    pub at: u64,
    pub length: usize,
    /// Payload bytes of each piece, where the link is to cut it.
    pub size: usize,
    /// ECN-capable (RFC 3168): new data only.
    pub capable: bool,
}

impl Connection {
    /// The next segment to send, none if there is none. `most` is the longest payload that the link cuts, 0 if it does not.
    pub(crate) fn output(&mut self, most: usize, now: Instant) -> Option<Emission> {
        if let Some(head) = self.reset.take() {
            return Some(bare(head));
        }
        if matches!(self.state, State::Closed | State::Listen) {
            return None;
        }
        let emission = self
            .retransmission(most, now)
            .or_else(|| self.tail_probe(now))
            .or_else(|| self.fresh(most, now))
            .or_else(|| self.peer_probe(now))
            .or_else(|| self.acknowledgement(now));
        if emission.is_none() {
            self.arm_probe(now);
        }
        emission
    }

    /// Room for a payload beside SACK blocks.
    fn room(&self) -> usize {
        if !self.has_blocks() {
            return self.mss();
        }
        let count = self.r.assembler.report().count() + if self.r.duplicate.is_some() { 2 } else { 0 };
        self.mss().saturating_sub(4 + 8 * count.min(self.most_blocks())).max(1)
    }

    /// As many blocks as fit beside a timestamp, or without one.
    fn most_blocks(&self) -> usize {
        if self.agreed.stamps { 3 } else { 4 }
    }

    fn has_blocks(&self) -> bool {
        self.agreed.sack && (!self.r.assembler.is_empty() || self.r.duplicate.is_some())
    }

    fn retransmission(&mut self, most: usize, now: Instant) -> Option<Emission> {
        let (start, end) = self.s.board.next_lost()?;
        let room = self.room();
        let flight = self.flight();
        // After a time-out, and for the first in recovery, one may always go.
        let allowed = self.s.congestion.window.saturating_sub(flight);
        if allowed < room as u64 && flight > 0 {
            return None;
        }
        let window_end = self.s.una + self.s.window;
        if start > START && start >= window_end && start > self.s.una {
            return None;
        }
        let pieces = (allowed as usize / room).min(most / room).max(1);
        let stop = end.min(start + (pieces * room) as u64);
        // An end of the stream takes a number, not a byte.
        let stop = if stop == self.s.end && end > stop { end } else { stop };
        Some(self.resend(start, stop, now))
    }

    fn resend(&mut self, start: Seq, end: Seq, now: Instant) -> Emission {
        self.s.board.resent(start, end, now);
        self.s.retransmissions += 1;
        let stamp = self.stamp(now);
        if let Some(undo) = &mut self.s.undo {
            undo.stamp.get_or_insert(stamp);
        }
        self.timers.stalled.get_or_insert(now);
        self.sent(start, end, now);
        self.segment(start, end, false, now)
    }

    /// A probe for the loss of the last segments (RFC 8985, 7.3): new data if there is any, else the last one again.
    fn tail_probe(&mut self, now: Instant) -> Option<Emission> {
        if !std::mem::take(&mut self.s.probe_tail) {
            return None;
        }
        let room = self.room() as u64;
        let fresh = self.s.end.saturating_sub(self.s.next).min(room);
        let fits = self.s.next + fresh <= self.s.una + self.s.window;
        let emission = if fresh > 0 && fits {
            self.send_new(fresh, now)
        } else {
            let last = *self.s.board.last()?;
            if last.sacked {
                return None;
            }
            let start = last.start.max(last.end.saturating_sub(room));
            // Only the tail of a long record goes again.
            self.s.board.resent(start, last.end, now);
            self.s.retransmissions += 1;
            self.sent(start, last.end, now);
            self.s.tail_probe = Some(TailProbe { end: self.s.next, retransmission: true });
            return Some(self.segment(start, last.end, false, now));
        };
        self.s.tail_probe = Some(TailProbe { end: self.s.next, retransmission: false });
        Some(emission)
    }

    /// Data, or an end, that was never sent.
    fn fresh(&mut self, most: usize, now: Instant) -> Option<Emission> {
        if self.state == State::SynSent && self.s.next == START {
            self.s.next = START + 1;
            self.s.board.push(START, START + 1, now);
            self.sent(START, START + 1, now);
            return Some(self.segment(START, START + 1, true, now));
        }
        if !self.sends_data() || !self.has_unsent() {
            self.s.limited = false;
            return None;
        }
        let room = self.room() as u64;
        let waiting = self.s.end.saturating_sub(self.s.next);
        let window = (self.s.una + self.s.window).saturating_sub(self.s.next);
        if waiting == 0 {
            // The bare end is not held back by the congestion window.
            return (window > 0).then(|| self.send_new(0, now));
        }
        let allowed = self.s.congestion.window.saturating_sub(self.flight());
        if allowed < room.min(waiting) {
            self.s.limited = true;
            return None;
        }
        let chunk = (most as u64 / room * room).max(room);
        let mut length = waiting.min(window).min(chunk).min((allowed / room).max(1) * room);
        if length < room {
            let whole = length == waiting;
            let enough = whole || (self.s.max_window > 1 && length >= self.s.max_window / 2);
            if length == 0 || !enough || (whole && self.holds_back(now)) {
                return None;
            }
        } else if !length.is_multiple_of(room) && (length < waiting || self.holds_back(now)) {
            length -= length % room;
        }
        Some(self.send_new(length, now))
    }

    /// Whether a segment that is not full waits for more: Nagle's algorithm with Minshall's change, or a cork.
    fn holds_back(&mut self, now: Instant) -> bool {
        if self.s.fin || self.s.urgent.is_some() || self.timers.cork_over {
            return false;
        }
        if self.options.cork || self.s.more {
            if !self.s.board.is_empty() {
                return true;
            }
            self.timers.cork.get_or_insert(now + CORK);
            return true;
        }
        !self.options.no_delay && self.s.small > self.s.una
    }

    fn send_new(&mut self, length: u64, now: Instant) -> Emission {
        let start = self.s.next;
        let mut end = start + length;
        let room = self.room() as u64;
        if !length.is_multiple_of(room) {
            self.s.small = end;
        }
        // The stream's end goes with its last bytes.
        if self.s.fin && end == self.s.end {
            end += 1;
        }
        self.s.next = end;
        self.s.board.push(start, end, now);
        self.s.limited = false;
        self.s.last = now;
        self.timers.cork = None;
        self.timers.cork_over = false;
        // Who answers soon after having heard something is in a dialogue.
        if now.since(self.r.acking.heard) < Duration::from_millis(40) && self.r.next > START + 1 {
            self.r.acking.interactive = true;
        }
        self.sent(start, end, now);
        self.arm_tail_probe(now);
        self.segment(start, end, true, now)
    }

    /// What sending changes, whatever was sent.
    fn sent(&mut self, start: Seq, end: Seq, now: Instant) {
        if let Phase::Recovery { reduction, .. } = &mut self.s.phase {
            reduction.sent(end - start);
        }
        if self.timers.rto.is_none() {
            self.timers.rto = Some(now + self.s.rtt.rto());
        }
        self.timers.probe = None;
    }

    /// A segment with a number that was acknowledged: the peer answers with where it is.
    fn peer_probe(&mut self, now: Instant) -> Option<Emission> {
        if !std::mem::take(&mut self.s.probe_peer) {
            return None;
        }
        let seq = self.s.una - 1;
        let mut head = self.head(Flags::ACK, now);
        head.seq = self.s.origin.wire(seq);
        Some(bare(head))
    }

    fn acknowledgement(&mut self, now: Instant) -> Option<Emission> {
        let again = !self.agreed.sack && self.r.acking.duplicates > 0;
        if !self.r.acking.now && !again {
            return None;
        }
        if matches!(self.state, State::SynSent | State::SynReceived) {
            self.r.acking.now = false;
            return None;
        }
        Some(bare(self.head(Flags::ACK, now)))
    }

    /// The segment that carries `start..end`.
    fn segment(&mut self, start: Seq, end: Seq, new: bool, now: Instant) -> Emission {
        if start == START {
            return self.syn(now);
        }
        let data_end = end.min(self.s.end);
        let length = data_end.saturating_sub(start) as usize;
        let mut flags = Flags::ACK;
        let size = self.room();
        if end > self.s.end && self.s.fin {
            flags |= Flags::FIN;
        }
        if length > 0 && data_end == self.s.end {
            flags |= Flags::PSH;
        }
        if new && length > 0 && std::mem::take(&mut self.s.tell_reduced) {
            flags |= Flags::CWR;
        }
        let mut head = self.head(flags, now);
        head.seq = self.s.origin.wire(start);
        if let Some(urgent) = self.s.urgent.filter(|&urgent| urgent > start) {
            head.flags |= Flags::URG;
            head.urgent = (urgent - start).min(65_535) as u16;
        }
        Emission { head, at: position(start), length, size, capable: new && length > 0 && self.agreed.ecn }
    }

    fn syn(&mut self, now: Instant) -> Emission {
        let asked = self.state == State::SynSent;
        let settings = &self.settings;
        let mut flags = Flags::SYN;
        if !asked {
            flags |= Flags::ACK;
        }
        // Who was not answered asks without (RFC 3168, 6.1.1.1).
        if asked && settings.ecn == Ecn::On && self.s.retransmissions == 0 {
            flags |= Flags::ECE | Flags::CWR;
        } else if !asked && self.agreed.ecn {
            flags |= Flags::ECE;
        }
        let echo = if asked { 0 } else { self.r.recent };
        let scaled = if asked { settings.window_scaling } else { self.agreed.our_scale > 0 };
        let options = Options {
            mss: Some(self.options.max_segment.unwrap_or(u16::MAX).min(self.path_mss.min(65_535) as u16)),
            window_scale: scaled.then(|| settings.window_scale()),
            sack_permitted: if asked { settings.sack } else { self.agreed.sack },
            timestamps: (if asked { settings.timestamps } else { self.agreed.stamps }).then(|| (self.stamp(now), echo)),
            ..Options::default()
        };
        let ack = if asked { 0 } else { self.r.origin.wire(self.r.next) };
        let seq = self.s.origin.wire(START);
        bare(Head { seq, ack, flags, window: self.first_window() as u16, urgent: 0, options })
    }

    /// A header with everything that goes with an acknowledgement, which it is.
    fn head(&mut self, flags: Flags, now: Instant) -> Head {
        let mut options = Options::default();
        if self.agreed.stamps {
            options.timestamps = Some((self.stamp(now), self.r.recent));
        }
        if self.has_blocks() {
            options.sacks = self.blocks();
        }
        let mut flags = flags;
        if self.agreed.ecn && self.r.marked {
            flags |= Flags::ECE;
        }
        let window = self.tell_window();
        self.r.acked = self.r.next;
        self.r.acking.sent();
        Head { seq: self.s.origin.wire(self.s.next), ack: self.r.origin.wire(self.r.next), flags, window, urgent: 0, options }
    }

    /// What arrived twice first (RFC 2883), then what arrived out of order, the latest first.
    fn blocks(&mut self) -> Blocks {
        let most = self.most_blocks();
        let mut blocks = Blocks::default();
        let origin = self.r.origin;
        let wire = |(start, end): (Seq, Seq)| (origin.wire(start), origin.wire(end));
        if let Some(duplicate) = self.r.duplicate.take() {
            blocks.push(wire(duplicate));
            // A duplicate within a range is followed by that range.
            if let Some(range) = self.r.assembler.range_of(duplicate.0) {
                blocks.push(wire(range));
            }
        }
        for range in self.r.assembler.report().map(wire) {
            if blocks.len() < most && !blocks.iter().skip(1).any(|known| known == range) {
                blocks.push(range);
            }
        }
        blocks.truncate(most);
        blocks
    }
}

fn bare(head: Head) -> Emission {
    Emission { head, at: 0, length: 0, size: usize::MAX, capable: false }
}
