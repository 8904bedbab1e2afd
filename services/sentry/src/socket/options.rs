//! setsockopt(2) and getsockopt(2) of the socket level, which is the same for all families. What a family adds, and the other
//! levels, are its own ([`Socket::set_option`], [`Socket::option`]).

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use bulkhead_ipc::Errno;

use super::{Socket, core::DEFAULT_BUFFER};
use crate::task::{Thread, capability};

bitflags::bitflags! {
    /// Options that are on or off.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flags: u32 {
        /// SO_DEBUG.
        const DEBUG = 1;
        /// SO_REUSEADDR.
        const REUSEADDR = 1 << 1;
        /// SO_DONTROUTE.
        const DONTROUTE = 1 << 2;
        /// SO_BROADCAST.
        const BROADCAST = 1 << 3;
        /// SO_KEEPALIVE.
        const KEEPALIVE = 1 << 4;
        /// SO_OOBINLINE.
        const OOBINLINE = 1 << 5;
        /// SO_REUSEPORT.
        const REUSEPORT = 1 << 6;
        /// SO_TIMESTAMP.
        const TIMESTAMP = 1 << 7;
        /// SO_TIMESTAMPNS.
        const TIMESTAMPNS = 1 << 8;
        /// SO_PASSCRED.
        const PASSCRED = 1 << 9;
        /// SO_PASSSEC.
        const PASSSEC = 1 << 10;
        /// SO_PASSPIDFD.
        const PASSPIDFD = 1 << 11;
        /// SO_RXQ_OVFL.
        const RXQ_OVFL = 1 << 12;
        /// SO_WIFI_STATUS.
        const WIFI_STATUS = 1 << 13;
        /// SO_NOFCS.
        const NOFCS = 1 << 14;
        /// SO_SELECT_ERR_QUEUE.
        const SELECT_ERR_QUEUE = 1 << 15;
        /// SO_NO_CHECK.
        const NO_CHECK = 1 << 16;
    }
}

/// Options with a value. Times are in nanoseconds; `None` is for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// SO_RCVTIMEO.
    pub receive_timeout: Option<u64>,
    /// SO_SNDTIMEO.
    pub send_timeout: Option<u64>,
    /// SO_RCVLOWAT.
    pub receive_low: i32,
    /// SO_LINGER: whether, and seconds.
    pub linger: (bool, i32),
    /// SO_PRIORITY.
    pub priority: i32,
    /// SO_MARK.
    pub mark: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { receive_timeout: None, send_timeout: None, receive_low: 1, linger: (false, 0), priority: 0, mark: 0 }
    }
}

const SO_PASSPIDFD: i32 = 76;
const SO_RCVTIMEO_NEW: i32 = 66;
const SO_SNDTIMEO_NEW: i32 = 67;
/// What SO_SNDBUF and SO_RCVBUF may ask for (net.core.wmem_max, rmem_max), before it is doubled.
const MOST_BUFFER: usize = 212_992;
/// As little as SO_SNDBUF leaves.
const LEAST_SEND_BUFFER: usize = 4608;
/// As little as SO_RCVBUF leaves.
const LEAST_RECEIVE_BUFFER: usize = 2304;

/// The flag of an option that is on or off.
fn flag(name: i32) -> Option<Flags> {
    Some(match name {
        libc::SO_DEBUG => Flags::DEBUG,
        libc::SO_REUSEADDR => Flags::REUSEADDR,
        libc::SO_DONTROUTE => Flags::DONTROUTE,
        libc::SO_BROADCAST => Flags::BROADCAST,
        libc::SO_KEEPALIVE => Flags::KEEPALIVE,
        libc::SO_OOBINLINE => Flags::OOBINLINE,
        libc::SO_REUSEPORT => Flags::REUSEPORT,
        libc::SO_TIMESTAMP => Flags::TIMESTAMP,
        libc::SO_TIMESTAMPNS => Flags::TIMESTAMPNS,
        libc::SO_PASSCRED => Flags::PASSCRED,
        libc::SO_PASSSEC => Flags::PASSSEC,
        SO_PASSPIDFD => Flags::PASSPIDFD,
        libc::SO_RXQ_OVFL => Flags::RXQ_OVFL,
        libc::SO_WIFI_STATUS => Flags::WIFI_STATUS,
        libc::SO_NOFCS => Flags::NOFCS,
        libc::SO_SELECT_ERR_QUEUE => Flags::SELECT_ERR_QUEUE,
        libc::SO_NO_CHECK => Flags::NO_CHECK,
        _ => return None,
    })
}

fn int(value: &[u8]) -> Result<i32, Errno> {
    value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)
}

/// A struct timeval as nanoseconds.
fn timeout(value: &[u8]) -> Result<Option<u64>, Errno> {
    let word = |at: usize| value.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).map(|bytes| i64::from_ne_bytes(*bytes));
    let (seconds, microseconds) = (word(0).ok_or(Errno::EINVAL)?, word(8).ok_or(Errno::EINVAL)?);
    if !(0..1_000_000).contains(&microseconds) {
        return Err(Errno::EDOM);
    }
    Ok(match u64::try_from(seconds) {
        Err(_) => Some(0),
        Ok(0) if microseconds == 0 => None,
        Ok(seconds) => Some(seconds.saturating_mul(1_000_000_000).saturating_add(microseconds as u64 * 1000)),
    })
}

fn timeval(timeout: Option<u64>) -> Vec<u8> {
    let time = Duration::from_nanos(timeout.unwrap_or(0));
    let (seconds, microseconds) = (time.as_secs() as i64, i64::from(time.subsec_micros()));
    [seconds.to_ne_bytes(), microseconds.to_ne_bytes()].concat()
}

/// setsockopt(2).
pub fn set(thread: &Thread, socket: &dyn Socket, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    if level != libc::SOL_SOCKET {
        return socket.set_option(thread, level, name, value);
    }
    let core = socket.core();
    let privileged = || match thread.credentials().has(capability::NET_ADMIN) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    };
    let number = int(value)?;
    if let Some(flag) = flag(name) {
        if flag == Flags::DEBUG && number != 0 {
            privileged()?;
        }
        core.set_flags(flag, number != 0);
        return socket.flags_changed();
    }
    // Twice what is asked for, as Linux: the other half is for what it keeps with each message.
    let asked = |most: usize| (number.max(0) as usize).min(most) * 2;
    match name {
        libc::SO_SNDBUF => core.send_buffer.store(asked(MOST_BUFFER).max(LEAST_SEND_BUFFER), Relaxed),
        libc::SO_RCVBUF => core.receive_buffer.store(asked(MOST_BUFFER).max(LEAST_RECEIVE_BUFFER), Relaxed),
        libc::SO_SNDBUFFORCE | libc::SO_RCVBUFFORCE => {
            /// Even who may go beyond the limits may not take all of the memory.
            const MOST_FORCED: usize = 64 << 20;
            privileged()?;
            match name {
                libc::SO_SNDBUFFORCE => core.send_buffer.store(asked(MOST_FORCED).max(LEAST_SEND_BUFFER), Relaxed),
                _ => core.receive_buffer.store(asked(MOST_FORCED).max(LEAST_RECEIVE_BUFFER), Relaxed),
            }
        }
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => core.settings.lock().receive_timeout = timeout(value)?,
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => core.settings.lock().send_timeout = timeout(value)?,
        libc::SO_RCVLOWAT => core.settings.lock().receive_low = if number < 0 { i32::MAX } else { number.max(1) },
        libc::SO_LINGER => {
            let seconds = value.get(4..8).and_then(|bytes| int(bytes).ok()).ok_or(Errno::EINVAL)?;
            let mut settings = core.settings.lock();
            settings.linger = if number == 0 { (false, settings.linger.1) } else { (true, seconds) };
        }
        libc::SO_PRIORITY => {
            if !(0..=6).contains(&number) {
                privileged()?;
            }
            core.settings.lock().priority = number;
        }
        libc::SO_MARK => {
            privileged()?;
            core.settings.lock().mark = number as u32;
        }
        libc::SO_TYPE | libc::SO_PROTOCOL | libc::SO_DOMAIN | libc::SO_ERROR | libc::SO_ACCEPTCONN | libc::SO_SNDLOWAT => {
            return Err(Errno::ENOPROTOOPT);
        }
        _ => return socket.set_option(thread, level, name, value),
    }
    socket.buffers_changed();
    Ok(())
}

/// getsockopt(2): the value, whose beginning a caller with less room gets.
pub fn get(thread: &Thread, socket: &dyn Socket, level: i32, name: i32, room: usize) -> Result<Vec<u8>, Errno> {
    if level != libc::SOL_SOCKET {
        return socket.option(thread, level, name, room);
    }
    let core = socket.core();
    if let Some(flag) = flag(name) {
        return Ok(i32::from(core.flags().contains(flag)).to_ne_bytes().to_vec());
    }
    let settings = *core.settings.lock();
    let number = match name {
        libc::SO_SNDBUF => core.send_buffer.load(Relaxed) as i32,
        libc::SO_RCVBUF => core.receive_buffer.load(Relaxed) as i32,
        libc::SO_TYPE => core.kind,
        libc::SO_DOMAIN => core.domain,
        libc::SO_PROTOCOL => core.protocol,
        libc::SO_ERROR => socket.take_error().map_or(0, Errno::number),
        libc::SO_ACCEPTCONN => i32::from(socket.listens()),
        libc::SO_RCVLOWAT => settings.receive_low,
        libc::SO_SNDLOWAT => 1,
        libc::SO_PRIORITY => settings.priority,
        libc::SO_MARK => settings.mark as i32,
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => return Ok(timeval(settings.receive_timeout)),
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => return Ok(timeval(settings.send_timeout)),
        libc::SO_LINGER => {
            let (on, seconds) = settings.linger;
            return Ok([i32::from(on).to_ne_bytes(), seconds.to_ne_bytes()].concat());
        }
        libc::SO_COOKIE => return if room < 8 { Err(Errno::EINVAL) } else { Ok(core.inode.number.to_ne_bytes().to_vec()) },
        _ => return socket.option(thread, level, name, room),
    };
    Ok(number.to_ne_bytes().to_vec())
}

const _: () = assert!(DEFAULT_BUFFER == MOST_BUFFER, "a new socket has what may be asked for, but for the doubling");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_of_nothing_is_for_ever_and_a_negative_one_is_none() {
        let value = |seconds: i64, microseconds: i64| [seconds.to_ne_bytes(), microseconds.to_ne_bytes()].concat();
        assert_eq!(timeout(&value(0, 0)), Ok(None));
        assert_eq!(timeout(&value(-1, 0)), Ok(Some(0)));
        assert_eq!(timeout(&value(1, 500_000)), Ok(Some(1_500_000_000)));
        assert_eq!(timeout(&value(1, 1_000_000)), Err(Errno::EDOM));
        assert_eq!(timeout(&value(1, 5)[..15]), Err(Errno::EINVAL));
        assert_eq!(timeval(Some(1_500_000_000)), value(1, 500_000));
        assert_eq!(timeout(&value(i64::MAX, 0)), Ok(Some(u64::MAX)));
    }
}
