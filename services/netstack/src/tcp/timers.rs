//! What time brings to a connection.

use super::{
    connection::{Connection, Phase, State, Undo},
    options::StreamOptions,
    settings::Settings,
};
use crate::{error::Error, time::Instant};
use std::time::Duration;

/// An orphan waits no longer than this for its peer's end.
pub(super) const LONGEST_FIN_WAIT: Duration = Duration::from_secs(120);
/// Linux's least tail loss probe time-out.
const TAIL_PROBE_MIN: Duration = Duration::from_millis(2);

/// When each of them runs out, and what they count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    /// Retransmission.
    pub rto: Option<Instant>,
    /// Tail loss probe.
    pub tail: Option<Instant>,
    /// What may have been overtaken is lost.
    pub reorder: Option<Instant>,
    /// The peer's window is closed.
    pub probe: Option<Instant>,
    pub keepalive: Option<Instant>,
    pub fin_wait: Option<Instant>,
    pub cork: Option<Instant>,
    /// Corked data has waited long enough.
    pub cork_over: bool,
    /// How often the first segment was sent again by the timer.
    pub retries: u8,
    /// Probes without an answer.
    pub probes: u8,
    /// How often in a row the closed window was probed: each pause is twice as long.
    pub probe_backoff: u8,
    /// Since when nothing new was acknowledged though something was sent again.
    pub stalled: Option<Instant>,
    pub heard: Option<Instant>,
    pub wants_fin_wait: bool,
    /// The peer hears us: the neighbour does too.
    pub confirm: bool,
}

impl Timers {
    /// Something came from the peer.
    pub(crate) fn heard(&mut self, now: Instant, options: &StreamOptions, settings: &Settings) {
        self.heard = Some(now);
        self.keepalive = options.keep_alive.then(|| now + options.keep_idle.unwrap_or(settings.keepalive_idle));
    }
}

impl Connection {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let t = &self.timers;
        [t.rto, t.tail, t.reorder, t.probe, t.keepalive, t.fin_wait, t.cork, self.r.acking.due].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        let due = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        if due(&mut self.r.acking.due) {
            self.r.acking.now = true;
            // Waiting for an answer to carry it was in vain.
            self.r.acking.interactive = false;
        }
        if due(&mut self.timers.reorder) {
            self.reordered(now);
        }
        if due(&mut self.timers.tail) && !self.s.board.is_empty() && self.s.tail_probe.is_none() {
            self.s.probe_tail = true;
            self.timers.rto = Some(now + self.s.rtt.rto());
        }
        if due(&mut self.timers.rto) {
            self.timed_out(now);
        }
        if due(&mut self.timers.probe) {
            self.window_closed(now);
        }
        if due(&mut self.timers.keepalive) {
            self.is_alive(now);
        }
        if due(&mut self.timers.fin_wait) {
            self.finish(None);
        }
        if due(&mut self.timers.cork) {
            self.timers.cork_over = true;
        }
    }

    fn reordered(&mut self, now: Instant) {
        let was = self.s.board.flight();
        self.detect(now);
        if self.s.board.lost() > 0 && matches!(self.s.phase, Phase::Open | Phase::Reduced { .. }) {
            self.enter_recovery(was);
            let (threshold, mss) = (self.s.congestion.threshold, self.mss() as u64);
            let flight = self.flight();
            if let Phase::Recovery { reduction, .. } = &mut self.s.phase {
                self.s.congestion.window = reduction.acked(was - flight.min(was), flight, threshold, mss, false);
            }
        }
    }

    fn give_up(&mut self) {
        let error = self.soft_error.take().unwrap_or(Error::TimedOut);
        self.finish(Some(error));
    }

    /// Whether what is not answered has been tried long enough.
    fn tried_enough(&self, tries: u8, now: Instant) -> bool {
        if let Some(limit) = self.options.user_timeout
            && let Some(since) = self.timers.stalled
        {
            return now.since(since) >= limit;
        }
        let limit = match self.state {
            State::SynSent => self.options.syn_retries.unwrap_or(self.settings.syn_retries),
            State::SynReceived => self.settings.synack_retries,
            _ if self.orphan => self.settings.orphan_retries,
            _ => self.settings.retries,
        };
        tries >= limit
    }

    fn timed_out(&mut self, now: Instant) {
        if self.s.board.is_empty() {
            return;
        }
        self.timers.stalled.get_or_insert(now);
        if self.tried_enough(self.timers.retries, now) {
            return self.give_up();
        }
        let (una, next) = (self.s.una, self.s.next);
        let flight = self.flight();
        let fresh = match self.s.phase {
            Phase::Open | Phase::Reduced { .. } => true,
            Phase::Recovery { .. } => false,
            Phase::Loss { until } => una >= until,
        };
        if fresh {
            let (window, threshold) = (self.s.congestion.window, self.s.congestion.threshold);
            self.s.undo = Some(Undo { window, threshold, stamp: None });
            self.s.congestion.reduce(flight);
        } else if matches!(self.s.phase, Phase::Recovery { .. }) {
            self.s.undo = None;
        }
        self.s.congestion.timed_out();
        self.s.board.lose_all();
        self.s.phase = Phase::Loss { until: next };
        self.s.duplicates = 0;
        self.s.tail_probe = None;
        self.s.probe_tail = false;
        self.timers.tail = None;
        self.timers.reorder = None;
        self.timers.retries = self.timers.retries.saturating_add(1);
        self.s.rtt.back_off();
        let mut next_try = now + self.s.rtt.rto();
        // A user's time-out is kept to the moment.
        if let (Some(limit), Some(since)) = (self.options.user_timeout, self.timers.stalled) {
            next_try = next_try.min((since + limit).max(now + Duration::from_millis(1)));
        }
        self.timers.rto = Some(next_try);
    }

    /// Data waits and nothing is in flight whose acknowledgement would open the window: the peer is asked.
    pub(super) fn arm_probe(&mut self, now: Instant) {
        let waits = self.sends_data() && self.has_unsent() && self.s.board.is_empty();
        if !waits || self.timers.cork.is_some() {
            return;
        }
        if self.timers.probe.is_none() {
            let pause = self.s.rtt.rto().saturating_mul(1 << self.timers.probe_backoff.min(10)).min(self.settings.rto_max);
            self.timers.probe = Some(now + pause);
        }
    }

    fn window_closed(&mut self, now: Instant) {
        if !self.has_unsent() || !self.s.board.is_empty() {
            return;
        }
        self.timers.stalled.get_or_insert(now);
        if self.tried_enough(self.timers.probes, now) {
            return self.give_up();
        }
        self.timers.probes = self.timers.probes.saturating_add(1);
        self.timers.probe_backoff = self.timers.probe_backoff.saturating_add(1);
        self.s.probe_peer = true;
    }

    fn is_alive(&mut self, now: Instant) {
        if !self.options.keep_alive {
            return;
        }
        let idle = self.options.keep_idle.unwrap_or(self.settings.keepalive_idle);
        let interval = self.options.keep_interval.unwrap_or(self.settings.keepalive_interval);
        let count = self.options.keep_count.unwrap_or(self.settings.keepalive_probes);
        // What is being sent again finds out as well.
        if !self.s.board.is_empty() || self.has_unsent() {
            self.timers.keepalive = Some(now + idle);
            return;
        }
        let silent = self.timers.heard.map_or(Duration::ZERO, |heard| now.since(heard));
        let over =
            self.options.user_timeout.map_or(self.timers.probes >= count, |limit| silent >= limit && self.timers.probes > 0);
        if over {
            self.abort(Some(self.soft_error.unwrap_or(Error::TimedOut)));
            return;
        }
        self.timers.probes = self.timers.probes.saturating_add(1);
        self.s.probe_peer = true;
        self.timers.keepalive = Some(now + interval);
    }

    /// A probe goes when the last segments have not been acknowledged for two round trips (RFC 8985, 7.2).
    pub(super) fn arm_tail_probe(&mut self, now: Instant) {
        let s = &self.s;
        let possible = self.agreed.sack
            && matches!(s.phase, Phase::Open | Phase::Reduced { .. })
            && !s.board.is_empty()
            && s.board.lost() == 0
            && s.board.sacked() == 0
            && s.tail_probe.is_none()
            && !matches!(self.state, State::SynSent | State::SynReceived);
        let Some(smoothed) = s.rtt.smoothed().filter(|_| possible) else {
            self.timers.tail = None;
            return;
        };
        // The peer may delay the acknowledgement of a single segment.
        let single = s.board.flight() <= self.mss() as u64;
        let pause = smoothed * 2 + if single { self.settings.rto_min } else { TAIL_PROBE_MIN };
        let at = now + pause;
        self.timers.tail = Some(at).filter(|at| self.timers.rto.is_none_or(|rto| *at < rto));
    }
}
