//! struct sockaddr_in and struct sockaddr_in6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bulkhead_ipc::Errno;

use crate::socket::Address;

/// sizeof(struct sockaddr_in).
const V4: usize = 16;
/// As much of struct sockaddr_in6 as there has to be: the scope came later (SIN6_LEN_RFC2133).
const V6: usize = 24;

/// An address for a socket of this domain. EINVAL when it is too short, EAFNOSUPPORT when it is of another family.
pub(super) fn read(domain: i32, address: &Address) -> Result<SocketAddr, Errno> {
    let bytes = &address.0;
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]);
    match address.family().ok_or(Errno::EINVAL)? {
        libc::AF_INET if bytes.len() >= V4 => {
            let octets: [u8; 4] = bytes[4..8].try_into().map_err(|_| Errno::EINVAL)?;
            match domain {
                libc::AF_INET => Ok(SocketAddr::new(IpAddr::V4(octets.into()), port(bytes))),
                _ => Err(Errno::EAFNOSUPPORT),
            }
        }
        libc::AF_INET6 if bytes.len() >= V6 => {
            let octets: [u8; 16] = bytes[8..24].try_into().map_err(|_| Errno::EINVAL)?;
            let scope = bytes.get(24..28).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            match domain {
                libc::AF_INET6 => Ok(SocketAddr::V6(SocketAddrV6::new(octets.into(), port(bytes), 0, scope))),
                _ => Err(Errno::EAFNOSUPPORT),
            }
        }
        libc::AF_INET | libc::AF_INET6 => Err(Errno::EINVAL),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// An address as the guest gets it from a socket of this domain.
pub(super) fn write(domain: i32, address: SocketAddr) -> Address {
    let port = address.port().to_be_bytes();
    match (domain, address.ip()) {
        (libc::AF_INET, IpAddr::V4(ip)) => v4(ip, port),
        (libc::AF_INET, IpAddr::V6(_)) => v4(Ipv4Addr::UNSPECIFIED, port),
        (_, ip) => {
            let scope = if let SocketAddr::V6(address) = address { address.scope_id() } else { 0 };
            let ip = if let IpAddr::V4(ip) = ip { ip.to_ipv6_mapped() } else { v6_of(ip) };
            let flow = [0; 4];
            let rest = [&port[..], &flow, &ip.octets(), &scope.to_ne_bytes()].concat();
            Address::new(libc::AF_INET6, &rest)
        }
    }
}

fn v4(ip: Ipv4Addr, port: [u8; 2]) -> Address {
    let rest = [&port[..], &ip.octets(), &[0; 8]].concat();
    Address::new(libc::AF_INET, &rest)
}

fn v6_of(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for (domain, text) in [(libc::AF_INET, "10.1.2.3:80"), (libc::AF_INET6, "[fe80::1%3]:443"), (libc::AF_INET6, "[::]:0")] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(read(domain, &write(domain, address)), Ok(address));
        }
    }

    #[test]
    fn an_ipv6_socket_sees_ipv4_mapped() {
        let address: SocketAddr = "10.1.2.3:80".parse().expect("an address");
        let seen = read(libc::AF_INET6, &write(libc::AF_INET6, address)).map(|address| address.to_string());
        assert_eq!(seen, Ok("[::ffff:10.1.2.3]:80".into()));
    }

    #[test]
    fn short_and_strange_addresses_are_refused() {
        let whole = write(libc::AF_INET, "1.2.3.4:5".parse().expect("an address"));
        assert_eq!(read(libc::AF_INET, &Address(whole.0[..15].to_vec())), Err(Errno::EINVAL));
        assert_eq!(read(libc::AF_INET6, &whole), Err(Errno::EAFNOSUPPORT));
        assert_eq!(read(libc::AF_INET, &Address::new(libc::AF_UNIX, b"/x")), Err(Errno::EAFNOSUPPORT));
        assert_eq!(read(libc::AF_INET, &Address::default()), Err(Errno::EINVAL));
    }
}
