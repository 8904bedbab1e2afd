//! How many ICMP errors are sent, and to whom: a bucket for all (RFC 1812, 4.3.2.8) and one for each destination, as Linux
//! has them.

use crate::{
    random::{Key, hash_of},
    time::Instant,
};
use std::{net::IpAddr, time::Duration};

const BUCKETS: usize = 512;

/// Tokens that come back one every `interval`, up to `burst`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    tokens: u32,
    burst: u32,
    interval: Duration,
    filled: Instant,
}

impl Bucket {
    pub(crate) const fn new(burst: u32, interval: Duration) -> Bucket {
        Bucket { tokens: burst, burst, interval, filled: Instant::ZERO }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let new = (now.since(self.filled).as_nanos() / self.interval.as_nanos().max(1)).min(u128::from(self.burst)) as u32;
        if new > 0 {
            self.tokens = (self.tokens + new).min(self.burst);
            self.filled = if self.tokens == self.burst { now } else { self.filled + self.interval * new };
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

/// Destinations share buckets by a keyed hash, so that the memory is fixed.
#[derive(Debug)]
pub(crate) struct Limit {
    all: Bucket,
    each: Vec<Bucket>,
    key: Key,
}

impl Limit {
    pub(crate) fn new(key: Key) -> Limit {
        let each = vec![Bucket::new(6, Duration::from_secs(1)); BUCKETS];
        Limit { all: Bucket::new(50, Duration::from_millis(1)), each, key }
    }

    pub(crate) fn allows(&mut self, destination: IpAddr, now: Instant) -> bool {
        let index = (hash_of(self.key, &destination) as usize) % BUCKETS;
        self.each.get_mut(index).is_some_and(|bucket| bucket.take(now)) && self.all.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_gets_a_burst_and_then_one_a_second() {
        let mut limit = Limit::new(Key([1, 2]));
        let to: IpAddr = "192.0.2.1".parse().unwrap();
        let allowed = |limit: &mut Limit, ms| (0..100).filter(|_| limit.allows(to, Instant::from_millis(ms))).count();
        assert_eq!(allowed(&mut limit, 0), 6);
        assert_eq!(allowed(&mut limit, 2500), 2);
        assert_eq!(allowed(&mut limit, 3000), 1);
    }

    #[test]
    fn all_destinations_together_are_bounded() {
        let mut limit = Limit::new(Key([1, 2]));
        let allowed = (0..10_000_u32).filter(|host| limit.allows(IpAddr::V4((0x0a00_0000 + host).into()), Instant::ZERO)).count();
        assert_eq!(allowed, 50);
    }
}
