//! Options that do not depend on what kind of socket it is.

use crate::{
    error::{Error, Result},
    ip::{Fragmentation, protocol, unmapped},
    link::InterfaceId,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket's address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6, which can do both.
    V6,
}

/// A socket's type and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SOCK_STREAM: TCP.
    Stream,
    /// SOCK_DGRAM: UDP.
    Datagram,
    /// SOCK_DGRAM with IPPROTO_ICMP or IPPROTO_ICMPV6: echoes.
    Ping,
    /// SOCK_RAW.
    Raw {
        /// The IP protocol.
        protocol: u8,
    },
}

/// An option of every kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOption {
    /// SO_REUSEADDR.
    ReuseAddress(bool),
    /// SO_REUSEPORT.
    ReusePort(bool),
    /// IPV6_V6ONLY.
    V6Only(bool),
    /// SO_BROADCAST.
    Broadcast(bool),
    /// SO_BINDTODEVICE.
    Interface(Option<InterfaceId>),
    /// IP_TTL, IPV6_UNICAST_HOPS.
    Ttl(u8),
    /// IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS.
    MulticastTtl(u8),
    /// IP_MULTICAST_IF.
    MulticastInterface(Option<InterfaceId>),
    /// IP_TOS, IPV6_TCLASS.
    Tos(u8),
    /// IP_MTU_DISCOVER.
    Fragmentation(Fragmentation),
    /// IP_RECVERR: soft errors too, and the error queue.
    ReceiveErrors(bool),
    /// SO_RCVBUF, in bytes as Linux counts (twice what was asked for).
    ReceiveBuffer(usize),
    /// SO_SNDBUF, likewise.
    SendBuffer(usize),
    /// IP_HDRINCL, of raw sockets.
    HeaderIncluded(bool),
}

/// What every socket has.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub family: Family,
    pub protocol: u8,
    pub v6_only: bool,
    pub reuse_address: bool,
    pub reuse_port: bool,
    /// The user who made it: sharing a port by SO_REUSEPORT is among one's own.
    pub owner: u32,
    pub broadcast: bool,
    pub interface: Option<InterfaceId>,
    pub multicast_interface: Option<InterfaceId>,
    pub ttl: u8,
    pub multicast_ttl: u8,
    pub tos: u8,
    pub fragmentation: Fragmentation,
    pub receive_errors: bool,
    /// Bound here; the address may be the wildcard.
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
    /// A pending error (SO_ERROR).
    pub error: Option<Error>,
}

impl Common {
    pub(crate) fn new(family: Family, protocol: u8, owner: u32) -> Common {
        let stream = protocol == protocol::TCP;
        Common {
            family,
            protocol,
            v6_only: false,
            reuse_address: false,
            reuse_port: false,
            owner,
            broadcast: false,
            interface: None,
            multicast_interface: None,
            ttl: 64,
            multicast_ttl: 1,
            tos: 0,
            fragmentation: if stream { Fragmentation::Forbidden } else { Fragmentation::Source },
            receive_errors: false,
            local: None,
            remote: None,
            error: None,
        }
    }

    /// Checks that an address is of a family that this socket speaks, and takes it out of its IPv4-mapped form.
    pub(crate) fn canonical(&self, address: SocketAddr) -> Result<SocketAddr> {
        let plain = unmapped(address.ip());
        let allowed = match (self.family, address.ip(), plain) {
            (Family::V4, IpAddr::V4(_), _) | (Family::V6, IpAddr::V6(_), IpAddr::V6(_)) => true,
            (Family::V6, IpAddr::V6(_), IpAddr::V4(_)) => {
                if self.v6_only {
                    return Err(Error::NetworkUnreachable);
                }
                true
            }
            _ => false,
        };
        if !allowed {
            return Err(Error::FamilyNotSupported);
        }
        Ok(SocketAddr::new(plain, address.port()))
    }

    /// An address as this socket's family writes it.
    pub(crate) fn presented(&self, address: SocketAddr) -> SocketAddr {
        match (self.family, address.ip()) {
            (Family::V6, IpAddr::V4(four)) if four.is_unspecified() => SocketAddr::new(self.wildcard(), address.port()),
            (Family::V6, IpAddr::V4(four)) => SocketAddr::new(four.to_ipv6_mapped().into(), address.port()),
            _ => address,
        }
    }

    pub(crate) fn wildcard(&self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The address it is bound to, if that is not the wildcard.
    pub(crate) fn own_address(&self) -> Option<IpAddr> {
        self.local.map(|local| local.ip()).filter(|address| !address.is_unspecified())
    }

    /// Sets an option, or says that it is none of every socket's.
    pub(crate) fn set(&mut self, option: SocketOption) -> Result<bool> {
        match option {
            SocketOption::ReuseAddress(on) => self.reuse_address = on,
            SocketOption::ReusePort(on) => self.reuse_port = on,
            SocketOption::V6Only(_) if self.family == Family::V4 || self.local.is_some() => return Err(Error::InvalidArgument),
            SocketOption::V6Only(on) => self.v6_only = on,
            SocketOption::Broadcast(on) => self.broadcast = on,
            SocketOption::Interface(interface) => self.interface = interface,
            SocketOption::Ttl(0) => return Err(Error::InvalidArgument),
            SocketOption::Ttl(ttl) => self.ttl = ttl,
            SocketOption::MulticastTtl(ttl) => self.multicast_ttl = ttl,
            SocketOption::MulticastInterface(interface) => self.multicast_interface = interface,
            SocketOption::Tos(tos) => self.tos = tos,
            SocketOption::Fragmentation(fragmentation) => self.fragmentation = fragmentation,
            SocketOption::ReceiveErrors(on) => self.receive_errors = on,
            SocketOption::ReceiveBuffer(_) | SocketOption::SendBuffer(_) | SocketOption::HeaderIncluded(_) => return Ok(false),
        }
        Ok(true)
    }
}
