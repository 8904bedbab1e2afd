//! SYN cookies: what a listener must know of a connection's first half, in the sequence number of its answer (and the
//! options in the timestamp's low bits), so that a flood takes no memory.

use crate::{
    random::{Key, hash_of},
    socket::demux::Ends,
    time::Instant,
};

/// Minutes that a cookie is good for.
const MAX_AGE: u32 = 2;
const COUNT_BITS: u32 = 24;
const MASK: u32 = (1 << COUNT_BITS) - 1;

const SIZES_V4: [u16; 4] = [536, 1300, 1440, 1460];
const SIZES_V6: [u16; 4] = [1220, 1280, 1420, 1440];

/// Bits of the timestamp that carry options: a window scale (15 is none), SACK, ECN.
const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;
const NO_SCALE: u32 = 15;

/// What the options were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    pub window_scale: Option<u8>,
    pub sack: bool,
    pub ecn: bool,
}

fn sizes(ends: &Ends) -> [u16; 4] {
    if ends.local.is_ipv4() { SIZES_V4 } else { SIZES_V6 }
}

fn minute(now: Instant) -> u32 {
    (now.millis() / 60_000) as u32
}

fn mix(key: Key, ends: &Ends, peer_iss: u32, count: u32) -> u32 {
    hash_of(key, &(ends, peer_iss, count)) as u32
}

/// The initial sequence number that remembers the peer's MSS.
pub(crate) fn make(key: Key, ends: &Ends, peer_iss: u32, mss: u16, now: Instant) -> u32 {
    let index = sizes(ends).iter().rposition(|&size| size <= mss).unwrap_or(0) as u32;
    let count = minute(now);
    let hidden = mix(key, ends, peer_iss, count).wrapping_add(index) & MASK;
    mix(key.derive(1), ends, peer_iss, 0).wrapping_add(peer_iss).wrapping_add(count << COUNT_BITS).wrapping_add(hidden)
}

/// The MSS that a cookie remembers, if it is ours and not too old.
pub(crate) fn check(key: Key, ends: &Ends, peer_iss: u32, cookie: u32, now: Instant) -> Option<u16> {
    let rest = cookie.wrapping_sub(mix(key.derive(1), ends, peer_iss, 0)).wrapping_sub(peer_iss);
    let age = minute(now).wrapping_sub(rest >> COUNT_BITS) & (u32::MAX >> COUNT_BITS);
    if age >= MAX_AGE {
        return None;
    }
    let count = minute(now).wrapping_sub(age);
    let index = rest.wrapping_sub(mix(key, ends, peer_iss, count)) & MASK;
    sizes(ends).get(index as usize).copied()
}

/// A timestamp not after `value` that remembers the options.
pub(crate) fn stamp(value: u32, granted: Granted) -> u32 {
    let bits =
        granted.window_scale.map_or(NO_SCALE, u32::from) | if granted.sack { 16 } else { 0 } | if granted.ecn { 32 } else { 0 };
    let stamped = value & !OPTION_MASK | bits;
    if stamped > value { stamped.wrapping_sub(1 << OPTION_BITS) } else { stamped }
}

/// The options that a timestamp remembers.
pub(crate) fn unstamp(value: u32) -> Granted {
    let scale = value & 15;
    Granted { window_scale: (scale != NO_SCALE).then_some(scale as u8), sack: value & 16 != 0, ecn: value & 32 != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> Ends {
        Ends { protocol: 6, local: "10.0.0.1:80".parse().unwrap(), remote: "10.0.0.2:5000".parse().unwrap() }
    }

    #[test]
    fn a_cookie_is_good_for_its_ends_and_its_time() {
        let key = Key([1, 2]);
        let then = Instant::from_millis(600_000);
        for (mss, want) in [(1460, 1460), (1459, 1440), (100, 536), (9000, 1460)] {
            let cookie = make(key, &ends(), 77, mss, then);
            assert_eq!(check(key, &ends(), 77, cookie, then), Some(want));
            assert_eq!(check(key, &ends(), 77, cookie, Instant::from_millis(719_999)), Some(want));
            assert_eq!(check(key, &ends(), 77, cookie, Instant::from_millis(720_000)), None);
            assert_eq!(check(key, &ends(), 78, cookie, then), None);
            assert_eq!(check(Key([1, 3]), &ends(), 77, cookie, then), None);
            let other = Ends { remote: "10.0.0.2:5001".parse().unwrap(), ..ends() };
            assert_eq!(check(key, &other, 77, cookie, then), None);
        }
    }

    #[test]
    fn guessing_cookies_is_hopeless() {
        let good = (0..200_000).filter(|guess| check(Key([1, 2]), &ends(), 1, guess * 21_474, Instant::ZERO).is_some()).count();
        assert_eq!(good, 0);
    }

    #[test]
    fn a_timestamp_remembers_the_options_and_does_not_run_ahead() {
        for window_scale in [None, Some(0), Some(7), Some(14)] {
            for bits in 0..4 {
                let granted = Granted { window_scale, sack: bits & 1 != 0, ecn: bits & 2 != 0 };
                for value in [1000, 1023, 1024, 5555] {
                    let stamped = stamp(value, granted);
                    assert!(stamped <= value && value - stamped < 64);
                    assert_eq!(unstamp(stamped), granted);
                }
            }
        }
    }
}
