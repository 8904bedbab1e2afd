//! setsockopt(2) and getsockopt(2): numbers and bytes of the guest's to the engine's options and back. What the sentry keeps by itself
//! (the time-outs, SO_LINGER's wait and the like) does not come here.

use bulkhead_ipc::Errno;

use super::errno;
use crate::{
    Stack,
    ip::Fragmentation,
    link::InterfaceId,
    socket::{Handle, SocketOption},
    time::Instant,
};

/// An int, or for the options that take one byte as well, that.
fn int(value: &[u8]) -> Result<i32, Errno> {
    match value {
        [byte] => Ok(i32::from(*byte)),
        _ => value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL),
    }
}

/// 1 to 255, or -1 for the usual.
fn hops(value: i32, usual: u8, least: i32) -> Result<u8, Errno> {
    match value {
        -1 => Ok(usual),
        value if (least..=255).contains(&value) => Ok(value as u8),
        _ => Err(Errno::EINVAL),
    }
}

fn fragmentation(value: i32) -> Result<Fragmentation, Errno> {
    Ok(match value {
        libc::IP_PMTUDISC_DONT => Fragmentation::Allowed,
        libc::IP_PMTUDISC_WANT => Fragmentation::Source,
        libc::IP_PMTUDISC_DO => Fragmentation::Forbidden,
        libc::IP_PMTUDISC_PROBE => Fragmentation::Probe,
        _ => return Err(Errno::EINVAL),
    })
}

/// The option that a number means. ENOPROTOOPT.
fn option(stack: &Stack, level: i32, name: i32, value: &[u8]) -> Result<SocketOption, Errno> {
    /// What TTL and hop limit are when nobody says otherwise.
    const TTL: u8 = 64;
    if (level, name) == (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) {
        return interface_named(stack, value).map(SocketOption::Interface);
    }
    let number = int(value)?;
    let on = number != 0;
    Ok(match (level, name) {
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => SocketOption::ReuseAddress(on),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT) => SocketOption::ReusePort(on),
        (libc::SOL_SOCKET, libc::SO_BROADCAST) => SocketOption::Broadcast(on),
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => SocketOption::ReceiveBuffer(number.max(0) as usize),
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => SocketOption::SendBuffer(number.max(0) as usize),
        (libc::IPPROTO_IP, libc::IP_TTL) => SocketOption::Ttl(hops(number, TTL, 1)?),
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) => SocketOption::Ttl(hops(number, TTL, 0)?),
        (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL) => SocketOption::MulticastTtl(hops(number, 1, 0)?),
        (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS) => SocketOption::MulticastTtl(hops(number, 1, 0)?),
        (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF) => {
            SocketOption::MulticastInterface((number > 0).then_some(InterfaceId(number as u32)))
        }
        (libc::IPPROTO_IP, libc::IP_TOS) => SocketOption::Tos(number as u8),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => SocketOption::Tos(hops(number, 0, 0)?),
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER) | (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) => {
            SocketOption::Fragmentation(fragmentation(number)?)
        }
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => SocketOption::ReceiveErrors(on),
        (libc::IPPROTO_IP, libc::IP_HDRINCL) => SocketOption::HeaderIncluded(on),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) => SocketOption::V6Only(on),
        _ => return Err(Errno::ENOPROTOOPT),
    })
}

/// SO_BINDTODEVICE's: a name, perhaps with NULs behind; none is no device.
fn interface_named(stack: &Stack, value: &[u8]) -> Result<Option<InterfaceId>, Errno> {
    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let found = stack.interfaces().find(|(_, config, _)| config.name.as_bytes() == name);
    found.map(|(id, ..)| Some(id)).ok_or(Errno::ENODEV)
}

/// setsockopt(2). ENOPROTOOPT, EINVAL.
pub(super) fn set(stack: &mut Stack, socket: Handle, level: i32, name: i32, value: &[u8], now: Instant) -> Result<(), Errno> {
    let _ = now;
    let option = option(stack, level, name, value)?;
    stack.set_option(socket, option).map_err(errno)
}

/// getsockopt(2). ENOPROTOOPT.
pub(super) fn get(stack: &Stack, socket: Handle, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
    let common = stack.options(socket).map_err(errno)?;
    let number = match (level, name) {
        (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) => common.ttl.into(),
        (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS) => {
            common.multicast_ttl.into()
        }
        (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => common.tos.into(),
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => common.receive_errors.into(),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) => common.v6_only.into(),
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER) | (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) => match common.fragmentation {
            Fragmentation::Allowed => libc::IP_PMTUDISC_DONT,
            Fragmentation::Source => libc::IP_PMTUDISC_WANT,
            Fragmentation::Forbidden => libc::IP_PMTUDISC_DO,
            Fragmentation::Probe => libc::IP_PMTUDISC_PROBE,
        },
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(number.to_ne_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_an_int_or_a_byte() {
        assert_eq!((int(&[7]), int(&5_i32.to_ne_bytes()), int(&[1, 2])), (Ok(7), Ok(5), Err(Errno::EINVAL)));
    }

    #[test]
    fn hop_limits_have_bounds() {
        assert_eq!(
            (hops(-1, 64, 1), hops(0, 64, 1), hops(255, 64, 1), hops(256, 64, 0)),
            (Ok(64), Err(Errno::EINVAL), Ok(255), Err(Errno::EINVAL))
        );
    }
}
