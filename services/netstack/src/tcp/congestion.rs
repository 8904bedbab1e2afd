//! The congestion window: slow start, then CUBIC (RFC 9438) or Reno (RFC 5681). In bytes.

use super::settings::Algorithm;
use crate::time::Instant;
use std::time::Duration;

const BETA: f64 = 0.7;
const C: f64 = 0.4;

#[derive(Debug, Clone)]
pub(crate) struct Congestion {
    algorithm: Algorithm,
    pub window: u64,
    pub threshold: u64,
    mss: u64,
    /// Reno: acknowledged bytes that have not yet grown the window. CUBIC: the fraction of a byte.
    credit: f64,
    cubic: Cubic,
}

/// CUBIC's memory, in segments and seconds.
#[derive(Debug, Clone, Default)]
struct Cubic {
    w_max: f64,
    k: f64,
    epoch: Option<Instant>,
    w_est: f64,
    prior: f64,
}

impl Congestion {
    pub(crate) fn new(algorithm: Algorithm, mss: usize, segments: usize) -> Congestion {
        let mss = mss.max(1) as u64;
        Congestion { algorithm, window: mss * segments as u64, threshold: u64::MAX, mss, credit: 0.0, cubic: Cubic::default() }
    }

    pub(crate) fn slow_start(&self) -> bool {
        self.window < self.threshold
    }

    pub(crate) fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.algorithm = algorithm;
        self.cubic = Cubic::default();
    }

    pub(crate) fn set_mss(&mut self, mss: usize) {
        self.mss = mss.max(1) as u64;
        self.window = self.window.max(self.mss);
    }

    /// So many bytes were acknowledged while the window was the limit.
    pub(crate) fn acked(&mut self, bytes: u64, rtt: Duration, now: Instant) {
        let mut bytes = bytes;
        if self.slow_start() {
            let grown = self.window.saturating_add(bytes).min(self.threshold);
            bytes -= (grown - self.window).min(bytes);
            self.window = grown;
            if bytes == 0 {
                return;
            }
        }
        match self.algorithm {
            Algorithm::Reno => {
                self.credit += bytes as f64;
                if self.credit >= self.window as f64 {
                    self.credit -= self.window as f64;
                    self.window += self.mss;
                }
            }
            Algorithm::Cubic => self.cubic(bytes, rtt, now),
        }
    }

    fn cubic(&mut self, bytes: u64, rtt: Duration, now: Instant) {
        let mss = self.mss as f64;
        let window = self.window as f64 / mss;
        let cubic = &mut self.cubic;
        let epoch = *cubic.epoch.get_or_insert_with(|| {
            if window < cubic.w_max {
                cubic.k = ((cubic.w_max - window) / C).cbrt();
            } else {
                cubic.k = 0.0;
                cubic.w_max = window;
            }
            cubic.w_est = window;
            now
        });
        let acked = bytes as f64 / mss;
        let t = now.since(epoch).as_secs_f64();
        let at = |t: f64| C * (t - cubic.k).powi(3) + cubic.w_max;
        // As fast as Reno would be, at least (RFC 9438, 4.3).
        let alpha = if cubic.w_est >= cubic.prior { 1.0 } else { 3.0 * (1.0 - BETA) / (1.0 + BETA) };
        cubic.w_est += alpha * acked / window;
        let growth = if at(t) < cubic.w_est {
            (cubic.w_est - window).max(0.0)
        } else {
            let target = at(t + rtt.as_secs_f64()).clamp(window, window * 1.5);
            (target - window) / window * acked
        };
        self.credit += growth * mss;
        let whole = self.credit.floor().clamp(0.0, self.window as f64);
        self.credit -= whole;
        self.window += whole as u64;
    }

    /// Congestion was found: the new threshold.
    pub(crate) fn reduce(&mut self, flight: u64) -> u64 {
        let window = self.window as f64 / self.mss as f64;
        self.threshold = match self.algorithm {
            Algorithm::Reno => (flight / 2).max(2 * self.mss),
            Algorithm::Cubic => {
                let cubic = &mut self.cubic;
                // Make room for newcomers (RFC 9438, 4.7).
                cubic.w_max = if window < cubic.w_max { window * (1.0 + BETA) / 2.0 } else { window };
                cubic.prior = window;
                cubic.epoch = None;
                ((self.window as f64 * BETA) as u64).max(2 * self.mss)
            }
        };
        self.credit = 0.0;
        self.threshold
    }

    /// The retransmission timer ran out.
    pub(crate) fn timed_out(&mut self) {
        self.window = self.mss;
        self.cubic.epoch = None;
    }

    /// Nothing was sent for a while: the growth does not go on as if it had (RFC 9438, 5.8), and after a time-out's length the
    /// window shrinks (RFC 5681, 4.1).
    pub(crate) fn idle(&mut self, idle: Duration, rto: Duration, initial: u64) {
        if let Some(epoch) = &mut self.cubic.epoch {
            *epoch += idle;
        }
        let restart = initial.min(self.window);
        let mut halvings = (idle.as_nanos() / rto.as_nanos().max(1)).min(32);
        if halvings > 0 {
            self.threshold = self.threshold.max(self.window / 4 * 3);
        }
        while halvings > 0 && self.window > restart {
            self.window = (self.window / 2).max(restart);
            halvings -= 1;
        }
    }

    /// What was taken for congestion was none.
    pub(crate) fn undo(&mut self, window: u64, threshold: u64) {
        self.window = self.window.max(window);
        self.threshold = self.threshold.max(threshold);
    }
}

/// Proportional rate reduction (RFC 6937): how much may go out during recovery, so that the window comes down to the
/// threshold evenly, and never stalls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reduction {
    flight_at_start: u64,
    delivered: u64,
    out: u64,
}

impl Reduction {
    pub(crate) fn new(flight: u64) -> Reduction {
        Reduction { flight_at_start: flight.max(1), delivered: 0, out: 0 }
    }

    /// So many bytes were delivered; so many are in flight. The new window.
    pub(crate) fn acked(&mut self, delivered: u64, flight: u64, threshold: u64, mss: u64, progress: bool) -> u64 {
        self.delivered += delivered;
        let allowance = if flight > threshold {
            let share = u128::from(self.delivered) * u128::from(threshold);
            let share = share.div_ceil(u128::from(self.flight_at_start)) as u64;
            share.saturating_sub(self.out)
        } else {
            // Slow-start reduction bound where losses are repaired, conservative otherwise.
            let mut bound = self.delivered.saturating_sub(self.out).max(delivered);
            if progress {
                bound += mss;
            }
            bound.min(threshold - flight)
        };
        // The first retransmission always goes.
        let allowance = if self.out == 0 { allowance.max(mss) } else { allowance };
        flight + allowance
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.out += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;
    const RTT: Duration = Duration::from_millis(100);

    /// Windows in segments after each round trip.
    fn rounds(congestion: &mut Congestion, from: u64, count: u64) -> Vec<u64> {
        (0..count)
            .map(|round| {
                let now = Instant::from_millis((from + round) * 100);
                for _ in 0..congestion.window / MSS as u64 {
                    congestion.acked(MSS as u64, RTT, now);
                }
                congestion.window / MSS as u64
            })
            .collect()
    }

    #[test]
    fn slow_start_doubles_and_reno_adds_one() {
        let mut reno = Congestion::new(Algorithm::Reno, MSS, 10);
        assert_eq!(rounds(&mut reno, 0, 3), [20, 40, 80]);
        reno.window = reno.reduce(80 * MSS as u64);
        assert_eq!(rounds(&mut reno, 3, 3), [41, 42, 43]);
        reno.timed_out();
        assert_eq!(reno.window, MSS as u64);
    }

    #[test]
    fn cubic_comes_back_to_where_it_was_flattens_there_and_goes_on() {
        let mut cubic = Congestion::new(Algorithm::Cubic, MSS, 1000);
        cubic.window = cubic.reduce(1000 * MSS as u64);
        assert_eq!(cubic.window, 700 * MSS as u64);
        // K = cbrt(300 / 0.4) = 9.09 s.
        let windows = rounds(&mut cubic, 0, 140);
        assert!((975..=1001).contains(&windows[85]), "{}", windows[85]);
        let (early, middle, late) = (windows[20] - windows[10], windows[100] - windows[90], windows[139] - windows[129]);
        assert!(early > middle && late > middle, "{early} {middle} {late}");
    }

    #[test]
    fn cubic_gives_room_when_it_shrinks_twice() {
        let mut cubic = Congestion::new(Algorithm::Cubic, MSS, 100);
        cubic.window = cubic.reduce(0);
        cubic.window = cubic.reduce(0);
        assert!((cubic.cubic.w_max - 70.0 * 0.85).abs() < 0.01);
    }

    #[test]
    fn after_a_pause_the_window_shrinks_to_the_first_one() {
        let mut reno = Congestion::new(Algorithm::Reno, MSS, 80);
        reno.idle(RTT, Duration::from_millis(300), 10 * MSS as u64);
        assert_eq!(reno.window, 80 * MSS as u64);
        reno.idle(RTT * 6, Duration::from_millis(300), 10 * MSS as u64);
        assert_eq!(reno.window, 20 * MSS as u64);
        reno.idle(RTT * 600, Duration::from_millis(300), 10 * MSS as u64);
        assert_eq!(reno.window, 10 * MSS as u64);
    }

    #[test]
    fn the_reduction_sends_in_proportion() {
        // Twenty in flight, threshold ten, one lost: each delivered segment lets half a one go.
        let mut reduction = Reduction::new(20_000);
        let mut flight = 19_000;
        let mut sent = 0;
        for _ in 0..19 {
            flight -= 1000;
            let window = reduction.acked(1000, flight, 10_000, 1000, false);
            while flight + 1000 <= window {
                flight += 1000;
                reduction.sent(1000);
                sent += 1;
            }
        }
        assert_eq!((flight / 1000, sent), (10, 10));
    }
}
