//! Listening: SYNs to half-open connections or cookies, and those to connections in the accept queue.

use super::{Stack, tcp::path_mss};
use crate::{
    error::{Error, Result},
    ip::protocol,
    link::InterfaceId,
    socket::{Handle, demux::Ends, options::Common, table::Body},
    stack::counters::Drop,
    tcp::{
        Cookies, Listener, Phase, Request,
        cookie::{self, Granted},
        listener::agree,
        segment::{Flags, Segment},
    },
    time::Instant,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// For so long after cookies were sent is one believed.
const COOKIE_TIME: Duration = Duration::from_secs(120);

impl Stack {
    /// listen(2). Called again, it changes the backlog.
    pub fn listen(&mut self, socket: Handle, backlog: usize) -> Result<()> {
        let backlog = backlog.min(self.config.tcp.backlog);
        let entry = self.sockets.user_mut(socket)?;
        let Body::Stream(stream) = &mut entry.body else { return Err(Error::NotSupported) };
        match &mut stream.phase {
            Phase::Listening(listener) => {
                listener.backlog = backlog;
                return Ok(());
            }
            Phase::Open(_) => return Err(Error::InvalidArgument),
            Phase::Idle => {}
        }
        self.bind_any(socket)?;
        let common = &self.sockets.user(socket)?.common;
        let local = common.local.ok_or(Error::InvalidArgument)?;
        let mut binding = super::calls::binding(socket, common, local.ip());
        binding.listening = true;
        if !self.demux.may_bind(protocol::TCP, local.port(), &binding) {
            return Err(Error::AddressInUse);
        }
        self.demux.update(protocol::TCP, local.port(), socket, |bound| bound.listening = true);
        if let Body::Stream(stream) = &mut self.sockets.user_mut(socket)?.body {
            stream.phase = Phase::Listening(Listener::new(backlog));
        }
        Ok(())
    }

    /// accept(2): the connection that waits for longest, and its peer.
    pub fn accept(&mut self, socket: Handle) -> Result<(Handle, SocketAddr)> {
        self.sockets.user(socket)?;
        let listener = self.listener_mut(socket).ok_or(Error::InvalidArgument)?;
        let ready = listener.ready.pop_front().ok_or(Error::WouldBlock)?;
        let entry = self.sockets.get_mut(ready).ok_or(Error::WouldBlock)?;
        entry.orphan = false;
        let remote = entry.common.remote.ok_or(Error::ConnectionAborted)?;
        Ok((ready, entry.common.presented(remote)))
    }

    pub(super) fn listener_mut(&mut self, handle: Handle) -> Option<&mut Listener> {
        match &mut self.sockets.get_mut(handle)?.body {
            Body::Stream(stream) => match &mut stream.phase {
                Phase::Listening(listener) => Some(listener),
                _ => None,
            },
            _ => None,
        }
    }

    /// A segment that no connection takes. `above` is where the initial sequence number has to lie, if not zero.
    pub(super) fn give_listener(
        &mut self,
        handle: Handle,
        segment: &Segment<'_>,
        interface: InterfaceId,
        size: usize,
        above: u32,
        now: Instant,
    ) {
        let head = &segment.head;
        if head.has(Flags::RST) {
            return self.network.counters.drop(Drop::NoSocket);
        }
        if head.has(Flags::ACK) {
            if head.has(Flags::SYN) || !self.give_cookie(handle, segment, interface, size, now) {
                self.refuse(segment, interface, now);
            }
            return;
        }
        if !head.has(Flags::SYN) || head.has(Flags::FIN) {
            return self.network.counters.drop(Drop::TcpUnacceptable);
        }
        let (limit, mode) = (self.config.tcp.half_open, self.config.tcp.cookies);
        let Some(listener) = self.listener_mut(handle) else { return };
        let crowded = listener.asked.len() >= limit.min(listener.backlog.max(8));
        if listener.is_full() || (crowded && mode == Cookies::Off) {
            return self.network.counters.drop(Drop::TcpListenOverflow);
        }
        let Some(request) = self.request(handle, segment, interface, above, now) else { return };
        if mode == Cookies::Always || crowded {
            self.send_cookie(handle, request, now);
        } else {
            self.remember_request(handle, request, now);
        }
    }

    fn request(
        &mut self,
        listener: Handle,
        segment: &Segment<'_>,
        interface: InterfaceId,
        above: u32,
        now: Instant,
    ) -> Option<Request> {
        let ends = Ends { protocol: protocol::TCP, local: segment.destination, remote: segment.source };
        let path = self.network.route(ends.remote.ip(), Some(ends.local.ip()), None, now).ok()?;
        let stream = self.listening_options(listener)?;
        let receive = stream.0.receive_buffer.unwrap_or(self.config.tcp.receive.first) / 2;
        let mss = stream.0.max_segment.map_or(path_mss(&path), |most| path_mss(&path).min(usize::from(most)));
        let _ = interface;
        Some(Request {
            listener,
            ends,
            iss: if above > 0 { above } else { self.initial_sequence(&ends, now) },
            peer_iss: segment.head.seq,
            agreed: agree(segment, &self.config.tcp),
            stamp_offset: self.stamp_offset(&ends),
            recent: segment.head.options.timestamps.map_or(0, |(value, _)| value),
            window: receive.min(65_535) as u16,
            path_mss: mss,
            sent: now,
            retries: 0,
            waits: false,
        })
    }

    fn listening_options(&self, listener: Handle) -> Option<(crate::tcp::options::StreamOptions, Common)> {
        let entry = self.sockets.get(listener)?;
        match &entry.body {
            Body::Stream(stream) => Some((stream.options.clone(), entry.common.clone())),
            _ => None,
        }
    }

    fn send_cookie(&mut self, listener: Handle, mut request: Request, now: Instant) {
        let agreed = request.agreed;
        let key = self.config.key.derive(22);
        request.iss = cookie::make(key, &request.ends, request.peer_iss, agreed.peer_mss, now);
        let scale = (agreed.our_scale > 0 || agreed.peer_scale > 0).then_some(agreed.peer_scale);
        let granted = Granted { window_scale: scale, sack: agreed.sack, ecn: agreed.ecn };
        if !agreed.stamps {
            // Without a timestamp there is nowhere to remember them.
            request.agreed = crate::tcp::connection::Agreed { peer_mss: agreed.peer_mss, ..Default::default() };
        }
        let stamp = cookie::stamp(now.millis() as u32, granted).wrapping_add(request.stamp_offset);
        if let Some(listener) = self.listener_mut(listener) {
            listener.cookies = Some(now);
        }
        self.send_head(&request.ends, &request.answer(stamp), None, now);
    }

    /// A first acknowledgement of nothing that we remember: a cookie's?
    fn give_cookie(&mut self, handle: Handle, segment: &Segment<'_>, interface: InterfaceId, size: usize, now: Instant) -> bool {
        let always = self.config.tcp.cookies == Cookies::Always;
        let Some(listener) = self.listener_mut(handle) else { return false };
        if !always && listener.cookies.is_none_or(|sent| now.since(sent) > COOKIE_TIME) {
            return false;
        }
        let full = listener.is_full();
        let ends = Ends { protocol: protocol::TCP, local: segment.destination, remote: segment.source };
        let (cookie, peer_iss) = (segment.head.ack.wrapping_sub(1), segment.head.seq.wrapping_sub(1));
        let Some(mss) = cookie::check(self.config.key.derive(22), &ends, peer_iss, cookie, now) else {
            self.network.counters.drop(Drop::TcpBadCookie);
            return false;
        };
        if full {
            self.network.counters.drop(Drop::TcpListenOverflow);
            return true;
        }
        let Some(mut request) = self.request(handle, segment, interface, cookie, now) else { return true };
        // What the SYN offered is in the echoed timestamp.
        request.iss = cookie;
        request.peer_iss = peer_iss;
        request.retries = 1;
        request.agreed = Default::default();
        request.agreed.peer_mss = mss;
        if let Some((value, echo)) = segment.head.options.timestamps {
            let granted = cookie::unstamp(echo.wrapping_sub(request.stamp_offset));
            request.recent = value;
            request.agreed.stamps = true;
            request.agreed.sack = granted.sack;
            request.agreed.ecn = granted.ecn;
            if let Some(scale) = granted.window_scale {
                request.agreed.peer_scale = scale;
                request.agreed.our_scale = self.config.tcp.window_scale();
            }
        }
        self.open(request, None, segment, size, now);
        true
    }

    fn remember_request(&mut self, listener: Handle, request: Request, now: Instant) {
        let (ends, deadline) = (request.ends, request.deadline());
        let stamp = (now.millis() as u32).wrapping_add(request.stamp_offset);
        let head = request.answer(stamp);
        let Some((_, common)) = self.listening_options(listener) else { return };
        let shares = (common.reuse_address, common.reuse_port);
        let Ok(handle) = self.sockets.insert(common, Body::Request(Box::new(request)), true) else {
            return self.network.counters.drop(Drop::TcpListenOverflow);
        };
        if !self.demux.connect(ends, handle, shares.0, shares.1) {
            self.sockets.remove(handle);
            return;
        }
        if let Some(listener) = self.listener_mut(listener) {
            listener.asked.push(handle);
        }
        self.sockets.set_deadline(handle, Some(deadline));
        self.send_head(&ends, &head, None, now);
    }

    pub(super) fn give_request(
        &mut self,
        handle: Handle,
        segment: &Segment<'_>,
        interface: InterfaceId,
        size: usize,
        now: Instant,
    ) {
        let Some(Body::Request(request)) = self.sockets.get_mut(handle).map(|entry| &mut entry.body) else { return };
        let head = &segment.head;
        let stamp = (now.millis() as u32).wrapping_add(request.stamp_offset);
        if head.has(Flags::RST) {
            if head.seq == request.peer_iss.wrapping_add(1) {
                self.forget_request(handle);
            } else {
                self.network.counters.drop(Drop::TcpUnacceptable);
            }
            return;
        }
        if head.has(Flags::SYN) {
            // Our answer was lost. Another SYN than the first one gets it as well, and will be reset by its sender.
            let (ends, answer) = (request.ends, request.answer(stamp));
            return self.send_head(&ends, &answer, None, now);
        }
        if !request.is_completed_by(segment) {
            if head.has(Flags::ACK) && head.ack != request.iss.wrapping_add(1) {
                self.refuse(segment, interface, now);
            }
            return self.network.counters.drop(Drop::TcpUnacceptable);
        }
        let (listener, abort) = (request.listener, self.config.tcp.abort_on_overflow);
        let full = self.listener_mut(listener).is_none_or(|listener| listener.is_full());
        if full {
            self.network.counters.drop(Drop::TcpListenOverflow);
            if abort {
                self.forget_request(handle);
                self.refuse(segment, interface, now);
            } else if let Some(Body::Request(request)) = self.sockets.get_mut(handle).map(|entry| &mut entry.body) {
                // The peer sends again, and may find room then.
                request.waits = true;
            }
            return;
        }
        let Some(entry) = self.sockets.remove(handle) else { return };
        if let Some(listener) = self.listener_mut(listener) {
            listener.asked.retain(|asked| *asked != handle);
        }
        if let Body::Request(request) = entry.body {
            self.open(*request, Some(handle), segment, size, now);
        }
    }

    /// The handshake is over: a connection in the accept queue.
    fn open(&mut self, request: Request, old: Option<Handle>, segment: &Segment<'_>, size: usize, now: Instant) {
        let ends = request.ends;
        let Some((options, mut common)) = self.listening_options(request.listener) else { return };
        common.local = Some(ends.local);
        common.remote = Some(ends.remote);
        common.error = None;
        let shares = (common.reuse_address, common.reuse_port);
        let mut connection = request.open(segment, options, Arc::clone(&self.tcp), now);
        let _ = connection.receive(segment, size, now);
        let inserted = self.insert_connection(common, connection, true);
        let Some(handle) = inserted else {
            if old.is_some() {
                self.demux.disconnect(&ends);
            }
            return self.network.counters.drop(Drop::TcpListenOverflow);
        };
        match old {
            Some(_) => self.demux.replace(&ends, handle),
            None => {
                if !self.demux.connect(ends, handle, shares.0, shares.1) {
                    self.sockets.remove(handle);
                    return;
                }
            }
        }
        if let Some(listener) = self.listener_mut(request.listener) {
            listener.ready.push_back(handle);
        }
        self.notify_listener(request.listener);
        self.settle(handle, now);
    }

    pub(super) fn forget_request(&mut self, handle: Handle) {
        let Some(entry) = self.sockets.remove(handle) else { return };
        if let Body::Request(request) = entry.body {
            if self.demux.connection(&request.ends) == Some(handle) {
                self.demux.disconnect(&request.ends);
            }
            if let Some(listener) = self.listener_mut(request.listener) {
                listener.asked.retain(|asked| *asked != handle);
            }
        }
    }

    /// A half-open connection was not answered.
    pub(super) fn request_timer(&mut self, handle: Handle, now: Instant) {
        let retries = self.config.tcp.synack_retries;
        let Some(Body::Request(request)) = self.sockets.get_mut(handle).map(|entry| &mut entry.body) else { return };
        if request.retries >= retries {
            return self.forget_request(handle);
        }
        request.retries += 1;
        request.sent = now;
        let stamp = (now.millis() as u32).wrapping_add(request.stamp_offset);
        let (ends, head, deadline) = (request.ends, request.answer(stamp), request.deadline());
        self.sockets.set_deadline(handle, Some(deadline));
        self.send_head(&ends, &head, None, now);
    }

    /// A listener is closed: nobody will accept what waits there.
    pub(super) fn close_listener(&mut self, handle: Handle, now: Instant) {
        let Some(listener) = self.listener_mut(handle) else { return };
        let (ready, asked) = (std::mem::take(&mut listener.ready), std::mem::take(&mut listener.asked));
        for request in asked {
            self.forget_request(request);
        }
        for waiting in ready {
            if let Some(connection) = self.connection_mut(waiting) {
                connection.orphan = true;
                connection.abort(None);
            }
            self.settle(waiting, now);
        }
    }
}
