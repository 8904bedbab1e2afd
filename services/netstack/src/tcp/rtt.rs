//! Round-trip times and the retransmission time-out (RFC 6298), with Linux's floor of the variance.

use super::settings::Settings;
use crate::time::Instant;
use std::time::Duration;

const INITIAL_RTO: Duration = Duration::from_secs(1);
/// For how long a least round-trip time counts (`tcp_min_rtt_wlen`).
const MIN_WINDOW: Duration = Duration::from_secs(300);

#[derive(Debug, Clone)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variance: Duration,
    least: Option<(Duration, Instant)>,
    backoff: u32,
    min: Duration,
    max: Duration,
}

impl Rtt {
    pub(crate) fn new(settings: &Settings) -> Rtt {
        let (min, max) = (settings.rto_min, settings.rto_max);
        Rtt { smoothed: None, variance: Duration::ZERO, least: None, backoff: 0, min, max }
    }

    pub(crate) fn sample(&mut self, rtt: Duration, now: Instant) {
        let rtt = rtt.max(Duration::from_micros(1));
        self.smoothed = Some(match self.smoothed {
            None => {
                self.variance = rtt / 2;
                rtt
            }
            Some(smoothed) => {
                self.variance = (self.variance * 3 + smoothed.abs_diff(rtt)) / 4;
                (smoothed * 7 + rtt) / 8
            }
        });
        if self.least.is_none_or(|(least, when)| rtt <= least || now.since(when) > MIN_WINDOW) {
            self.least = Some((rtt, now));
        }
        self.backoff = 0;
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    pub(crate) fn variance(&self) -> Duration {
        self.variance
    }

    pub(crate) fn least(&self) -> Option<Duration> {
        self.least.map(|(least, _)| least)
    }

    /// The time-out, doubled as often as it ran out.
    pub(crate) fn rto(&self) -> Duration {
        let base = match self.smoothed {
            None => INITIAL_RTO,
            Some(smoothed) => smoothed + (self.variance * 4).max(self.min),
        };
        base.saturating_mul(1 << self.backoff.min(16)).min(self.max)
    }

    pub(crate) fn back_off(&mut self) {
        self.backoff += 1;
    }

    /// New data was acknowledged.
    pub(crate) fn progress(&mut self) {
        self.backoff = 0;
    }

    /// The handshake had to be repeated: RFC 6298, 5.7.
    pub(crate) fn handshake_lost(&mut self) {
        if self.smoothed.is_none() {
            self.backoff = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_out_follows_the_rfc() {
        let mut rtt = Rtt::new(&Settings::default());
        assert_eq!(rtt.rto(), Duration::from_secs(1));
        rtt.sample(Duration::from_millis(100), Instant::ZERO);
        assert_eq!(rtt.rto(), Duration::from_millis(300));
        rtt.back_off();
        assert_eq!(rtt.rto(), Duration::from_millis(600));
        for _ in 0..20 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(), Duration::from_secs(120));
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(1), Instant::ZERO);
        }
        assert!((200..203).contains(&rtt.rto().as_millis()), "{:?}", rtt.rto());
        assert_eq!(rtt.least(), Some(Duration::from_millis(1)));
    }
}
