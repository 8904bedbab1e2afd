//! The sentry's requests, carried out.

use std::net::SocketAddr;

use bulkhead_ipc::{
    Errno,
    net::{DATA_LIMIT, Interface, RECEIVE_PEEK, RECEIVE_URGENT, Reply, Request, SEND_MORE, SEND_URGENT, SocketId},
};

use super::{
    driver::{Cause, Driver, handle, id},
    errno, options,
};
use crate::{
    Error, SendOptions, Stack, WriteOptions,
    link::Medium,
    socket::{Family, Handle, Kind, Shutdown},
    time::Instant,
};

/// A request's answer.
pub(super) fn answer(driver: &Driver, request: Request) -> Reply {
    driver.with(Cause::Request, |stack, _, now| {
        let about = subject(&request);
        let outcome = carry_out(stack, request, now);
        match (&outcome, about) {
            (Ok(Reply::Opened(socket) | Reply::Accepted { socket, .. }), about) => {
                driver.show(stack, handle(*socket), true);
                about.into_iter().for_each(|socket| driver.show(stack, handle(socket), false));
            }
            (_, Some(socket)) => driver.show(stack, handle(socket), false),
            (_, None) => {}
        }
        outcome.unwrap_or_else(Reply::Error)
    })
}

/// The socket that a request is about.
fn subject(request: &Request) -> Option<SocketId> {
    match request {
        Request::Open { .. } | Request::Interfaces | Request::Close { .. } => None,
        Request::Bind { socket, .. }
        | Request::Connect { socket, .. }
        | Request::Listen { socket, .. }
        | Request::Accept { socket }
        | Request::Shutdown { socket, .. }
        | Request::LocalName { socket }
        | Request::PeerName { socket }
        | Request::Send { socket, .. }
        | Request::Receive { socket, .. }
        | Request::TakeError { socket }
        | Request::SetOption { socket, .. }
        | Request::Option { socket, .. } => Some(*socket),
    }
}

fn carry_out(stack: &mut Stack, request: Request, now: Instant) -> Result<Reply, Errno> {
    let done = |result: crate::error::Result<()>| result.map(|()| Reply::Done).map_err(errno);
    match request {
        Request::Open { family, kind, protocol, owner } => {
            let (family, kind) = kind_of(family, kind, protocol)?;
            stack.socket(family, kind, owner).map(|socket| Reply::Opened(id(socket))).map_err(errno)
        }
        Request::Close { socket } => done(stack.close(handle(socket), now)),
        Request::Bind { socket, address } => done(stack.bind(handle(socket), address)),
        Request::Connect { socket, peer: Some(peer) } => done(stack.connect(handle(socket), peer, now)),
        Request::Connect { socket, peer: None } => done(stack.disconnect(handle(socket))),
        Request::Listen { socket, backlog } => done(stack.listen(handle(socket), backlog as usize)),
        Request::Accept { socket } => {
            let (socket, peer) = stack.accept(handle(socket)).map_err(errno)?;
            Ok(Reply::Accepted { socket: id(socket), peer })
        }
        Request::Shutdown { socket, read, write } => {
            let how = match (read, write) {
                (true, true) => Shutdown::Both,
                (true, false) => Shutdown::Read,
                (false, true) => Shutdown::Write,
                (false, false) => return Err(Errno::EINVAL),
            };
            done(stack.shutdown(handle(socket), how, now))
        }
        Request::LocalName { socket } => stack.local_address(handle(socket)).map(Reply::Name).map_err(errno),
        Request::PeerName { socket } => stack.remote_address(handle(socket)).map(Reply::Name).map_err(errno),
        Request::Send { socket, data, to, flags } => send(stack, handle(socket), &data, to, flags, now),
        Request::Receive { socket, room, flags } => receive(stack, handle(socket), room, flags, now),
        Request::TakeError { socket } => {
            stack.take_error(handle(socket)).map(|error| Reply::Pending(error.map(errno))).map_err(errno)
        }
        Request::SetOption { socket, level, name, value } => {
            options::set(stack, handle(socket), level, name, &value, now).map(|()| Reply::Done)
        }
        Request::Option { socket, level, name } => options::get(stack, handle(socket), level, name).map(Reply::Value),
        Request::Interfaces => Ok(Reply::Interfaces(interfaces(stack))),
    }
}

/// ESOCKTNOSUPPORT, EPROTONOSUPPORT, EAFNOSUPPORT.
fn kind_of(family: u16, kind: u16, protocol: u16) -> Result<(Family, Kind), Errno> {
    let family = match i32::from(family) {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let ping = if family == Family::V4 { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
    let kind = match (i32::from(kind), i32::from(protocol)) {
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => Kind::Stream,
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Kind::Datagram,
        (libc::SOCK_DGRAM, protocol) if protocol == ping => Kind::Ping,
        (libc::SOCK_RAW, 1..=255) => Kind::Raw { protocol: protocol as u8 },
        (libc::SOCK_STREAM | libc::SOCK_DGRAM | libc::SOCK_RAW, _) => return Err(Errno::EPROTONOSUPPORT),
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    Ok((family, kind))
}

fn send(
    stack: &mut Stack,
    socket: Handle,
    data: &[u8],
    to: Option<SocketAddr>,
    flags: u32,
    now: Instant,
) -> Result<Reply, Errno> {
    let urgent = flags & SEND_URGENT != 0;
    if stack.stream_options(socket).is_ok() {
        let options = WriteOptions { more: flags & SEND_MORE != 0, urgent };
        return stack.send(socket, data, options, now).map(|sent| Reply::Sent(sent as u32)).map_err(errno);
    }
    if urgent {
        return Err(Errno::EOPNOTSUPP);
    }
    let sent = stack.send_to(socket, data, to, &SendOptions::default(), now).map_err(errno)?;
    Ok(Reply::Sent(sent as u32))
}

fn receive(stack: &mut Stack, socket: Handle, room: u32, flags: u32, now: Instant) -> Result<Reply, Errno> {
    let room = (room as usize).min(DATA_LIMIT);
    let (peek, urgent) = (flags & RECEIVE_PEEK != 0, flags & RECEIVE_URGENT != 0);
    if stack.stream_options(socket).is_ok() {
        return receive_stream(stack, socket, room, peek, urgent, now);
    }
    if urgent {
        return Err(Errno::EOPNOTSUPP);
    }
    match stack.receive_from(socket, peek) {
        Ok(mut message) => {
            let length = message.data.len() as u32;
            message.data.truncate(room);
            Ok(Reply::Received { data: message.data, length, from: Some(message.source) })
        }
        // Shut down: the end.
        Err(Error::BrokenPipe) => Ok(Reply::Received { data: Vec::new(), length: 0, from: None }),
        Err(error) => Err(errno(error)),
    }
}

/// Bytes of a stream; with no room and a peek, how many there are.
fn receive_stream(
    stack: &mut Stack,
    socket: Handle,
    room: usize,
    peek: bool,
    urgent: bool,
    now: Instant,
) -> Result<Reply, Errno> {
    let data = if urgent {
        vec![stack.recv_urgent(socket, peek).map_err(errno)?]
    } else if room == 0 && peek {
        let length = stack.info(socket).map_or(0, |info| info.receive_queue as u32);
        return Ok(Reply::Received { data: Vec::new(), length, from: None });
    } else {
        let mut data = vec![0; room];
        let length = stack.recv(socket, &mut data, peek, now).map_err(errno)?;
        data.truncate(length);
        data
    };
    Ok(Reply::Received { length: data.len() as u32, data, from: None })
}

fn interfaces(stack: &Stack) -> Vec<Interface> {
    let all = stack.interfaces().map(|(id, config, up)| Interface {
        index: id.0,
        name: config.name.clone(),
        hardware_address: match config.medium {
            Medium::Loopback => None,
            Medium::Ethernet(address) => Some(address.0),
        },
        mtu: config.mtu as u32,
        up,
        addresses: stack.addresses(id).unwrap_or_default().iter().map(|own| (own.address, own.prefix)).collect(),
    });
    all.collect()
}
