//! Load averages, without a timer: brought up to date when somebody looks.

use parking_lot::Mutex;

/// Averages over 1, 5 and 15 minutes.
#[derive(Debug, Default)]
pub struct LoadAverage(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Executor time of the last look.
    at: u64,
    /// CPU nanoseconds used until then.
    used: u64,
    loads: [f64; 3],
}

impl LoadAverage {
    /// Starts at `now`.
    pub fn new(now: u64) -> LoadAverage {
        LoadAverage(Mutex::new(State { at: now, ..State::default() }))
    }

    /// The averages at `now` (nanoseconds), when `used` nanoseconds of CPU time have been used in all.
    pub fn sample(&self, now: u64, used: u64) -> [f64; 3] {
        let mut state = self.0.lock();
        let elapsed = now.saturating_sub(state.at);
        // Looks that follow each other closely would divide noise by nothing.
        if elapsed >= 100_000_000 {
            let current = used.saturating_sub(state.used) as f64 / elapsed as f64;
            for (load, minutes) in state.loads.iter_mut().zip([1.0, 5.0, 15.0]) {
                let keep = (-(elapsed as f64) / 1e9 / (60.0 * minutes)).exp();
                *load = *load * keep + current * (1.0 - keep);
            }
            state.at = now;
            state.used = used;
        }
        state.loads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_cpu_approaches_one_and_decays_again() {
        let load = LoadAverage::new(0);
        let busy = load.sample(600_000_000_000, 600_000_000_000);
        assert!(busy[0] > 0.99 && busy[2] < 0.6, "{busy:?}");
        let idle = load.sample(1_200_000_000_000, 600_000_000_000);
        assert!(idle[0] < 0.01, "{idle:?}");
    }
}
