//! From types to the wire.

use std::net::SocketAddr;

use super::{Interface, Reply, Request};
use crate::{
    net_capnp as schema,
    wire::{list_length, put_ip},
};

pub(super) fn put_request(request: &Request, mut to: schema::request::Builder<'_>) {
    match request {
        Request::Open { family, kind, protocol, owner } => {
            let mut to = to.init_open();
            to.set_family(*family);
            to.set_kind(*kind);
            to.set_protocol(*protocol);
            to.set_owner(*owner);
        }
        Request::Close { socket } => {
            to.set_socket(socket.0);
            to.set_close(());
        }
        Request::Bind { socket, address } => {
            to.set_socket(socket.0);
            endpoint(Some(*address), to.reborrow().init_to());
            to.set_bind(());
        }
        Request::Connect { socket, peer } => {
            to.set_socket(socket.0);
            endpoint(*peer, to.reborrow().init_to());
            to.set_connect(());
        }
        Request::Listen { socket, backlog } => {
            to.set_socket(socket.0);
            to.set_listen(*backlog);
        }
        Request::Accept { socket } => {
            to.set_socket(socket.0);
            to.set_accept(());
        }
        Request::Shutdown { socket, read, write } => {
            to.set_socket(socket.0);
            let mut to = to.init_shutdown();
            to.set_read(*read);
            to.set_write(*write);
        }
        Request::LocalName { socket } => {
            to.set_socket(socket.0);
            to.set_local_name(());
        }
        Request::PeerName { socket } => {
            to.set_socket(socket.0);
            to.set_peer_name(());
        }
        Request::Send { socket, data, to: destination, flags } => {
            to.set_socket(socket.0);
            to.set_flags(*flags);
            endpoint(*destination, to.reborrow().init_to());
            to.set_send(data);
        }
        Request::Receive { socket, room, flags } => {
            to.set_socket(socket.0);
            to.set_flags(*flags);
            to.set_receive(*room);
        }
        Request::TakeError { socket } => {
            to.set_socket(socket.0);
            to.set_take_error(());
        }
        Request::SetOption { socket, level, name, value } => {
            to.set_socket(socket.0);
            let mut to = to.init_set_option();
            to.set_level(*level);
            to.set_name(*name);
            to.set_value(value);
        }
        Request::Option { socket, level, name } => {
            to.set_socket(socket.0);
            let mut to = to.init_option();
            to.set_level(*level);
            to.set_name(*name);
        }
        Request::Interfaces => to.set_interfaces(()),
    }
}

pub(super) fn put_reply(reply: &Reply, mut to: schema::reply::Builder<'_>) {
    match reply {
        Reply::Error(errno) => to.set_error(errno.number()),
        Reply::Done => to.set_done(()),
        Reply::Opened(socket) => to.set_opened(socket.0),
        Reply::Accepted { socket, peer } => {
            let mut to = to.init_accepted();
            to.set_socket(socket.0);
            endpoint(Some(*peer), to.init_peer());
        }
        Reply::Name(address) => endpoint(Some(*address), to.init_name()),
        Reply::Sent(bytes) => to.set_sent(*bytes),
        Reply::Received { data, length, from } => {
            let mut to = to.init_received();
            to.set_data(data);
            to.set_length(*length);
            endpoint(*from, to.init_from());
        }
        Reply::Pending(errno) => to.set_pending(errno.map_or(0, |errno| errno.number())),
        Reply::Value(value) => to.set_value(value),
        Reply::Interfaces(list) => {
            let mut to = to.init_interfaces(list_length(list.len()));
            for (n, from) in (0..).zip(list) {
                interface(from, to.reborrow().get(n));
            }
        }
    }
}

fn interface(from: &Interface, mut to: schema::interface::Builder<'_>) {
    to.set_index(from.index);
    to.set_name(from.name.as_str());
    to.set_hardware_address(from.hardware_address.as_ref().map_or(&[], |address| address.as_slice()));
    to.set_mtu(from.mtu);
    to.set_up(from.up);
    let mut addresses = to.init_addresses(list_length(from.addresses.len()));
    for (n, (address, length)) in (0..).zip(&from.addresses) {
        let mut to = addresses.reborrow().get(n);
        put_ip(*address, |octets| to.set_address(octets));
        to.set_length(*length);
    }
}

fn endpoint(from: Option<SocketAddr>, mut to: schema::endpoint::Builder<'_>) {
    let Some(from) = from else { return };
    put_ip(from.ip(), |octets| to.set_address(octets));
    to.set_port(from.port());
    if let SocketAddr::V6(from) = from {
        to.set_scope(from.scope_id());
    }
}
