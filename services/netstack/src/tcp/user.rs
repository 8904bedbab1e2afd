//! What the user asks of a connection.

use super::{
    connection::{Connection, State},
    options::StreamOption,
    receive::Urgent,
    seq::position,
    store::Store,
    timers,
};
use crate::{
    error::{Error, Result},
    socket::{Readiness, Shutdown},
    time::Instant,
};

impl Connection {
    /// Whether a writer is told that there is room: when a third of the buffer is free, as on Linux.
    pub(crate) fn writable(&self) -> bool {
        let used = self.queued();
        self.s.fin || self.state == State::Closed || self.s.limit.saturating_sub(used) >= used / 2 && used < self.s.limit
    }

    /// Bytes written and not acknowledged.
    pub(crate) fn queued(&self) -> usize {
        self.s.end.saturating_sub(self.s.una.max(super::seq::START + 1)) as usize
    }

    /// Appends bytes to the stream; says how many found room. `more` will follow soon (MSG_MORE); the last one is `urgent`.
    pub(crate) fn write(&mut self, bytes: &[u8], more: bool, urgent: bool, now: Instant) -> Result<usize> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.state {
            _ if self.s.fin => return Err(Error::BrokenPipe),
            State::SynSent | State::SynReceived => return Err(Error::WouldBlock),
            State::Established | State::CloseWait => {}
            _ => return Err(Error::BrokenPipe),
        }
        let room = self.s.limit.saturating_sub(self.queued());
        if room == 0 && !bytes.is_empty() {
            self.s.blocked = true;
            return Err(Error::WouldBlock);
        }
        let from = position(self.s.una);
        let needed = self.queued() + bytes.len().min(room);
        let capacity = self.s.store.grow(needed, from, position(self.s.end));
        let taken = bytes.len().min(room).min(capacity.saturating_sub(self.queued()));
        // Whoever fills the buffer waits for room, whether it has more now or not.
        self.s.blocked |= taken < bytes.len() || taken == room;
        let taken_bytes = bytes.get(..taken).unwrap_or(&[]);
        self.s.store.write(position(self.s.end), taken_bytes);
        if self.s.board.is_empty() && self.s.next == self.s.end {
            let rto = self.s.rtt.rto();
            let first = (self.settings.initial_window * self.mss()) as u64;
            let idle = now.since(self.s.last);
            self.s.congestion.idle(idle, rto, first);
        }
        self.s.end += taken as u64;
        self.s.more = more;
        if urgent && taken > 0 {
            self.s.urgent = Some(self.s.end);
        }
        Ok(taken)
    }

    /// How many bytes [`write`](Connection::write) would take now.
    pub(crate) fn write_room(&self) -> usize {
        match self.state {
            State::Established | State::CloseWait if !self.s.fin => self.s.limit.saturating_sub(self.queued()),
            _ => 0,
        }
    }

    /// Reads bytes that came in order. None at the end of the stream.
    pub(crate) fn read(&mut self, into: &mut [u8], peek: bool, now: Instant) -> Result<usize> {
        let mut done = 0;
        let (was, urgent_was) = (self.r.read, self.r.urgent);
        while done < into.len() {
            let end = if self.peer_closed() { self.r.next - 1 } else { self.r.next };
            let mut length = end.saturating_sub(self.r.read).min((into.len() - done) as u64);
            if length == 0 {
                break;
            }
            if let Some((mark, state)) = self.r.urgent {
                if mark == self.r.read {
                    // A read stops at the mark; the next one begins behind it, or with it.
                    if done > 0 {
                        break;
                    }
                    if state != Urgent::Read || !self.options.urgent_inline {
                        self.r.urgent = None;
                    }
                    if !self.options.urgent_inline {
                        self.r.read += 1;
                        continue;
                    }
                } else if mark > self.r.read {
                    length = length.min(mark - self.r.read);
                }
            }
            let part = &mut into[done..done + length as usize];
            self.r.store.copy(position(self.r.read), part);
            self.r.read += length;
            done += length as usize;
        }
        if peek {
            self.r.read = was;
            self.r.urgent = urgent_was;
        } else if self.r.read > was {
            self.after_read(now);
        }
        if done > 0 || into.is_empty() {
            return Ok(done);
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.peer_closed() || self.r.shut || self.state == State::Closed {
            return Ok(0);
        }
        Err(if matches!(self.state, State::SynSent) { Error::NotConnected } else { Error::WouldBlock })
    }

    /// Reads the urgent byte (MSG_OOB).
    pub(crate) fn read_urgent(&mut self, peek: bool) -> Result<u8> {
        match self.r.urgent {
            _ if self.options.urgent_inline => Err(Error::InvalidArgument),
            Some((at, Urgent::Here(byte))) => {
                if !peek {
                    self.r.urgent = Some((at, Urgent::Read));
                }
                Ok(byte)
            }
            Some((_, Urgent::Coming)) => Err(Error::WouldBlock),
            Some((_, Urgent::Read)) | None => Err(Error::InvalidArgument),
        }
    }

    /// Whether the next byte to read is the marked one (SIOCATMARK).
    pub(crate) fn at_mark(&self) -> bool {
        self.r.urgent.is_some_and(|(at, _)| at == self.r.read)
    }

    pub(crate) fn shutdown(&mut self, how: Shutdown, now: Instant) -> Result<()> {
        if matches!(self.state, State::Closed | State::SynSent) {
            return Err(Error::NotConnected);
        }
        if how.reads() && !self.r.shut {
            self.r.shut = true;
            self.edges |= Readiness::READABLE | Readiness::READ_HANG_UP;
        }
        if how.writes() {
            self.end_stream(now);
        }
        Ok(())
    }

    fn end_stream(&mut self, now: Instant) {
        if self.s.fin {
            return;
        }
        match self.state {
            State::Established => self.state = State::FinWait1,
            State::SynReceived => {}
            State::CloseWait => self.state = State::LastAck,
            _ => return,
        }
        self.s.fin = true;
        self.s.more = false;
        self.edges |= Readiness::WRITABLE;
        if self.peer_closed() {
            self.edges |= Readiness::HANG_UP;
        }
        let _ = now;
    }

    /// The user has closed it.
    pub(crate) fn close(&mut self, now: Instant) {
        self.orphan = true;
        // Bytes that nobody will read: the peer has to know (RFC 1122, 4.2.2.13).
        if self.options.reset_on_close || self.readable() > 0 {
            return self.abort(None);
        }
        match self.state {
            State::SynSent => self.finish(None),
            State::FinWait2 => self.timers.wants_fin_wait = true,
            _ => self.end_stream(now),
        }
        self.r.shut = true;
        self.arm_fin_wait(now);
    }

    /// Puts other memory under the two streams, with what is there.
    pub(crate) fn set_stores(&mut self, mut send: Box<dyn Store>, mut receive: Box<dyn Store>) -> Result<()> {
        let (from, to) = (position(self.s.una), position(self.s.end));
        let (read, held) = (position(self.r.read), position(self.r.read) + self.r.store.capacity() as u64);
        let queued = to.saturating_sub(from) as usize;
        let kept = held.saturating_sub(read) as usize;
        if send.grow(queued, from, from) < queued || receive.grow(kept, read, read) < kept {
            return Err(Error::NoBuffers);
        }
        let mut bytes = Vec::new();
        self.s.store.read(from, queued, &mut bytes);
        send.write(from, &bytes);
        bytes.clear();
        self.r.store.read(read, kept, &mut bytes);
        receive.write(read, &bytes);
        self.s.store = send;
        self.r.store = receive;
        Ok(())
    }

    pub(crate) fn set(&mut self, option: StreamOption, now: Instant) {
        self.options.set(option);
        match option {
            StreamOption::QuickAck(on) => {
                self.r.acking.never_delay = on;
                self.r.acking.interactive = !on;
                if on && self.r.acking.due.is_some() {
                    self.r.acking.now = true;
                }
            }
            StreamOption::Cork(false) | StreamOption::NoDelay(true) => {
                self.s.more = false;
                self.timers.cork = None;
            }
            StreamOption::KeepAlive(_) | StreamOption::KeepIdle(_) => {
                self.timers.heard(now, &self.options, &self.settings);
            }
            StreamOption::Congestion(algorithm) => self.s.congestion.set_algorithm(algorithm),
            _ => {}
        }
    }

    /// How long an orphan waits for its peer.
    pub(crate) fn arm_fin_wait(&mut self, now: Instant) {
        if std::mem::take(&mut self.timers.wants_fin_wait) && self.orphan && self.state == State::FinWait2 {
            let time = self.options.fin_timeout.unwrap_or(self.settings.fin_timeout).min(timers::LONGEST_FIN_WAIT);
            self.timers.fin_wait = Some(now + time);
        }
    }
}
