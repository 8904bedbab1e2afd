//! What a connection does with a segment (RFC 9293, 3.10.7; RFC 5961; RFC 7323, 5).

use super::{
    connection::{Connection, State},
    segment::{Flags, Segment},
    seq::{START, Seq},
    settings::Ecn,
};
use crate::{error::Error, socket::Readiness, stack::counters::Drop, time::Instant};
use std::time::Duration;

/// A timestamp older than this says nothing (RFC 7323, 5.5).
const PAWS_AGE: Duration = Duration::from_secs(24 * 24 * 3600);
/// Challenge acknowledgements of one connection are no closer (`tcp_invalid_ratelimit`).
const CHALLENGE_INTERVAL: Duration = Duration::from_millis(500);

/// What is left to be done by whoever gave the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing.
    Done,
    /// It was dropped.
    Dropped(Drop),
    /// It is answered by a reset.
    Reset,
}

impl Connection {
    /// Takes a segment. `size` is the payload of its pieces, if it was put together from some.
    pub(crate) fn receive(&mut self, segment: &Segment<'_>, size: usize, now: Instant) -> After {
        match self.state {
            State::Closed | State::Listen | State::TimeWait => After::Dropped(Drop::TcpUnacceptable),
            State::SynSent => self.receive_syn_sent(segment, now),
            _ => self.receive_synchronized(segment, size, now),
        }
    }

    fn receive_syn_sent(&mut self, segment: &Segment<'_>, now: Instant) -> After {
        let head = &segment.head;
        let ack = self.s.origin.unwrap(head.ack, self.s.una);
        let acks = head.has(Flags::ACK);
        if acks && (ack <= START || ack > self.s.next) {
            return if head.has(Flags::RST) { After::Dropped(Drop::TcpUnacceptable) } else { After::Reset };
        }
        if head.has(Flags::RST) {
            if acks {
                self.finish(Some(Error::ConnectionRefused));
            }
            return After::Done;
        }
        if !head.has(Flags::SYN) {
            return After::Dropped(Drop::TcpUnacceptable);
        }
        self.agree(segment);
        self.peer_begins(head.seq, now);
        self.r.edge = self.r.next + self.first_window();
        self.s.window = u64::from(head.window);
        self.s.max_window = self.s.window;
        self.s.wl1 = self.r.next;
        if let Some((value, _)) = head.options.timestamps {
            self.r.recent = value;
        }
        if !acks {
            // Both asked at the same time: the SYN goes again, with an acknowledgement.
            self.state = State::SynReceived;
            self.s.board.lose_all();
            return After::Done;
        }
        self.s.wl2 = ack;
        self.acked_syn(ack, segment, now);
        self.established(now);
        self.r.acking.now = true;
        After::Done
    }

    /// Takes from the peer's SYN what both can do.
    fn agree(&mut self, segment: &Segment<'_>) {
        let (options, settings) = (&segment.head.options, &self.settings);
        self.agreed.peer_mss = options.mss.unwrap_or(536).max(64);
        self.agreed.stamps = settings.timestamps && options.timestamps.is_some();
        self.agreed.sack = settings.sack && options.sack_permitted;
        if let Some(scale) = options.window_scale.filter(|_| settings.window_scaling) {
            self.agreed.peer_scale = scale;
            self.agreed.our_scale = settings.window_scale();
        }
        let flags = segment.head.flags & (Flags::ECE | Flags::CWR | Flags::ACK);
        let answered = flags == Flags::ECE | Flags::ACK;
        let asked = flags == Flags::ECE | Flags::CWR;
        self.agreed.ecn = settings.ecn == Ecn::On && (answered || asked);
    }

    fn acked_syn(&mut self, ack: Seq, segment: &Segment<'_>, now: Instant) {
        let mut first = None;
        self.s.board.ack(ack, |sent| first = first.or(Some((sent.at, sent.retransmitted))));
        self.s.una = ack;
        let stamped = segment.head.options.timestamps.filter(|_| self.agreed.stamps);
        match (first, stamped) {
            (Some((at, false)), _) => self.s.rtt.sample(now.since(at), now),
            (_, Some((_, echo))) if echo != 0 => {
                let rtt = Duration::from_millis(u64::from(self.stamp(now).wrapping_sub(echo)));
                self.s.rtt.sample(rtt, now);
            }
            _ => self.s.rtt.handshake_lost(),
        }
        self.timers.rto = None;
        self.timers.retries = 0;
        self.timers.stalled = None;
    }

    fn receive_synchronized(&mut self, segment: &Segment<'_>, size: usize, now: Instant) -> After {
        let head = &segment.head;
        let seq = self.r.origin.unwrap(head.seq, self.r.next);
        let end = seq + u64::from(segment.length());
        let (reset, syn) = (head.has(Flags::RST), head.has(Flags::SYN));
        let stamps = head.options.timestamps.filter(|_| self.agreed.stamps);
        if let Some((value, _)) = stamps
            && !reset
            && self.is_old(value, now)
        {
            self.repeat(seq, end, syn, now);
            return After::Dropped(Drop::TcpUnacceptable);
        }
        // What ends before the last acknowledgement or begins behind the window is not acceptable. A bare acknowledgement
        // just behind it is, for a peer whose window probe we have refused.
        let acceptable = end >= self.r.acked.min(self.r.next) && seq <= self.r.edge.max(self.r.next);
        if !acceptable {
            if !reset {
                self.repeat(seq, end, syn, now);
            }
            return After::Dropped(Drop::TcpUnacceptable);
        }
        if reset {
            return self.receive_reset(seq, now);
        }
        if syn {
            if self.state == State::SynReceived && seq == START {
                // The answer to our SYN, by one who had asked himself.
                return self.receive_ack(segment, seq + 1, size, now);
            }
            self.challenge(now);
            return After::Dropped(Drop::TcpUnacceptable);
        }
        if !head.has(Flags::ACK) {
            return After::Dropped(Drop::TcpUnacceptable);
        }
        if let Some((value, _)) = stamps
            && seq <= self.r.acked
        {
            self.r.recent = value;
            self.r.recent_at = now;
        }
        self.receive_ack(segment, seq, size, now)
    }

    /// Whether a timestamp is from before what was seen (PAWS).
    fn is_old(&self, value: u32, now: Instant) -> bool {
        value.wrapping_sub(self.r.recent).cast_signed() < 0 && now.since(self.r.recent_at) < PAWS_AGE
    }

    /// Tells a peer whose segment was not acceptable where we are.
    fn repeat(&mut self, seq: Seq, end: Seq, syn: bool, now: Instant) {
        if syn {
            return self.challenge(now);
        }
        if end > seq {
            if seq < self.r.next {
                self.r.duplicate = Some((seq, end.min(self.r.next)));
            }
            self.r.acking.now = true;
        } else {
            self.challenge(now);
        }
    }

    fn receive_reset(&mut self, seq: Seq, now: Instant) -> After {
        // Only the very next number is believed (RFC 5961, 3.2).
        if seq != self.r.next {
            self.challenge(now);
            return After::Dropped(Drop::TcpUnacceptable);
        }
        let error = match self.state {
            State::SynReceived => Error::ConnectionRefused,
            State::CloseWait => Error::BrokenPipe,
            _ => Error::ConnectionReset,
        };
        self.finish(Some(error));
        After::Done
    }

    /// An acknowledgement that says where we are, no more often than allowed.
    pub(super) fn challenge(&mut self, now: Instant) {
        if self.challenged.is_none_or(|last| now.since(last) >= CHALLENGE_INTERVAL) {
            self.challenged = Some(now);
            self.r.acking.now = true;
        }
    }

    fn receive_ack(&mut self, segment: &Segment<'_>, seq: Seq, size: usize, now: Instant) -> After {
        let head = &segment.head;
        let ack = self.s.origin.unwrap(head.ack, self.s.una);
        if self.state == State::SynReceived {
            if ack <= START || ack > self.s.next {
                return After::Reset;
            }
            self.acked_syn(ack, segment, now);
            self.s.wl1 = seq;
            self.s.wl2 = ack;
            self.s.window = u64::from(head.window) << self.agreed.peer_scale;
            self.established(now);
        }
        // Nobody honest acknowledges what was not sent, or what was before the window (RFC 5961, 5).
        if ack > self.s.next || ack + self.s.max_window.max(1) < self.s.una {
            self.challenge(now);
            return After::Dropped(Drop::TcpUnacceptable);
        }
        self.timers.heard(now, &self.options, &self.settings);
        self.acknowledge(segment, seq, ack, now);
        if self.state == State::Closed || self.state == State::TimeWait {
            return After::Done;
        }
        if self.agreed.ecn {
            if head.has(Flags::CWR) {
                self.r.marked = false;
            }
            if segment.congestion && !segment.payload.is_empty() {
                self.r.marked = true;
            }
        }
        if head.has(Flags::URG) {
            self.urgent(seq, head.urgent);
        }
        if segment.payload.is_empty() && !head.has(Flags::FIN) {
            return After::Done;
        }
        self.receive_data(segment, seq, size, now)
    }

    fn receive_data(&mut self, segment: &Segment<'_>, seq: Seq, size: usize, now: Instant) -> After {
        let fin = segment.head.has(Flags::FIN);
        let end = seq + segment.payload.len() as u64;
        if matches!(self.state, State::CloseWait | State::Closing | State::LastAck) && end > self.r.next {
            // Behind the peer's own end there is nothing.
            return After::Dropped(Drop::TcpUnacceptable);
        }
        if self.orphan && end > self.r.next {
            // Nobody will ever read it: the peer has to know (RFC 9293, 3.6.1).
            self.abort(None);
            return After::Done;
        }
        let dropped = self.accept(seq, segment.payload, fin, size, now);
        if self.r.fin == Some(self.r.next) {
            self.r.next += 1;
            self.end_of_peer(now);
        }
        dropped.map_or(After::Done, After::Dropped)
    }

    /// Everything of the peer is here, its end included.
    fn end_of_peer(&mut self, now: Instant) {
        self.r.acking.now = true;
        self.edges |= Readiness::READABLE | Readiness::READ_HANG_UP;
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => self.time_wait(),
            _ => {}
        }
        if self.s.fin {
            self.edges |= Readiness::HANG_UP;
        }
        self.timers.fin_wait = None;
        let _ = now;
    }

    /// Both directions are over.
    pub(super) fn time_wait(&mut self) {
        self.state = State::TimeWait;
        self.edges |= Readiness::HANG_UP;
    }
}
