//! TCP's segments: to the connection that they are for, and from connections to the network.

use super::{Stack, input::reporter_is_about};
use crate::{
    error::Error,
    icmp::{Meaning, Report},
    ip::{Datagram, Fragmentation, Header, protocol, v4, v6},
    link::InterfaceId,
    network::Path,
    packet::Packet,
    random::hash_of,
    socket::{
        Handle, Readiness,
        demux::Ends,
        options::{Common, Family},
        table::Body,
    },
    stack::counters::Drop,
    tcp::{
        Connection, Emission, Phase, Socket, State, TimeWait,
        input::After,
        listener::{InTimeWait, reset_for},
        segment::{self, Flags, Head, Segment},
        seq::START,
    },
    time::Instant,
};
use std::net::IpAddr;

impl Stack {
    pub(super) fn deliver_tcp(&mut self, datagram: &Datagram<'_>, size: usize, now: Instant) {
        if datagram.shared {
            return self.network.counters.drop(Drop::NotForUs);
        }
        let segment = match segment::parse(datagram) {
            Ok(segment) => segment,
            Err(reason) => return self.network.counters.drop(reason),
        };
        let ends = Ends { protocol: protocol::TCP, local: segment.destination, remote: segment.source };
        if let Some(handle) = self.demux.connection(&ends) {
            match self.sockets.get(handle).map(|entry| &entry.body) {
                Some(Body::Stream(_)) => return self.give_connection(handle, &segment, datagram.interface, size, now),
                Some(Body::Request(_)) => return self.give_request(handle, &segment, datagram.interface, size, now),
                Some(Body::TimeWait(_)) => return self.give_time_wait(handle, &segment, datagram.interface, now),
                _ => {}
            }
        }
        match self.demux.bound(&ends, datagram.interface) {
            Some(listener) => self.give_listener(listener, &segment, datagram.interface, size, 0, now),
            None => {
                self.network.counters.drop(Drop::NoSocket);
                self.refuse(&segment, datagram.interface, now);
            }
        }
    }

    /// Answers by a reset, unless it is one.
    pub(super) fn refuse(&mut self, segment: &Segment<'_>, interface: InterfaceId, now: Instant) {
        if !segment.head.has(Flags::RST) {
            let ends = Ends { protocol: protocol::TCP, local: segment.destination, remote: segment.source };
            self.send_head(&ends, &reset_for(segment), Some(interface), now);
        }
    }

    fn give_connection(&mut self, handle: Handle, segment: &Segment<'_>, interface: InterfaceId, size: usize, now: Instant) {
        let Some(connection) = self.connection_mut(handle) else { return };
        match connection.receive(segment, size, now) {
            After::Done => {}
            After::Dropped(reason) => self.network.counters.drop(reason),
            After::Reset => self.refuse(segment, interface, now),
        }
        self.settle(handle, now);
    }

    fn give_time_wait(&mut self, handle: Handle, segment: &Segment<'_>, interface: InterfaceId, now: Instant) {
        let wait = self.config.tcp.time_wait;
        let Some(Body::TimeWait(old)) = self.sockets.get_mut(handle).map(|entry| &mut entry.body) else { return };
        let (ends, next) = (old.ends, old.next);
        match old.receive(segment, wait, now) {
            InTimeWait::Drop => {
                let until = old.until;
                self.network.counters.drop(Drop::TcpUnacceptable);
                self.sockets.set_deadline(handle, Some(until));
            }
            InTimeWait::Answer => {
                let (until, head) = (old.until, old.answer((now.millis() as u32).wrapping_add(old.stamp_offset)));
                self.sockets.set_deadline(handle, Some(until));
                self.send_head(&ends, &head, None, now);
            }
            InTimeWait::Ends => self.end_time_wait(handle),
            InTimeWait::Begins => match self.demux.bound(&ends, interface) {
                Some(listener) => {
                    self.end_time_wait(handle);
                    // The new connection's numbers lie beyond the old one's.
                    let above = next.wrapping_add(65_537);
                    self.give_listener(listener, segment, interface, 0, above, now);
                }
                None => self.network.counters.drop(Drop::NoSocket),
            },
        }
    }

    pub(super) fn end_time_wait(&mut self, handle: Handle) {
        if let Some(entry) = self.sockets.remove(handle)
            && let Body::TimeWait(old) = entry.body
        {
            self.time_waits.retain(|other| *other != handle);
            if self.demux.connection(&old.ends) == Some(handle) {
                self.demux.disconnect(&old.ends);
            }
        }
    }

    pub(super) fn connection_mut(&mut self, handle: Handle) -> Option<&mut Connection> {
        match &mut self.sockets.get_mut(handle)?.body {
            Body::Stream(socket) => match &mut socket.phase {
                Phase::Open(connection) => Some(connection),
                _ => None,
            },
            _ => None,
        }
    }

    /// Carries out what became of a connection: readiness, deadline, what it has to send, its end.
    pub(super) fn settle(&mut self, handle: Handle, now: Instant) {
        let Some(connection) = self.connection_mut(handle) else { return };
        connection.arm_fin_wait(now);
        if connection.reset.is_some() || connection.state == State::TimeWait {
            // What it still has to say is said before it goes.
            while let Some(connection) = self.connection_mut(handle)
                && let Some(emission) = connection.output(0, now)
            {
                self.send_emission(handle, &emission, now);
            }
        }
        let Some(connection) = self.connection_mut(handle) else { return };
        let ends = connection.ends;
        if connection.state == State::TimeWait {
            self.enter_time_wait(handle, now);
        }
        let Some(connection) = self.connection_mut(handle) else { return };
        let edges = std::mem::take(&mut connection.edges);
        let confirm = std::mem::take(&mut connection.timers.confirm);
        let (closed, orphan, deadline) = (connection.state == State::Closed, connection.orphan, connection.deadline());
        if let Some(error) = connection.error.filter(|_| closed)
            && let Some(entry) = self.sockets.get_mut(handle)
        {
            entry.common.error.get_or_insert(error);
        }
        self.sockets.notify(handle, edges);
        if confirm && let Ok(path) = self.network.route(ends.remote.ip(), None, None, now) {
            self.network.confirm(path.interface, path.next_hop, now);
        }
        if closed {
            self.disconnect_ends(&ends, handle);
            self.sockets.set_deadline(handle, None);
            if orphan {
                self.sockets.remove(handle);
            }
            return;
        }
        self.sockets.set_deadline(handle, deadline);
        self.sockets.queue_output(handle);
    }

    fn enter_time_wait(&mut self, handle: Handle, now: Instant) {
        let until = now + self.config.tcp.time_wait;
        let Some(connection) = self.connection_mut(handle) else { return };
        let ends = connection.ends;
        let old = TimeWait {
            ends,
            next: connection.s.origin.wire(connection.s.next),
            peer_next: connection.r.origin.wire(connection.r.next),
            window: (connection.r.edge.saturating_sub(connection.r.next) >> connection.agreed.our_scale).min(65_535) as u16,
            stamps: connection.agreed.stamps,
            stamp_offset: connection.stamp_offset,
            recent: connection.r.recent,
            until,
            answered: None,
        };
        connection.end_quietly();
        while self.time_waits.len() >= self.config.limits.time_wait {
            let Some(oldest) = self.time_waits.front().copied() else { break };
            self.end_time_wait(oldest);
        }
        let common = Common::new(Family::V4, protocol::TCP, 0);
        match self.sockets.insert(common, Body::TimeWait(Box::new(old)), true) {
            Ok(waiting) => {
                self.demux.replace(&ends, waiting);
                self.sockets.set_deadline(waiting, Some(until));
                self.time_waits.push_back(waiting);
            }
            // Without room for it the ends are free at once.
            Err(_) => self.disconnect_ends(&ends, handle),
        }
    }

    /// A socket's time has come.
    pub(super) fn timer(&mut self, handle: Handle, now: Instant) {
        match self.sockets.get_mut(handle).map(|entry| &mut entry.body) {
            Some(Body::Stream(_)) => {
                if let Some(connection) = self.connection_mut(handle) {
                    connection.advance(now);
                }
                self.settle(handle, now);
            }
            Some(Body::Request(_)) => self.request_timer(handle, now),
            Some(Body::TimeWait(_)) => self.end_time_wait(handle),
            _ => {}
        }
    }

    /// Lets one socket send. False if none wants to, or there is no room.
    pub(super) fn work(&mut self, now: Instant) -> bool {
        if !self.network.has_room() {
            return false;
        }
        let Some(handle) = self.sockets.next_output() else { return false };
        let Some(entry) = self.sockets.get(handle) else { return true };
        let interface = entry.common.interface;
        let Some(connection) = self.connection_mut(handle) else { return true };
        let (local, remote) = (connection.ends.local.ip(), connection.ends.remote.ip());
        let path = self.network.route(remote, Some(local), interface, now);
        let most = path.as_ref().map_or(0, |path| path.capabilities.segmentation.min(65_000));
        let Some(connection) = self.connection_mut(handle) else { return true };
        if let Ok(path) = &path {
            connection.set_path_mss(path_mss(path));
        }
        let emission = connection.output(most, now);
        let deadline = connection.deadline();
        self.sockets.set_deadline(handle, deadline);
        if let Some(emission) = emission {
            self.send_emission(handle, &emission, now);
            self.sockets.queue_output(handle);
        }
        true
    }

    /// Makes a connection's segment a packet. If there is no way, it is as good as lost.
    fn send_emission(&mut self, handle: Handle, emission: &Emission, now: Instant) {
        let Some(entry) = self.sockets.get(handle) else { return };
        let common = &entry.common;
        let Body::Stream(socket) = &entry.body else { return };
        let Phase::Open(connection) = &socket.phase else { return };
        let ends = connection.ends;
        let mut packet = Packet::with_room(emission.length);
        connection.s.store.read(emission.at, emission.length, packet.tail());
        let header = Header {
            source: ends.local.ip(),
            destination: ends.remote.ip(),
            protocol: protocol::TCP,
            ttl: common.ttl,
            tos: common.tos & !3 | if emission.capable { 2 } else { 0 },
            fragmentation: common.fragmentation,
        };
        let Ok(path) = self.network.route(ends.remote.ip(), Some(ends.local.ip()), common.interface, now) else { return };
        let work = segment::emit(&path, ends.local, ends.remote, &emission.head, &mut packet, emission.size);
        let _ = self.network.send(&path, &header, packet, work, now);
    }

    /// Sends a segment without data that no connection has made.
    pub(super) fn send_head(&mut self, ends: &Ends, head: &Head, interface: Option<InterfaceId>, now: Instant) {
        // The way back need not be the way it came, unless it is a link-local one.
        let bound = interface.filter(|_| matches!(ends.remote.ip(), IpAddr::V6(six) if six.is_unicast_link_local()));
        let Ok(path) = self.network.route(ends.remote.ip(), Some(ends.local.ip()), bound, now) else { return };
        let mut packet = Packet::with_room(0);
        let work = segment::emit(&path, ends.local, ends.remote, head, &mut packet, usize::MAX);
        let header = Header {
            source: ends.local.ip(),
            destination: ends.remote.ip(),
            protocol: protocol::TCP,
            ttl: 64,
            tos: 0,
            fragmentation: Fragmentation::Forbidden,
        };
        let _ = self.network.send(&path, &header, packet, work, now);
    }

    /// An initial sequence number that cannot be guessed and grows with time (RFC 6528).
    pub(super) fn initial_sequence(&self, ends: &Ends, now: Instant) -> u32 {
        (hash_of(self.config.key.derive(20), ends) as u32).wrapping_add((now.nanos() >> 6) as u32)
    }

    /// What is added to the clock in timestamps: the same for one pair of hosts, so that they grow over connections.
    pub(super) fn stamp_offset(&self, ends: &Ends) -> u32 {
        hash_of(self.config.key.derive(21), &(ends.local.ip(), ends.remote.ip())) as u32
    }

    /// What ICMP says of a connection.
    pub(super) fn report_stream(&mut self, handle: Handle, report: &Report, now: Instant) {
        let (remote, local) = (report.remote.ip(), report.local.ip());
        let path = self.network.route(remote, Some(local), None, now);
        let Some(connection) = self.connection_mut(handle) else { return };
        match report.meaning {
            Meaning::TooBig(_) => {
                if let Ok(path) = path {
                    connection.path_shrunk(path_mss(&path));
                }
            }
            Meaning::Failed { error, .. } => {
                let error = if error == Error::NoProtocol { Error::ConnectionRefused } else { error };
                connection.reported(report.sequence, error);
            }
        }
        self.settle(handle, now);
    }

    /// Whether a report can be about something that this connection has in flight.
    pub(super) fn believes(&mut self, handle: Handle, report: &Report) -> bool {
        let Some(connection) = self.connection_mut(handle) else { return false };
        let seq = connection.s.origin.unwrap(report.sequence, connection.s.una.max(START));
        reporter_is_about(seq, connection.s.una, connection.s.next)
    }

    /// A connection that was accepted, or asked for, becomes a socket in the table.
    pub(super) fn insert_connection(&mut self, common: Common, connection: Connection, orphan: bool) -> Option<Handle> {
        let options = connection.options.clone();
        let socket = Socket { phase: Phase::Open(Box::new(connection)), options };
        self.sockets.insert(common, Body::Stream(Box::new(socket)), orphan).ok()
    }

    /// Listeners hear of a new connection.
    pub(super) fn notify_listener(&mut self, listener: Handle) {
        self.sockets.notify(listener, Readiness::READABLE);
    }
}

/// The longest payload, its options included, that fits a path.
pub(super) fn path_mss(path: &Path) -> usize {
    let ip = if path.source.is_ipv4() { v4::HEADER } else { v6::HEADER };
    path.mtu.min(65_535 + v6::HEADER - ip).min(65_535).saturating_sub(ip + smoltcp::wire::TCP_HEADER_LEN)
}
