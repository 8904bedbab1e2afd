//! The receiving half: data in and out of order, the window, when to acknowledge, urgent data.

use super::{
    assembler::Inserted,
    connection::Connection,
    seq::{Seq, position},
};
use crate::{socket::Readiness, stack::counters::Drop, time::Instant};
use std::time::Duration;

const ATO_MIN: Duration = Duration::from_millis(40);
const DELACK_MAX: Duration = Duration::from_millis(200);
const MAX_QUICK: usize = 16;

/// When acknowledgements go (RFC 1122, 4.2.3.2; RFC 5681, 4.2), as Linux decides it.
#[derive(Debug, Clone)]
pub(crate) struct Acking {
    /// One is to go with the next opportunity.
    pub now: bool,
    /// One goes at this time at the latest.
    pub due: Option<Instant>,
    /// So many are sent without delay, at the beginning.
    pub quick: usize,
    /// The user set TCP_QUICKACK: since then none is delayed.
    pub never_delay: bool,
    /// Both sides talk in turn: an answer will carry it.
    pub interactive: bool,
    timeout: Duration,
    pub heard: Instant,
    /// Without SACK each segment out of order is answered by one of its own.
    pub duplicates: u8,
}

impl Acking {
    pub(crate) fn new(now: Instant) -> Acking {
        Acking {
            now: false,
            due: None,
            quick: 0,
            never_delay: false,
            interactive: false,
            timeout: ATO_MIN,
            heard: now,
            duplicates: 0,
        }
    }

    pub(crate) fn begin(&mut self, window: usize, segment: usize) {
        self.quick = (window / (2 * segment.max(1))).clamp(2, MAX_QUICK);
    }

    fn is_quick(&self) -> bool {
        self.never_delay || (self.quick > 0 && !self.interactive)
    }

    /// A segment with data came: the delay follows the distance between them.
    fn data(&mut self, now: Instant, rto: Duration) {
        let distance = now.since(self.heard);
        if distance <= ATO_MIN / 2 {
            self.timeout = self.timeout / 2 + ATO_MIN / 2;
        } else if distance < self.timeout {
            self.timeout = (self.timeout / 2 + distance).min(rto);
        } else if distance > rto {
            // After such a pause the peer may be in slow start.
            self.quick = self.quick.max(2);
        }
        self.heard = now;
    }

    /// One was sent.
    pub(crate) fn sent(&mut self) {
        self.now = false;
        self.due = None;
        self.quick = self.quick.saturating_sub(1);
        self.duplicates = self.duplicates.saturating_sub(1);
    }
}

/// How fast the user reads, for the size of the buffer.
#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    from: Seq,
    since: Instant,
    space: u64,
}

impl Tuning {
    pub(crate) fn new(now: Instant) -> Tuning {
        Tuning { from: 0, since: now, space: 0 }
    }

    pub(crate) fn begin(&mut self, read: Seq, now: Instant) {
        *self = Tuning { from: read, since: now, space: 14_600 };
    }
}

/// The urgent byte, of which there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgent {
    /// Announced.
    Coming,
    Here(u8),
    Read,
}

impl Connection {
    /// Bytes that can be read.
    pub(crate) fn readable(&self) -> u64 {
        let end = if self.peer_closed() { self.r.next - 1 } else { self.r.next };
        let mut bytes = end.saturating_sub(self.r.read);
        // The urgent byte itself is read beside.
        if let Some((at, state)) = self.r.urgent
            && at == self.r.read
            && bytes > 0
            && !self.options.urgent_inline
            && state != Urgent::Read
        {
            bytes -= 1;
        }
        bytes
    }

    /// Takes a segment's bytes. Says if they were dropped.
    pub(super) fn accept(&mut self, seq: Seq, payload: &[u8], fin: bool, size: usize, now: Instant) -> Option<Drop> {
        let whole_end = seq + payload.len() as u64;
        let had = self.r.next;
        if seq < had && (whole_end > seq || fin) {
            self.r.duplicate = Some((seq, whole_end.min(had)));
            if whole_end < had || (whole_end == had && !fin) {
                // All of it is old: our acknowledgement was lost, or the peer's timer too fast.
                self.r.acking.quick = self.r.acking.quick.max(MAX_QUICK);
                self.r.acking.now = true;
                return None;
            }
        }
        let start = seq.max(had);
        let end = whole_end.min(self.r.edge.max(had));
        let bytes = payload.get((start - seq) as usize..).unwrap_or(&[]);
        let bytes = &bytes[..bytes.len().min(end.saturating_sub(start) as usize)];
        if fin && end == whole_end && self.r.fin.is_none_or(|known| known == whole_end) {
            self.r.fin = Some(whole_end);
        }
        if bytes.is_empty() {
            // A bare end, or what found the window closed.
            self.r.acking.now = true;
            return None;
        }
        self.learn_size(if size > 0 { size.min(payload.len()) } else { payload.len() });
        if start > had {
            return self.accept_out_of_order(start, bytes);
        }
        self.put(start, bytes);
        let gaps = !self.r.assembler.is_empty();
        self.r.next = self.r.assembler.advance(end);
        if self.r.shut {
            // Nobody reads it.
            self.r.read = self.r.next;
        }
        self.take_urgent(start, bytes);
        self.r.acking.data(now, self.s.rtt.rto());
        self.timers.confirm = true;
        self.edges |= Readiness::READABLE;
        self.acknowledge_later(gaps, now);
        None
    }

    fn accept_out_of_order(&mut self, start: Seq, bytes: &[u8]) -> Option<Drop> {
        let end = start + bytes.len() as u64;
        self.r.acking.now = true;
        self.r.acking.duplicates = self.r.acking.duplicates.saturating_add(1).min(8);
        match self.r.assembler.insert(start, end) {
            Inserted::Full => return Some(Drop::TcpOutOfOrderFull),
            Inserted::Duplicate => self.r.duplicate = Some((start, end)),
            Inserted::New => {}
        }
        self.put(start, bytes);
        self.take_urgent(start, bytes);
        None
    }

    fn put(&mut self, start: Seq, bytes: &[u8]) {
        let end = start + bytes.len() as u64;
        let needed = end.saturating_sub(self.r.read) as usize;
        if needed > self.r.store.capacity() {
            // What may be there reaches as far as the window: all of that is kept.
            let held = self.r.read + self.r.store.capacity() as u64;
            self.r.store.grow(needed, position(self.r.read), position(held));
        }
        if needed <= self.r.store.capacity() {
            self.r.store.write(position(start), bytes);
        }
    }

    fn learn_size(&mut self, size: usize) {
        let mss = self.mss();
        if size >= self.r.segment {
            self.r.segment = size.min(mss.max(536));
        } else if size >= 536 && size + 100 < self.r.segment {
            self.r.segment = size;
        }
    }

    fn acknowledge_later(&mut self, gaps: bool, now: Instant) {
        let waiting = self.r.next - self.r.acked;
        let full = waiting > self.r.segment as u64;
        if full || gaps || self.r.acking.is_quick() {
            self.r.acking.now = true;
        } else if self.r.acking.due.is_none() {
            self.r.acking.due = Some(now + self.r.acking.timeout.min(DELACK_MAX));
        }
    }

    /// The window to tell, as on the wire; the edge moves with it, and never back.
    pub(super) fn tell_window(&mut self) -> u16 {
        let scale = self.agreed.our_scale;
        let r = &mut self.r;
        let held = r.next.saturating_sub(r.read);
        let free = (r.limit as u64).saturating_sub(held).min(65_535 << scale);
        let edge = r.next + free;
        // Not in small steps (RFC 1122, 4.2.3.3).
        let step = (r.limit as u64 / 2).min(r.segment as u64);
        if edge >= r.edge + step {
            r.edge = edge;
        }
        (r.edge.saturating_sub(r.next) >> scale).min(65_535) as u16
    }

    /// The user has read: the window may have opened so far that the peer should know, and the buffer may be too small.
    pub(super) fn after_read(&mut self, now: Instant) {
        let r = &self.r;
        let free = (r.limit as u64).saturating_sub(r.next.saturating_sub(r.read));
        let told = r.edge.saturating_sub(r.next);
        if (free >= 2 * told && free > told && free >= (r.limit as u64 / 2).min(r.segment as u64))
            || (r.acking.due.is_some() && r.next - r.acked > r.segment as u64)
        {
            self.r.acking.now = true;
        }
        self.tune(now);
    }

    /// Grows the buffer if in a round trip the user reads more than it did (Linux's dynamic right-sizing).
    fn tune(&mut self, now: Instant) {
        let rtt = self.s.rtt.smoothed().unwrap_or(Duration::from_millis(100));
        if now.since(self.r.tuning.since) < rtt || self.options.receive_buffer.is_some() {
            return;
        }
        let read = self.r.read - self.r.tuning.from;
        if read > self.r.tuning.space {
            let mut wanted = 2 * read + 16 * self.r.segment as u64;
            // As much more as it grew by, for the peer's slow start.
            wanted += wanted * (read - self.r.tuning.space) / self.r.tuning.space.max(1);
            self.r.limit = self.r.limit.max((wanted as usize).min(self.settings.receive.most / 2));
            self.r.tuning.space = read;
        }
        self.r.tuning.from = self.r.read;
        self.r.tuning.since = now;
    }

    /// The peer points to an urgent byte: the one before where it points, as everybody but the RFC has it.
    pub(super) fn urgent(&mut self, seq: Seq, pointer: u16) {
        let at = seq + u64::from(pointer).saturating_sub(1);
        if at < self.r.read || at < self.r.next || self.r.urgent.is_some_and(|(known, _)| at <= known) {
            return;
        }
        self.r.urgent = Some((at, Urgent::Coming));
        self.edges |= Readiness::PRIORITY;
    }

    fn take_urgent(&mut self, start: Seq, bytes: &[u8]) {
        let Some((at, Urgent::Coming)) = self.r.urgent else { return };
        if let Some(&byte) = at.checked_sub(start).and_then(|place| bytes.get(place as usize)) {
            self.r.urgent = Some((at, Urgent::Here(byte)));
            self.edges |= Readiness::PRIORITY | Readiness::READABLE;
        }
    }
}
