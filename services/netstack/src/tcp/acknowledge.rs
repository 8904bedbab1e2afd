//! What an acknowledgement tells: what arrived, what is lost, how much may be in flight (RFC 2018, 5681, 6582, 6675, 8985).

use super::{
    congestion::Reduction,
    connection::{Connection, Phase, State, Undo},
    segment::{Flags, Segment},
    seq::Seq,
};
use crate::{socket::Readiness, time::Instant};
use std::time::Duration;

/// What one acknowledgement has told.
#[derive(Debug, Default)]
struct Told {
    /// Bytes that are newly known to have arrived.
    delivered: u64,
    /// Bytes that arrived in order.
    acked: u64,
    /// A block reported what had arrived before (D-SACK).
    spurious: bool,
    duplicate: bool,
    rtt: Option<Duration>,
}

impl Connection {
    pub(super) fn acknowledge(&mut self, segment: &Segment<'_>, seq: Seq, ack: Seq, now: Instant) {
        let mut told = Told { duplicate: self.is_duplicate(segment, ack), ..Told::default() };
        self.update_window(segment, seq, ack);
        if ack < self.s.una {
            return;
        }
        self.timers.probes = 0;
        if self.s.window > 0 || !self.has_unsent() {
            self.timers.probe = None;
            self.timers.probe_backoff = 0;
        }
        if self.agreed.sack {
            self.take_blocks(segment, ack, &mut told, now);
        }
        if ack > self.s.una {
            self.take_ack(segment, ack, &mut told, now);
        }
        let was = self.s.board.flight() + told.delivered;
        self.undo_if_spurious(segment, &told);
        self.tail_probe_answered(ack, &told);
        let lost = self.find_losses(&told, now);
        self.enter_or_leave(&told, was, now);
        if self.agreed.ecn && segment.head.has(Flags::ECE) && matches!(self.s.phase, Phase::Open) && told.acked > 0 {
            self.s.congestion.window = self.s.congestion.reduce(was);
            self.s.phase = Phase::Reduced { until: self.s.next };
            self.s.tell_reduced = true;
        }
        self.set_window(&told, was, lost, now);
        if told.acked > 0 {
            self.timers.rto = (!self.s.board.is_empty()).then(|| now + self.s.rtt.rto());
            self.acked_end();
        }
        self.arm_tail_probe(now);
    }

    fn is_duplicate(&self, segment: &Segment<'_>, ack: Seq) -> bool {
        let window = u64::from(segment.head.window) << self.agreed.peer_scale;
        ack == self.s.una
            && segment.length() == 0
            && !self.s.board.is_empty()
            && (window == self.s.window || segment.head.options.sacks.len() > 0)
    }

    fn update_window(&mut self, segment: &Segment<'_>, seq: Seq, ack: Seq) {
        let window = u64::from(segment.head.window) << self.agreed.peer_scale;
        let s = &mut self.s;
        let newer = ack > s.una || seq > s.wl1 || (seq == s.wl1 && (ack > s.wl2 || window > s.window));
        if ack >= s.una && newer {
            s.window = window;
            s.max_window = s.max_window.max(window);
            s.wl1 = seq;
            s.wl2 = ack;
        }
    }

    fn take_blocks(&mut self, segment: &Segment<'_>, ack: Seq, told: &mut Told, now: Instant) {
        let s = &mut self.s;
        let blocks: Vec<(Seq, Seq)> = segment
            .head
            .options
            .sacks
            .iter()
            .map(|(start, end)| (s.origin.unwrap(start, s.una), s.origin.unwrap(end, s.una)))
            .collect();
        let least = s.rtt.least();
        for (index, &(start, end)) in blocks.iter().enumerate() {
            if start >= end || end > s.next {
                continue;
            }
            // The first block may report a duplicate (RFC 2883): below the acknowledgement, or within the second.
            let within = index == 0 && blocks.get(1).is_some_and(|second| second.0 <= start && end <= second.1);
            if index == 0 && (end <= ack || within) {
                told.spurious = true;
                continue;
            }
            let (rack, mut rtt) = (&mut s.rack, told.rtt);
            told.delivered += s.board.sack(start, end, |sent| {
                rack.delivered(sent.delivered(), now, least);
                if !sent.retransmitted {
                    rtt = rtt.or(Some(now.since(sent.at)));
                }
            });
            told.rtt = rtt;
        }
    }

    fn take_ack(&mut self, segment: &Segment<'_>, ack: Seq, told: &mut Told, now: Instant) {
        let stamp = self.stamp(now);
        let s = &mut self.s;
        let least = s.rtt.least();
        let (rack, mut rtt, mut delivered) = (&mut s.rack, None, 0);
        s.board.ack(ack, |sent| {
            if sent.sacked {
                return;
            }
            delivered += sent.end - sent.start;
            rack.delivered(sent.delivered(), now, least);
            if !sent.retransmitted && rtt.is_none() {
                rtt = Some(now.since(sent.at));
            }
        });
        told.delivered += delivered;
        told.acked = ack - s.una;
        s.una = ack;
        s.small = s.small.max(ack.min(s.small));
        if s.urgent.is_some_and(|urgent| urgent <= ack) {
            s.urgent = None;
        }
        let echoed = segment.head.options.timestamps.filter(|_| self.agreed.stamps).map(|(_, echo)| echo);
        let by_stamp = echoed.filter(|&echo| echo != 0).map(|echo| stamp.wrapping_sub(echo)).filter(|&age| age < 1 << 24);
        told.rtt = rtt.or(told.rtt).or(by_stamp.map(|age| Duration::from_millis(u64::from(age.max(1)))));
        if let Some(rtt) = told.rtt {
            s.rtt.sample(rtt, now);
        }
        s.rtt.progress();
        self.timers.retries = 0;
        self.timers.stalled = None;
        self.soft_error = None;
        // The buffer grows with the window (`tcp_sndbuf_expand`).
        if self.options.send_buffer.is_none() {
            let wanted = (self.s.congestion.window * 2) as usize;
            self.s.limit = self.s.limit.max(wanted.min(self.settings.send.most));
        }
        if self.s.blocked && self.writable() {
            self.s.blocked = false;
            self.edges |= Readiness::WRITABLE;
        }
    }

    /// If the answer is to what was sent before the first retransmission, that was not needed (Eifel, RFC 3522).
    fn undo_if_spurious(&mut self, segment: &Segment<'_>, told: &Told) {
        let Some(Undo { window, threshold, stamp: Some(stamp) }) = self.s.undo else { return };
        let Some((_, echo)) = segment.head.options.timestamps.filter(|_| self.agreed.stamps) else { return };
        if told.acked > 0 && echo != 0 && echo.wrapping_sub(stamp).cast_signed() < 0 {
            self.s.undo = None;
            self.s.congestion.undo(window, threshold);
            self.s.board.forgive();
            self.s.phase = Phase::Open;
            self.s.duplicates = 0;
        }
    }

    /// A tail loss probe was answered: had it repaired a loss, that was congestion (RFC 8985, 7.4).
    fn tail_probe_answered(&mut self, ack: Seq, told: &Told) {
        let Some(probe) = self.s.tail_probe.filter(|probe| ack >= probe.end) else { return };
        if !probe.retransmission || told.spurious {
            self.s.tail_probe = None;
        } else if ack > probe.end || told.acked > 0 {
            self.s.tail_probe = None;
            // Without a duplicate reported, the original was lost and the probe was what arrived.
            if ack > probe.end && matches!(self.s.phase, Phase::Open) {
                let flight = self.flight();
                self.s.congestion.window = self.s.congestion.reduce(flight);
                self.s.phase = Phase::Reduced { until: self.s.next };
                self.s.tell_reduced = self.agreed.ecn;
            }
        } else if told.duplicate {
            self.s.tail_probe = None;
        }
    }

    fn find_losses(&mut self, told: &Told, now: Instant) -> bool {
        let before = self.s.board.lost();
        if self.agreed.sack {
            self.s.rack.adapt(told.spurious, self.s.una, self.s.next, false);
            self.detect(now);
        } else {
            self.count_duplicates(told);
        }
        self.s.board.lost() > before
    }

    /// Marks what RACK takes for lost, and sets its timer for what may be.
    pub(super) fn detect(&mut self, now: Instant) {
        let recovering = matches!(self.s.phase, Phase::Recovery { .. } | Phase::Loss { .. });
        let sacked = self.s.board.sacked() / self.mss() as u64;
        let s = &mut self.s;
        let window = s.rack.window(recovering, sacked, s.rtt.least(), s.rtt.smoothed());
        // Nothing overtook anything: nothing can be told.
        if s.board.sacked() == 0 && !recovering && !s.board.first().is_some_and(|first| first.retransmitted) {
            self.timers.reorder = None;
            return;
        }
        let (_, wait) = s.board.detect(&s.rack, window, now);
        self.timers.reorder = wait.map(|wait| now + wait);
    }

    /// Without SACK: three duplicates, and partial acknowledgements in recovery (RFC 6582).
    fn count_duplicates(&mut self, told: &Told) {
        let mss = self.mss() as u64;
        if told.acked > 0 {
            self.s.duplicates = self.s.duplicates.saturating_sub(told.acked.div_ceil(mss));
            if let Phase::Recovery { until, .. } = self.s.phase
                && self.s.una < until
            {
                self.s.board.lose_first(mss);
            } else {
                self.s.duplicates = 0;
            }
        } else if told.duplicate {
            self.s.duplicates += 1;
            if self.s.duplicates == 3 && matches!(self.s.phase, Phase::Open | Phase::Reduced { .. }) {
                self.s.board.lose_first(mss);
            }
        }
    }

    fn enter_or_leave(&mut self, told: &Told, was: u64, now: Instant) {
        let una = self.s.una;
        match self.s.phase {
            Phase::Recovery { until, .. } | Phase::Loss { until } if una >= until => {
                if matches!(self.s.phase, Phase::Recovery { .. }) {
                    self.s.congestion.window = self.s.congestion.threshold;
                }
                self.s.phase = Phase::Open;
                self.s.undo = None;
                self.s.duplicates = 0;
                self.s.rack.adapt(false, una, self.s.next, true);
            }
            Phase::Reduced { until } if una >= until => self.s.phase = Phase::Open,
            _ => {}
        }
        if self.s.board.lost() > 0 && matches!(self.s.phase, Phase::Open | Phase::Reduced { .. }) {
            self.enter_recovery(was);
        }
        let _ = (told, now);
    }

    /// Something is lost: the window comes down, once for all that is in flight.
    pub(super) fn enter_recovery(&mut self, was: u64) {
        let s = &mut self.s;
        let (window, threshold) = (s.congestion.window, s.congestion.threshold);
        if !matches!(s.phase, Phase::Reduced { .. }) {
            s.congestion.reduce(was);
            s.undo = Some(Undo { window, threshold, stamp: None });
        }
        s.tell_reduced = self.agreed.ecn;
        s.phase = Phase::Recovery { until: s.next, reduction: Reduction::new(was) };
        s.tail_probe = None;
        self.timers.tail = None;
    }

    fn set_window(&mut self, told: &Told, was: u64, lost: bool, now: Instant) {
        let mss = self.mss() as u64;
        let flight = self.flight();
        let s = &mut self.s;
        let smoothed = s.rtt.smoothed().unwrap_or_default();
        match &mut s.phase {
            Phase::Recovery { reduction, .. } => {
                let delivered = if told.delivered == 0 && told.duplicate { mss } else { told.delivered };
                if delivered > 0 {
                    let progress = told.acked > 0 && !lost;
                    s.congestion.window = reduction.acked(delivered, flight, s.congestion.threshold, mss, progress);
                }
            }
            Phase::Reduced { .. } => {}
            Phase::Open | Phase::Loss { .. } => {
                // A window that is not used does not grow (RFC 7661's reason).
                let used = s.limited || (s.congestion.slow_start() && s.congestion.window < 2 * was);
                if told.acked > 0 && used {
                    s.congestion.acked(told.delivered.min(was), smoothed, now);
                }
            }
        }
    }

    /// If our end was acknowledged, the state goes on.
    fn acked_end(&mut self) {
        let acked = self.s.fin && self.s.una > self.s.end;
        if !acked {
            return;
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                self.edges |= Readiness::WRITABLE;
                self.timers.wants_fin_wait = true;
            }
            State::Closing => self.time_wait(),
            State::LastAck => self.finish(None),
            _ => {}
        }
    }
}
