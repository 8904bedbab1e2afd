//! The calls of stream sockets.

use super::{Stack, tcp::path_mss};
use crate::{
    error::{Error, Result},
    ip::protocol,
    socket::{Handle, Shutdown, demux::Ends, table::Body},
    tcp::{Connection, Info, Phase, Settings, State, StreamOption, connection::Beginning, store::Store},
    time::Instant,
};
use std::{net::SocketAddr, sync::Arc};

/// How a stream is written (MSG_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// MSG_MORE: what is not a full segment waits for more.
    pub more: bool,
    /// MSG_OOB: the last byte is urgent.
    pub urgent: bool,
}

impl Stack {
    pub(super) fn connect_stream(&mut self, socket: Handle, remote: SocketAddr, now: Instant) -> Result<()> {
        let entry = self.sockets.user(socket)?;
        let common = &entry.common;
        let Body::Stream(stream) = &entry.body else { return Err(Error::NotSupported) };
        match &stream.phase {
            Phase::Idle => {}
            Phase::Listening(_) => return Err(Error::IsConnected),
            Phase::Open(connection) => return Err(self.connecting(connection)),
        }
        if remote.port() == 0 {
            return Err(Error::ConnectionRefused);
        }
        if remote.ip().is_multicast() {
            return Err(Error::NetworkUnreachable);
        }
        let path = self.network.route(remote.ip(), common.own_address(), common.interface, now)?;
        if path.shared {
            return Err(Error::NetworkUnreachable);
        }
        let ends_from = |port| Ends { protocol: protocol::TCP, local: SocketAddr::new(path.source, port), remote };
        let bound = common.local;
        let port = match bound {
            Some(local) => local.port(),
            None => {
                let demux = &self.demux;
                let free = |port| demux.is_unbound(protocol::TCP, port) && demux.is_free(&ends_from(port));
                self.ports.for_connection(path.source, remote, free).ok_or(Error::AddressNotAvailable)?
            }
        };
        let ends = ends_from(port);
        let (reuse_address, reuse_port, options) = (common.reuse_address, common.reuse_port, stream.options.clone());
        if !self.demux.connect(ends, socket, reuse_address, reuse_port) {
            return Err(Error::AddressNotAvailable);
        }
        if bound.is_some() {
            self.demux.unbind(protocol::TCP, port, socket);
        }
        let beginning = Beginning {
            ends,
            options,
            settings: Arc::clone(&self.tcp),
            iss: self.initial_sequence(&ends, now),
            stamp_offset: self.stamp_offset(&ends),
            path_mss: path_mss(&path),
        };
        let entry = self.sockets.user_mut(socket)?;
        entry.common.local = Some(ends.local);
        entry.common.remote = Some(remote);
        if let Body::Stream(stream) = &mut entry.body {
            stream.phase = Phase::Open(Box::new(Connection::ask(beginning, now)));
        }
        self.settle(socket, now);
        Err(Error::InProgress)
    }

    /// What connect(2) says to one that was called before.
    fn connecting(&self, connection: &Connection) -> Error {
        match connection.state {
            State::SynSent | State::SynReceived => Error::Already,
            State::Closed => connection.error.unwrap_or(Error::ConnectionAborted),
            _ => Error::IsConnected,
        }
    }

    fn stream_mut(&mut self, socket: Handle) -> Result<&mut Connection> {
        match &mut self.sockets.user_mut(socket)?.body {
            Body::Stream(stream) => match &mut stream.phase {
                Phase::Open(connection) => Ok(connection),
                Phase::Idle | Phase::Listening(_) => Err(Error::NotConnected),
            },
            _ => Err(Error::NotSupported),
        }
    }

    /// A pending error is told once, by whichever call comes first.
    fn tell_error<T>(&mut self, socket: Handle, result: Result<T>) -> Result<T> {
        if result.is_err()
            && let Ok(entry) = self.sockets.user_mut(socket)
            && let Err(error) = &result
            && entry.common.error == Some(*error)
        {
            entry.common.error = None;
        }
        result
    }

    /// write(2), send(2): says how many bytes found room.
    pub fn send(&mut self, socket: Handle, bytes: &[u8], options: WriteOptions, now: Instant) -> Result<usize> {
        let connection = match self.stream_mut(socket) {
            Ok(connection) => connection,
            Err(Error::NotConnected) => return Err(Error::BrokenPipe),
            Err(error) => return Err(error),
        };
        let result = connection.write(bytes, options.more, options.urgent, now);
        if result.is_ok() {
            self.settle(socket, now);
        }
        self.tell_error(socket, result)
    }

    /// read(2), recv(2): says how many bytes there were; none is the end.
    pub fn recv(&mut self, socket: Handle, into: &mut [u8], peek: bool, now: Instant) -> Result<usize> {
        let result = self.stream_mut(socket)?.read(into, peek, now);
        if result.is_ok() {
            self.settle(socket, now);
        }
        self.tell_error(socket, result)
    }

    /// recv(2) with MSG_OOB: the urgent byte.
    pub fn recv_urgent(&mut self, socket: Handle, peek: bool) -> Result<u8> {
        self.stream_mut(socket)?.read_urgent(peek)
    }

    /// SIOCATMARK: whether the next byte is the marked one.
    pub fn at_mark(&mut self, socket: Handle) -> Result<bool> {
        Ok(self.stream_mut(socket)?.at_mark())
    }

    /// Puts other memory under a connection's two streams; what lies there now is copied once.
    pub fn set_stores(&mut self, socket: Handle, send: Box<dyn Store>, receive: Box<dyn Store>) -> Result<()> {
        self.stream_mut(socket)?.set_stores(send, receive)
    }

    pub(super) fn shutdown_stream(&mut self, socket: Handle, how: Shutdown, now: Instant) -> Result<()> {
        if self.listener_mut(socket).is_some() {
            // A listener that is shut down for reading listens no more.
            if how.reads() {
                self.close_listener(socket, now);
                self.unlisten(socket);
            }
            return Ok(());
        }
        self.stream_mut(socket)?.shutdown(how, now)?;
        self.settle(socket, now);
        Ok(())
    }

    fn unlisten(&mut self, socket: Handle) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let local = entry.common.local;
        if let Body::Stream(stream) = &mut entry.body {
            stream.phase = Phase::Idle;
        }
        if let Some(local) = local {
            self.demux.update(protocol::TCP, local.port(), socket, |binding| binding.listening = false);
        }
    }

    pub(super) fn close_stream(&mut self, socket: Handle, now: Instant) {
        if self.listener_mut(socket).is_some() {
            self.close_listener(socket, now);
        }
        let orphans = self.orphans();
        if let Some(connection) = self.connection_mut(socket) {
            connection.close(now);
            // Too many without a user: this one is not waited for.
            if orphans >= self.config.limits.orphans
                && let Some(connection) = self.connection_mut(socket)
            {
                connection.abort(None);
            }
            if let Some(entry) = self.sockets.get_mut(socket) {
                entry.orphan = true;
            }
            return self.settle(socket, now);
        }
        if let Some(local) = self.sockets.get(socket).and_then(|entry| entry.common.local) {
            self.demux.unbind(protocol::TCP, local.port(), socket);
        }
        self.sockets.remove(socket);
    }

    fn orphans(&self) -> usize {
        // Counted only when there are so many sockets that it can matter.
        if self.sockets.len() < self.config.limits.orphans {
            return 0;
        }
        self.sockets.iter().filter(|(_, entry)| entry.orphan && matches!(entry.body, Body::Stream(_))).count()
    }

    /// Sets an option of a stream.
    pub fn set_stream_option(&mut self, socket: Handle, option: StreamOption, now: Instant) -> Result<()> {
        let Body::Stream(stream) = &mut self.sockets.user_mut(socket)?.body else { return Err(Error::NoProtocol) };
        stream.options.set(option);
        if let Phase::Open(connection) = &mut stream.phase {
            connection.set(option, now);
            self.settle(socket, now);
        }
        Ok(())
    }

    /// TCP_INFO.
    pub fn info(&self, socket: Handle) -> Result<Info> {
        match &self.sockets.user(socket)?.body {
            Body::Stream(stream) => match &stream.phase {
                Phase::Open(connection) => Ok(connection.info()),
                _ => Err(Error::NotConnected),
            },
            _ => Err(Error::NotSupported),
        }
    }

    /// Every TCP socket: its ends and its state, as `ss` shows them.
    pub fn streams(&self) -> Vec<(SocketAddr, Option<SocketAddr>, State)> {
        let listed = self.sockets.iter().filter_map(|(_, entry)| {
            let (local, remote) = (entry.common.local, entry.common.remote);
            match &entry.body {
                Body::Stream(stream) => match &stream.phase {
                    Phase::Idle => None,
                    Phase::Listening(_) => Some((local?, None, State::Listen)),
                    Phase::Open(connection) if connection.state == State::Closed => None,
                    Phase::Open(connection) => Some((local?, remote, connection.state)),
                },
                Body::Request(request) => Some((request.ends.local, Some(request.ends.remote), State::SynReceived)),
                Body::TimeWait(old) => Some((old.ends.local, Some(old.ends.remote), State::TimeWait)),
                Body::Datagram(_) | Body::Raw(_) => None,
            }
        });
        listed.collect()
    }

    /// Changes TCP's settings for connections that begin from now on.
    pub fn set_tcp(&mut self, settings: Settings) {
        self.tcp = Arc::new(settings.clone());
        self.config.tcp = settings;
    }
}
