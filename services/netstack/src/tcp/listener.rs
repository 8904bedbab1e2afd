//! What comes before a connection, and after it: listeners with their queues, connections that a SYN has asked for, and
//! TIME_WAIT.

use super::{
    connection::{Agreed, Beginning, Connection},
    options::StreamOptions,
    segment::{Flags, Head, Options, Segment},
    settings::{Ecn, Settings},
};
use crate::{
    socket::{Handle, demux::Ends},
    time::Instant,
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    pub backlog: usize,
    /// Connections to accept.
    pub ready: VecDeque<Handle>,
    /// Connections that a SYN has asked for.
    pub asked: Vec<Handle>,
    /// When cookies were last sent: only then is a cookie believed.
    pub cookies: Option<Instant>,
}

impl Listener {
    pub(crate) fn new(backlog: usize) -> Listener {
        Listener { backlog, ready: VecDeque::new(), asked: Vec::new(), cookies: None }
    }

    /// As Linux counts: one more than asked for.
    pub(crate) fn is_full(&self) -> bool {
        self.ready.len() > self.backlog
    }
}

/// A connection that a SYN has asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub listener: Handle,
    pub ends: Ends,
    pub iss: u32,
    pub peer_iss: u32,
    pub agreed: Agreed,
    pub stamp_offset: u32,
    pub recent: u32,
    pub window: u16,
    pub path_mss: usize,
    pub sent: Instant,
    pub retries: u8,
    /// Its handshake is over, but the accept queue was full.
    pub waits: bool,
}

/// What both can do, by the peer's SYN and our settings.
pub(crate) fn agree(segment: &Segment<'_>, settings: &Settings) -> Agreed {
    let options = &segment.head.options;
    let peer_scale = options.window_scale.filter(|_| settings.window_scaling);
    let asks_ecn = segment.head.flags & (Flags::ECE | Flags::CWR) == Flags::ECE | Flags::CWR;
    Agreed {
        sack: settings.sack && options.sack_permitted,
        stamps: settings.timestamps && options.timestamps.is_some(),
        ecn: settings.ecn != Ecn::Off && asks_ecn,
        our_scale: peer_scale.map_or(0, |_| settings.window_scale()),
        peer_scale: peer_scale.unwrap_or(0),
        peer_mss: options.mss.unwrap_or(536).max(64),
    }
}

impl Request {
    /// The SYN-ACK.
    pub(crate) fn answer(&self, stamp: u32) -> Head {
        let ecn = if self.agreed.ecn { Flags::ECE } else { Flags::empty() };
        Head {
            seq: self.iss,
            ack: self.peer_iss.wrapping_add(1),
            flags: Flags::SYN | Flags::ACK | ecn,
            window: self.window,
            urgent: 0,
            options: Options {
                mss: Some(self.path_mss.min(65_535) as u16),
                // Without a scale of the peer's there is none of ours; ours may be zero.
                window_scale: (self.agreed.our_scale > 0 || self.agreed.peer_scale > 0).then_some(self.agreed.our_scale),
                sack_permitted: self.agreed.sack,
                timestamps: self.agreed.stamps.then_some((stamp, self.recent)),
                ..Options::default()
            },
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.sent + FIRST_TIMEOUT * (1 << self.retries.min(6))
    }

    /// Whether a segment ends the handshake: the next of the peer, acknowledging our SYN.
    pub(crate) fn is_completed_by(&self, segment: &Segment<'_>) -> bool {
        let head = &segment.head;
        let ahead = head.seq.wrapping_sub(self.peer_iss.wrapping_add(1));
        head.has(Flags::ACK)
            && head.ack == self.iss.wrapping_add(1)
            && ahead <= u32::from(self.window)
            && !(self.agreed.stamps && self.is_old(segment))
    }

    fn is_old(&self, segment: &Segment<'_>) -> bool {
        segment.head.options.timestamps.is_some_and(|(value, _)| value.wrapping_sub(self.recent).cast_signed() < 0)
    }

    /// The connection that it becomes.
    pub(crate) fn open(
        &self,
        segment: &Segment<'_>,
        options: StreamOptions,
        settings: Arc<Settings>,
        now: Instant,
    ) -> Connection {
        let beginning = Beginning {
            ends: self.ends,
            options,
            settings,
            iss: self.iss,
            stamp_offset: self.stamp_offset,
            path_mss: self.path_mss,
        };
        let recent = segment.head.options.timestamps.map_or(self.recent, |(value, _)| value);
        let mut connection = Connection::accepted(beginning, self.peer_iss, self.agreed, segment.head.window, recent, now);
        if self.retries == 0 {
            connection.s.rtt.sample(now.since(self.sent), now);
        }
        connection
    }
}

/// A connection that is over, kept so that its ends are not used again too early.
#[derive(Debug)]
pub(crate) struct TimeWait {
    pub ends: Ends,
    /// Our next number and the peer's.
    pub next: u32,
    pub peer_next: u32,
    pub window: u16,
    pub stamps: bool,
    pub stamp_offset: u32,
    pub recent: u32,
    pub until: Instant,
    pub answered: Option<Instant>,
}

/// What TIME_WAIT does with a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InTimeWait {
    /// A new connection may begin: it is no old segment.
    Begins,
    /// It is over at once.
    Ends,
    /// Our acknowledgement was lost.
    Answer,
    Drop,
}

impl TimeWait {
    pub(crate) fn receive(&mut self, segment: &Segment<'_>, wait: Duration, now: Instant) -> InTimeWait {
        let head = &segment.head;
        let old = |value: u32| value.wrapping_sub(self.recent).cast_signed() < 0;
        let stamp = head.options.timestamps.filter(|_| self.stamps).map(|(value, _)| value);
        if head.has(Flags::RST) {
            return if head.seq == self.peer_next { InTimeWait::Ends } else { InTimeWait::Drop };
        }
        if head.has(Flags::SYN) && !head.has(Flags::ACK) && !stamp.is_some_and(old) {
            let later = head.seq.wrapping_sub(self.peer_next).cast_signed() > 0;
            let newer = stamp.is_some_and(|value| value.wrapping_sub(self.recent).cast_signed() > 0);
            if later || newer {
                return InTimeWait::Begins;
            }
        }
        if segment.length() > 0 || stamp.is_some_and(old) {
            if head.has(Flags::FIN) {
                self.until = now + wait;
            }
            // Not so often that two of them could go on for ever.
            if self.answered.is_none_or(|last| now.since(last) >= Duration::from_millis(500)) {
                self.answered = Some(now);
                return InTimeWait::Answer;
            }
        }
        InTimeWait::Drop
    }

    /// The acknowledgement that may have been lost.
    pub(crate) fn answer(&self, stamp: u32) -> Head {
        Head {
            seq: self.next,
            ack: self.peer_next,
            flags: Flags::ACK,
            window: self.window,
            urgent: 0,
            options: Options { timestamps: self.stamps.then_some((stamp, self.recent)), ..Options::default() },
        }
    }
}

/// The reset that answers a segment for which there is no connection (RFC 9293, 3.10.7.1).
pub(crate) fn reset_for(segment: &Segment<'_>) -> Head {
    let head = &segment.head;
    let (seq, ack, flags) = if head.has(Flags::ACK) {
        (head.ack, 0, Flags::RST)
    } else {
        (0, head.seq.wrapping_add(segment.length()), Flags::RST | Flags::ACK)
    };
    Head { seq, ack, flags, ..Head::default() }
}
