//! One connection: what it remembers, how it begins and ends. What it does with a segment is in `input` and `acknowledge`,
//! what it sends in `output`, what the user asks of it in `user`, and what time brings in `timers`.

use super::{
    assembler::Assembler,
    congestion::{Congestion, Reduction},
    options::StreamOptions,
    rack::Rack,
    receive::{Acking, Tuning, Urgent},
    rtt::Rtt,
    scoreboard::Scoreboard,
    segment::{Flags, Head, Options},
    seq::{Origin, START, Seq},
    settings::Settings,
    store::{Heap, Store},
    timers::Timers,
};
use crate::{
    error::Error,
    socket::{Readiness, demux::Ends},
    time::Instant,
};
use std::sync::Arc;

/// The states of RFC 9293, as far as a connection is one: listening and TIME_WAIT are kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing yet, or no more.
    Closed,
    /// A listener.
    Listen,
    /// Asked for a connection.
    SynSent,
    /// Asked, and was asked at the same time; or was asked.
    SynReceived,
    /// Open.
    Established,
    /// Closed by us; not yet acknowledged.
    FinWait1,
    /// Closed by us; the peer may still send.
    FinWait2,
    /// Closed by the peer; we may still send.
    CloseWait,
    /// Closed by both at the same time.
    Closing,
    /// Closed by the peer, then by us.
    LastAck,
    /// Over; kept so that old segments do no harm.
    TimeWait,
}

/// What both sides have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Agreed {
    pub sack: bool,
    pub stamps: bool,
    pub ecn: bool,
    pub our_scale: u8,
    pub peer_scale: u8,
    /// The peer's MSS option, or what goes without.
    pub peer_mss: u16,
}

/// Where loss recovery stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    Open,
    /// The window was reduced for a router's mark.
    Reduced {
        until: Seq,
    },
    Recovery {
        until: Seq,
        reduction: Reduction,
    },
    /// The timer ran out.
    Loss {
        until: Seq,
    },
}

/// What to go back to if a loss was none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Undo {
    pub window: u64,
    pub threshold: u64,
    /// Our timestamp when the first segment was sent again.
    pub stamp: Option<u32>,
}

/// A tail loss probe that is out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TailProbe {
    pub end: Seq,
    pub retransmission: bool,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct Sending {
    pub origin: Origin,
    pub una: Seq,
    pub next: Seq,
    /// Behind the last byte that was written.
    pub end: Seq,
    /// The user writes no more: a FIN follows.
    pub fin: bool,
    pub window: u64,
    pub max_window: u64,
    pub wl1: Seq,
    pub wl2: Seq,
    pub store: Box<dyn Store>,
    pub limit: usize,
    /// A writer found no room.
    pub blocked: bool,
    pub board: Scoreboard,
    pub rack: Rack,
    pub rtt: Rtt,
    pub congestion: Congestion,
    pub phase: Phase,
    pub undo: Option<Undo>,
    pub duplicates: u64,
    /// The window, not the user, was what held sending back.
    pub limited: bool,
    /// The end of the last segment that was not full.
    pub small: Seq,
    pub last: Instant,
    pub urgent: Option<Seq>,
    pub tail_probe: Option<TailProbe>,
    /// A tail loss probe is to go out.
    pub probe_tail: bool,
    /// A probe for the peer's window or life is to go out.
    pub probe_peer: bool,
    /// The next new segment says that the window was reduced.
    pub tell_reduced: bool,
    /// More is said to follow (MSG_MORE).
    pub more: bool,
    pub retransmissions: u64,
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub origin: Origin,
    pub next: Seq,
    /// Behind the last byte that the peer may send.
    pub edge: Seq,
    /// The next byte that the user reads.
    pub read: Seq,
    /// The last acknowledgement that was sent.
    pub acked: Seq,
    pub store: Box<dyn Store>,
    pub assembler: Assembler,
    pub duplicate: Option<(Seq, Seq)>,
    pub fin: Option<Seq>,
    pub limit: usize,
    /// The peer's segments have about so many bytes.
    pub segment: usize,
    pub acking: Acking,
    /// A mark is to be echoed.
    pub marked: bool,
    pub urgent: Option<(Seq, Urgent)>,
    pub shut: bool,
    pub tuning: Tuning,
    pub recent: u32,
    pub recent_at: Instant,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub state: State,
    pub ends: Ends,
    pub options: StreamOptions,
    pub settings: Arc<Settings>,
    pub agreed: Agreed,
    /// Added to the clock for our timestamps.
    pub stamp_offset: u32,
    /// The longest payload with its options that the path takes.
    pub path_mss: usize,
    pub s: Sending,
    pub r: Receiving,
    pub timers: Timers,
    /// What came anew for the user.
    pub edges: Readiness,
    /// Why it ended, for the user.
    pub error: Option<Error>,
    /// What a router said that may explain a time-out.
    pub soft_error: Option<Error>,
    /// A reset to send.
    pub reset: Option<Head>,
    /// The user has closed it.
    pub orphan: bool,
    pub challenged: Option<Instant>,
}

/// How a connection begins.
pub(crate) struct Beginning {
    pub ends: Ends,
    pub options: StreamOptions,
    pub settings: Arc<Settings>,
    pub iss: u32,
    pub stamp_offset: u32,
    pub path_mss: usize,
}

impl Connection {
    /// One that asks: its SYN is the first thing that it sends.
    pub(crate) fn ask(from: Beginning, now: Instant) -> Connection {
        let settings = &from.settings;
        let receive = from.options.receive_buffer.unwrap_or(settings.receive.first);
        let send = from.options.send_buffer.unwrap_or(settings.send.first.max(65_536));
        let algorithm = from.options.algorithm.unwrap_or(settings.algorithm);
        let s = Sending {
            origin: Origin(from.iss),
            una: START,
            next: START,
            end: START + 1,
            fin: false,
            window: 0,
            max_window: 0,
            wl1: 0,
            wl2: 0,
            store: Box::<Heap>::default(),
            limit: send,
            blocked: false,
            board: Scoreboard::default(),
            rack: Rack::default(),
            rtt: Rtt::new(settings),
            congestion: Congestion::new(algorithm, from.path_mss, settings.initial_window),
            phase: Phase::Open,
            undo: None,
            duplicates: 0,
            limited: false,
            small: 0,
            last: now,
            urgent: None,
            tail_probe: None,
            probe_tail: false,
            probe_peer: false,
            tell_reduced: false,
            more: false,
            retransmissions: 0,
        };
        let r = Receiving {
            origin: Origin(0),
            next: START,
            edge: START,
            read: START + 1,
            acked: START,
            store: Box::<Heap>::default(),
            assembler: Assembler::default(),
            duplicate: None,
            fin: None,
            limit: receive / 2,
            segment: 536,
            acking: Acking::new(now),
            marked: false,
            urgent: None,
            shut: false,
            tuning: Tuning::new(now),
            recent: 0,
            recent_at: now,
        };
        Connection {
            state: State::SynSent,
            ends: from.ends,
            agreed: Agreed { peer_mss: 536, ..Agreed::default() },
            stamp_offset: from.stamp_offset,
            path_mss: from.path_mss,
            s,
            r,
            timers: Timers::default(),
            edges: Readiness::empty(),
            error: None,
            soft_error: None,
            reset: None,
            orphan: false,
            challenged: None,
            options: from.options,
            settings: from.settings,
        }
    }

    /// One that was asked for, whose handshake a listener has made.
    pub(crate) fn accepted(from: Beginning, peer_iss: u32, agreed: Agreed, window: u16, recent: u32, now: Instant) -> Connection {
        let mut connection = Connection::ask(from, now);
        connection.state = State::Established;
        connection.agreed = agreed;
        connection.s.una = START + 1;
        connection.s.next = START + 1;
        connection.peer_begins(peer_iss, now);
        connection.r.recent = recent;
        // What the SYN-ACK told: no scale in it.
        connection.r.edge = connection.r.next + connection.first_window();
        connection.r.acked = connection.r.next;
        connection.s.window = u64::from(window) << agreed.peer_scale;
        connection.s.max_window = connection.s.window;
        connection.s.wl1 = connection.r.next;
        connection.s.wl2 = connection.s.una;
        connection.established(now);
        connection
    }

    /// The peer's SYN has told where it begins.
    pub(super) fn peer_begins(&mut self, iss: u32, now: Instant) {
        self.r.origin = Origin(iss);
        self.r.next = START + 1;
        self.r.read = START + 1;
        self.r.recent_at = now;
    }

    /// The handshake is over.
    pub(super) fn established(&mut self, now: Instant) {
        // Who has shut it down meanwhile is closing already.
        self.state = if self.s.fin { State::FinWait1 } else { State::Established };
        self.s.congestion.set_mss(self.mss());
        let first = (self.settings.initial_window * self.mss()) as u64;
        self.s.congestion.window = if self.s.retransmissions > 0 { self.mss() as u64 } else { first };
        self.r.segment = self.mss().min(1460);
        self.r.acking.begin(self.r.limit, self.r.segment);
        self.r.tuning.begin(self.r.read, now);
        self.timers.heard(now, &self.options, &self.settings);
        self.edges |= Readiness::WRITABLE;
    }

    /// The receive window that a SYN may tell, in which there is no scale.
    pub(super) fn first_window(&self) -> u64 {
        (self.r.limit as u64).min(65_535)
    }

    /// Payload bytes of a full segment without SACK blocks.
    pub(crate) fn mss(&self) -> usize {
        let least = self.path_mss.min(usize::from(self.agreed.peer_mss));
        let most = self.options.max_segment.map_or(least, |most| least.min(usize::from(most)));
        most.saturating_sub(if self.agreed.stamps { 12 } else { 0 }).max(48)
    }

    /// A router says that what we sent was too long: it is cut anew and sent again, which is no congestion.
    pub(crate) fn path_shrunk(&mut self, path_mss: usize) {
        if path_mss < self.path_mss {
            self.set_path_mss(path_mss);
            self.s.board.lose_all();
            self.s.phase = Phase::Loss { until: self.s.next };
        }
    }

    /// What a router says about this connection. Only what can be about something in flight is believed (RFC 5927).
    pub(crate) fn reported(&mut self, sequence: u32, error: Error) {
        let seq = self.s.origin.unwrap(sequence, self.s.una);
        if seq < self.s.una || seq > self.s.next {
            return;
        }
        if self.state == State::SynSent {
            self.finish(Some(error));
        } else {
            self.soft_error = Some(error);
        }
    }

    /// The path takes less than was thought, or more.
    pub(crate) fn set_path_mss(&mut self, path_mss: usize) {
        if self.path_mss != path_mss {
            self.path_mss = path_mss;
            self.s.congestion.set_mss(self.mss());
        }
    }

    /// Our timestamp: milliseconds, as Linux has them.
    pub(crate) fn stamp(&self, now: Instant) -> u32 {
        (now.millis() as u32).wrapping_add(self.stamp_offset)
    }

    /// It is over.
    pub(super) fn finish(&mut self, error: Option<Error>) {
        self.state = State::Closed;
        if let Some(error) = error {
            self.error = Some(error);
            self.edges |= Readiness::ERROR;
        }
        self.timers = Timers::default();
        self.edges |= Readiness::READABLE | Readiness::WRITABLE | Readiness::HANG_UP | Readiness::READ_HANG_UP;
    }

    /// TIME_WAIT has taken over: nothing is left but what the user has not read.
    pub(crate) fn end_quietly(&mut self) {
        self.finish(None);
    }

    /// It ends at once, and the peer is told.
    pub(crate) fn abort(&mut self, error: Option<Error>) {
        if !matches!(self.state, State::Closed | State::SynSent | State::TimeWait) {
            self.reset = Some(Head {
                seq: self.s.origin.wire(self.s.next),
                ack: self.r.origin.wire(self.r.next),
                flags: Flags::RST | Flags::ACK,
                window: 0,
                urgent: 0,
                options: Options::default(),
            });
        }
        self.finish(error);
    }

    /// Bytes in flight, as far as is known.
    pub(super) fn flight(&self) -> u64 {
        let arrived = if self.agreed.sack { 0 } else { self.s.duplicates * self.mss() as u64 };
        self.s.board.flight().saturating_sub(arrived)
    }

    /// Whether data can be sent in this state.
    pub(super) fn sends_data(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait | State::FinWait1 | State::Closing | State::LastAck)
    }

    /// Whether there is data, or an end, that was never sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.s.next < self.s.end || (self.s.fin && self.s.next == self.s.end)
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::empty();
        let peer_closed = self.peer_closed();
        let over = self.state == State::Closed;
        readiness.set(Readiness::READABLE, self.readable() > 0 || peer_closed || self.r.shut || over);
        readiness.set(Readiness::WRITABLE, self.state != State::SynSent && self.state != State::SynReceived && self.writable());
        readiness.set(Readiness::READ_HANG_UP, peer_closed || self.r.shut || over);
        readiness.set(Readiness::HANG_UP, over || (self.s.fin && (peer_closed || self.r.shut)));
        readiness.set(Readiness::ERROR, self.error.is_some());
        readiness.set(Readiness::PRIORITY, matches!(self.r.urgent, Some((_, Urgent::Here(_)))));
        readiness
    }

    /// The peer's end was received.
    pub(super) fn peer_closed(&self) -> bool {
        self.r.fin.is_some_and(|fin| self.r.next > fin)
    }
}
