//! From a datagram for this host to the socket that it is for.

use super::Stack;
use crate::{
    error::Error,
    icmp::{self, Meaning, Report, Told},
    ip::{Datagram, protocol},
    raw,
    socket::{Handle, Readiness, demux::Ends, table::Body},
    stack::counters::Drop,
    time::Instant,
    udp::{self, Message},
};
use std::net::SocketAddr;

impl Stack {
    pub(super) fn deliver(&mut self, datagram: &Datagram<'_>, size: usize, now: Instant) {
        let taken_raw = self.deliver_raw(datagram);
        match (datagram.protocol, datagram.source.is_ipv4()) {
            (protocol::ICMP, true) => {
                self.deliver_echo(datagram);
                if let Some(report) = icmp::v4::receive(&mut self.network, datagram, now) {
                    self.report(&report, now);
                }
            }
            (protocol::ICMPV6, false) => {
                self.deliver_echo(datagram);
                if let Some(report) = icmp::v6::receive(&mut self.network, datagram, now) {
                    self.report(&report, now);
                }
            }
            (protocol::IGMP, true) => self.network.igmp(datagram, now),
            (protocol::UDP, _) => self.deliver_udp(datagram, now),
            (protocol::TCP, _) => self.deliver_tcp(datagram, size, now),
            _ if taken_raw => {}
            _ => {
                self.network.counters.drop(Drop::UnknownProtocol);
                icmp::tell(&mut self.network, datagram, Told::ProtocolUnreachable, now);
            }
        }
    }

    /// Every raw socket of the protocol gets a copy.
    fn deliver_raw(&mut self, datagram: &Datagram<'_>) -> bool {
        let wanted: Vec<Handle> = self.raw_sockets(datagram);
        for &handle in &wanted {
            let Some(entry) = self.sockets.get_mut(handle) else { continue };
            let Body::Raw(socket) = &mut entry.body else { continue };
            if socket.queue.push(raw::message(datagram)) {
                self.sockets.notify(handle, Readiness::READABLE);
            } else {
                self.network.counters.drop(Drop::ReceiveBufferFull);
            }
        }
        !wanted.is_empty()
    }

    fn raw_sockets(&self, datagram: &Datagram<'_>) -> Vec<Handle> {
        let wants = |handle: &Handle| {
            let Some(entry) = self.sockets.get(*handle) else { return false };
            let common = &entry.common;
            common.interface.is_none_or(|bound| bound == datagram.interface)
                && common.own_address().is_none_or(|own| own == datagram.destination)
                && common.remote.is_none_or(|remote| remote.ip() == datagram.source)
                && (common.wildcard().is_ipv4() == datagram.source.is_ipv4())
        };
        self.raw.iter().filter(|(number, _)| *number == datagram.protocol).map(|&(_, handle)| handle).filter(wants).collect()
    }

    /// An echo's answer is for the ping socket with its identifier.
    fn deliver_echo(&mut self, datagram: &Datagram<'_>) {
        let Some(ident) = icmp::v4::echo_reply(datagram) else { return };
        let local = SocketAddr::new(datagram.destination, ident);
        let ends = Ends { protocol: datagram.protocol, local, remote: SocketAddr::new(datagram.source, 0) };
        if let Some(handle) = self.demux.connection(&ends).or_else(|| self.demux.bound(&ends, datagram.interface)) {
            self.queue_message(handle, datagram, ends.remote, &datagram.payload);
        }
    }

    fn deliver_udp(&mut self, datagram: &Datagram<'_>, now: Instant) {
        let (source, destination, payload) = match udp::parse(datagram) {
            Ok(parsed) => parsed,
            Err(reason) => return self.network.counters.drop(reason),
        };
        let ends = Ends { protocol: protocol::UDP, local: destination, remote: source };
        if destination.ip().is_multicast() || (datagram.shared && destination.is_ipv4()) {
            for handle in self.demux.all_bound(&ends, datagram.interface) {
                self.queue_message(handle, datagram, source, payload);
            }
            return;
        }
        match self.demux.connection(&ends).or_else(|| self.demux.bound(&ends, datagram.interface)) {
            Some(handle) => self.queue_message(handle, datagram, source, payload),
            None => {
                self.network.counters.drop(Drop::NoSocket);
                icmp::tell(&mut self.network, datagram, Told::PortUnreachable, now);
            }
        }
    }

    fn queue_message(&mut self, handle: Handle, datagram: &Datagram<'_>, source: SocketAddr, payload: &[u8]) {
        let Some(entry) = self.sockets.get_mut(handle) else { return };
        let Body::Datagram(socket) = &mut entry.body else { return };
        let message = Message {
            source,
            destination: datagram.destination,
            interface: datagram.interface,
            ttl: datagram.ttl,
            tos: datagram.tos,
            data: payload.to_vec(),
        };
        if !socket.read_shut && socket.queue.push(message) {
            self.sockets.notify(handle, Readiness::READABLE);
        } else {
            self.network.counters.drop(Drop::ReceiveBufferFull);
        }
    }

    /// An error that ICMP reports is for whoever sent what it quotes.
    fn report(&mut self, report: &Report, now: Instant) {
        let ends = Ends { protocol: report.protocol, local: report.local, remote: report.remote };
        let connection = self.demux.connection(&ends);
        // A sequence number can be checked: nothing else is changed for a forgery (RFC 5927).
        if report.protocol == protocol::TCP && !connection.is_some_and(|handle| self.believes(handle, report)) {
            return self.network.counters.drop(Drop::IcmpIgnored);
        }
        if let Meaning::TooBig(mtu) = report.meaning {
            let current = self.network.route(report.remote.ip(), None, None, now).map_or(usize::MAX, |path| path.mtu);
            self.network.path_mtus.learn(report.remote.ip(), mtu, current, now);
        }
        if let Some(handle) = connection.filter(|_| report.protocol == protocol::TCP) {
            return self.report_stream(handle, report, now);
        }
        let first = self.network.interfaces.iter().find(|one| one.has(report.local.ip())).map(|one| one.id);
        let bound = || first.and_then(|interface| self.demux.bound(&ends, interface));
        let Some(handle) = connection.or_else(bound) else { return };
        self.report_to(handle, report);
    }

    fn report_to(&mut self, handle: Handle, report: &Report) {
        let Some(entry) = self.sockets.get_mut(handle) else { return };
        let Body::Datagram(socket) = &mut entry.body else { return };
        let (error, hard, mtu) = match report.meaning {
            Meaning::TooBig(mtu) => (Error::MessageTooLong, false, mtu),
            Meaning::Failed { error, hard } => (error, hard, 0),
        };
        // As Linux: who asked for errors gets all of them; a connected socket the hard ones; others none.
        if entry.common.receive_errors {
            socket.queue_error(error, report, mtu);
        } else if entry.common.remote.is_none() || !hard {
            return;
        }
        entry.common.error = Some(error);
        self.sockets.notify(handle, Readiness::ERROR | Readiness::READABLE);
    }

    /// A packet of ours whose neighbour does not answer.
    pub(super) fn unreachable(&mut self, packet: &[u8], now: Instant) {
        let error = Meaning::Failed { error: Error::HostUnreachable, hard: true };
        let Some((source, ..)) = self.network.quoted(packet) else { return };
        let kind = if source.is_ipv4() { (3, 1) } else { (1, 3) };
        if let Some(report) = icmp::report(error, kind, source, packet) {
            self.report(&report, now);
        }
    }
}

/// Whether a sequence number that a report quotes lies in what is in flight.
pub(super) fn reporter_is_about(seq: u64, una: u64, next: u64) -> bool {
    (una..=next).contains(&seq)
}
