//! setsockopt(2) and getsockopt(2): numbers and bytes of the guest's to the engine's options and back. What the sentry keeps by itself
//! (the time-outs, SO_LINGER's wait and the like) does not come here.

use std::time::Duration;

use bulkhead_ipc::Errno;

use super::{errno, info};
use crate::{
    Error, Stack,
    ip::Fragmentation,
    link::InterfaceId,
    socket::{Handle, SocketOption},
    tcp::{Algorithm, StreamOption},
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
    if let Some(option) = stream_option(level, name, value)? {
        return match stack.set_stream_option(socket, option, now) {
            // Options of the socket level can be set on every kind of socket.
            Err(Error::NoProtocol) if level == libc::SOL_SOCKET => Ok(()),
            outcome => outcome.map_err(errno),
        };
    }
    let option = option(stack, level, name, value)?;
    stack.set_option(socket, option).map_err(errno)
}

/// The option of streams that a number means, if it means one.
fn stream_option(level: i32, name: i32, value: &[u8]) -> Result<Option<StreamOption>, Errno> {
    if !matches!(
        (level, name),
        (libc::IPPROTO_TCP, _) | (libc::SOL_SOCKET, libc::SO_KEEPALIVE | libc::SO_OOBINLINE | libc::SO_LINGER)
    ) {
        return Ok(None);
    }
    if (level, name) == (libc::IPPROTO_TCP, libc::TCP_CONGESTION) {
        let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
        return match name {
            b"cubic" => Ok(Some(StreamOption::Congestion(Algorithm::Cubic))),
            b"reno" => Ok(Some(StreamOption::Congestion(Algorithm::Reno))),
            _ => Err(Errno::ENOENT),
        };
    }
    let number = int(value)?;
    let on = number != 0;
    let seconds = |most: i32| match number {
        1.. if number <= most => Ok(Duration::from_secs(number as u64)),
        _ => Err(Errno::EINVAL),
    };
    let count = |most: i32| if (1..=most).contains(&number) { Ok(number as u8) } else { Err(Errno::EINVAL) };
    Ok(Some(match (level, name) {
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => StreamOption::KeepAlive(on),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE) => StreamOption::UrgentInline(on),
        (libc::SOL_SOCKET, _) => StreamOption::ResetOnClose(on && value.get(4..8).is_some_and(|seconds| int(seconds) == Ok(0))),
        (_, libc::TCP_NODELAY) => StreamOption::NoDelay(on),
        (_, libc::TCP_CORK) => StreamOption::Cork(on),
        (_, libc::TCP_QUICKACK) => StreamOption::QuickAck(on),
        (_, libc::TCP_KEEPIDLE) => StreamOption::KeepIdle(seconds(32_767)?),
        (_, libc::TCP_KEEPINTVL) => StreamOption::KeepInterval(seconds(32_767)?),
        (_, libc::TCP_KEEPCNT) => StreamOption::KeepCount(count(127)?),
        (_, libc::TCP_SYNCNT) => StreamOption::SynRetries(count(127)?),
        (_, libc::TCP_USER_TIMEOUT) => {
            let time = u64::try_from(number).map_err(|_| Errno::EINVAL)?;
            StreamOption::UserTimeout((time != 0).then(|| Duration::from_millis(time)))
        }
        (_, libc::TCP_LINGER2) => StreamOption::FinTimeout(Duration::from_secs(number.max(0) as u64)),
        (_, libc::TCP_MAXSEG) => StreamOption::MaxSegment(u16::try_from(number).map_err(|_| Errno::EINVAL)?),
        _ => return Err(Errno::ENOPROTOOPT),
    }))
}

/// getsockopt(2) of the level IPPROTO_TCP.
fn get_stream(stack: &Stack, socket: Handle, name: i32) -> Result<Vec<u8>, Errno> {
    let options = stack.stream_options(socket).map_err(errno)?;
    let seconds = |time: Option<Duration>, usual: u64| time.map_or(usual, |time| time.as_secs()) as i32;
    let number = match name {
        libc::TCP_INFO => return Ok(info::bytes(stack.info(socket).ok().as_ref())),
        libc::TCP_CONGESTION => {
            let mut name = if options.algorithm == Some(Algorithm::Reno) { b"reno".to_vec() } else { b"cubic".to_vec() };
            name.resize(16, 0);
            return Ok(name);
        }
        libc::TCP_NODELAY => options.no_delay.into(),
        libc::TCP_CORK => options.cork.into(),
        libc::TCP_QUICKACK => 1,
        libc::TCP_KEEPIDLE => seconds(options.keep_idle, 7200),
        libc::TCP_KEEPINTVL => seconds(options.keep_interval, 75),
        libc::TCP_KEEPCNT => options.keep_count.unwrap_or(9).into(),
        libc::TCP_SYNCNT => options.syn_retries.unwrap_or(6).into(),
        libc::TCP_LINGER2 => seconds(options.fin_timeout, 60),
        libc::TCP_USER_TIMEOUT => options.user_timeout.map_or(0, |time| time.as_millis() as i32),
        libc::TCP_MAXSEG => match stack.info(socket) {
            Ok(info) => info.mss as i32,
            Err(_) => options.max_segment.map_or(536, i32::from),
        },
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(number.to_ne_bytes().to_vec())
}

/// getsockopt(2). ENOPROTOOPT.
pub(super) fn get(stack: &Stack, socket: Handle, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
    if level == libc::IPPROTO_TCP {
        return get_stream(stack, socket, name);
    }
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
