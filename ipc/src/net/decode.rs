//! From the wire to types, every field checked: lengths are bounded, addresses have a family's length.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::{DATA_LIMIT, Interface, Reply, Request, SocketId, VALUE_LIMIT};
use crate::{
    Errno, net_capnp as schema,
    wire::{DecodeError, bounded, count, hardware_address, ip, required_ip},
};

/// IFNAMSIZ without its NUL.
const NAME_LIMIT: usize = 15;
/// Interfaces, and addresses of one, at most.
const LIST_LIMIT: u32 = 1024;

pub(super) fn get_request(from: schema::request::Reader<'_>) -> Result<Request, DecodeError> {
    use schema::request::Which;
    let socket = SocketId(from.get_socket());
    let flags = from.get_flags();
    let to = || endpoint(from.get_to()?);
    Ok(match from.which()? {
        Which::Open(group) => Request::Open {
            family: group.get_family(),
            kind: group.get_kind(),
            protocol: group.get_protocol(),
            owner: group.get_owner(),
        },
        Which::Close(()) => Request::Close { socket },
        Which::Bind(()) => Request::Bind { socket, address: to()?.ok_or(DecodeError::Invalid("an address"))? },
        Which::Connect(()) => Request::Connect { socket, peer: to()? },
        Which::Listen(backlog) => Request::Listen { socket, backlog },
        Which::Accept(()) => Request::Accept { socket },
        Which::Shutdown(group) => Request::Shutdown { socket, read: group.get_read(), write: group.get_write() },
        Which::LocalName(()) => Request::LocalName { socket },
        Which::PeerName(()) => Request::PeerName { socket },
        Which::Send(data) => Request::Send { socket, data: bounded(data?, DATA_LIMIT, "data")?, to: to()?, flags },
        Which::Receive(room) => Request::Receive { socket, room, flags },
        Which::TakeError(()) => Request::TakeError { socket },
        Which::SetOption(group) => Request::SetOption {
            socket,
            level: group.get_level(),
            name: group.get_name(),
            value: bounded(group.get_value()?, VALUE_LIMIT, "value of an option")?,
        },
        Which::Option(group) => Request::Option { socket, level: group.get_level(), name: group.get_name() },
        Which::Interfaces(()) => Request::Interfaces,
    })
}

pub(super) fn get_reply(from: schema::reply::Reader<'_>) -> Result<Reply, DecodeError> {
    use schema::reply::Which;
    let address = |from| endpoint(from)?.ok_or(DecodeError::Invalid("an address"));
    Ok(match from.which()? {
        Which::Error(number) => Reply::Error(Errno::new(number)),
        Which::Done(()) => Reply::Done,
        Which::Opened(socket) => Reply::Opened(SocketId(socket)),
        Which::Accepted(group) => Reply::Accepted { socket: SocketId(group.get_socket()), peer: address(group.get_peer()?)? },
        Which::Name(name) => Reply::Name(address(name?)?),
        Which::Sent(bytes) => Reply::Sent(bytes),
        Which::Received(group) => Reply::Received {
            data: bounded(group.get_data()?, DATA_LIMIT, "data")?,
            length: group.get_length(),
            from: endpoint(group.get_from()?)?,
        },
        Which::Pending(0) => Reply::Pending(None),
        Which::Pending(number) => Reply::Pending(Some(Errno::new(number))),
        Which::Value(value) => Reply::Value(bounded(value?, VALUE_LIMIT, "value of an option")?),
        Which::Interfaces(list) => {
            let list = list?;
            let mut interfaces = Vec::with_capacity(count(list.len(), LIST_LIMIT, "count of interfaces")?);
            for from in list.iter() {
                interfaces.push(interface(from)?);
            }
            Reply::Interfaces(interfaces)
        }
    })
}

fn interface(from: schema::interface::Reader<'_>) -> Result<Interface, DecodeError> {
    let list = from.get_addresses()?;
    let mut addresses = Vec::with_capacity(count(list.len(), LIST_LIMIT, "count of addresses")?);
    for from in list.iter() {
        let address = required_ip(from.get_address()?)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        addresses.push((address, from.get_length().min(most)));
    }
    let name = bounded(from.get_name()?.as_bytes(), NAME_LIMIT, "name of an interface")?;
    Ok(Interface {
        index: from.get_index(),
        name: String::from_utf8(name).map_err(|_| DecodeError::Invalid("name of an interface"))?,
        hardware_address: match from.get_hardware_address()? {
            [] => None,
            octets => Some(hardware_address(octets)?),
        },
        mtu: from.get_mtu(),
        up: from.get_up(),
        addresses,
    })
}

fn endpoint(from: schema::endpoint::Reader<'_>) -> Result<Option<SocketAddr>, DecodeError> {
    let (port, scope) = (from.get_port(), from.get_scope());
    Ok(ip(from.get_address()?)?.map(|address| match address {
        IpAddr::V4(_) => SocketAddr::new(address, port),
        IpAddr::V6(address) => SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope)),
    }))
}
