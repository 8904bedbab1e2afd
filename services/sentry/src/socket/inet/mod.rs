//! AF_INET and AF_INET6 (ip(7), ipv6(7)): sockets of netstack, as the guest has them.
//!
//! - [`client`]: the way to netstack, and who is told when something happens to a socket
//! - [`socket`]: a socket
//! - [`name`]: addresses as they lie in guest memory
//! - [`device`]: what netdevice(7) asks of interfaces
//!
//! Invariants: nothing here keeps state that netstack has, but for what a socket is ready for, which both see; netstack is not
//! trusted to say anything but how its own traffic goes: what it answers is checked for its form, and at worst a socket does not work.

pub mod client;
mod device;
mod name;
mod socket;

use std::sync::Arc;

use bulkhead_ipc::Errno;

use super::{Family, Socket};
use crate::task::{Thread, capability};
use client::NetClient;
use socket::InetSocket;

/// Both families.
pub struct InetFamily {
    client: Arc<NetClient>,
}

impl InetFamily {
    /// Of sockets in netstack.
    pub fn new(client: Arc<NetClient>) -> InetFamily {
        InetFamily { client }
    }
}

impl Family for InetFamily {
    fn domains(&self) -> &'static [i32] {
        &[libc::AF_INET, libc::AF_INET6]
    }

    fn socket(&self, thread: &Thread, domain: i32, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>, Errno> {
        let credentials = thread.credentials();
        if kind == libc::SOCK_RAW && !credentials.has(capability::NET_RAW) {
            return Err(Errno::EPERM);
        }
        let protocol = u16::try_from(protocol).map_err(|_| Errno::EINVAL)?;
        Ok(InetSocket::open(&self.client, domain, kind, protocol, &credentials)?)
    }
}
