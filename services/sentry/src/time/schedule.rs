//! When a timer expires next, and how often it has.

/// An expiry, once or repeated, in the nanoseconds of whatever clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// The next expiry; `None` when it is disarmed.
    pub next: Option<u64>,
    /// Distance of the following ones; 0 for none.
    pub interval: u64,
}

impl Schedule {
    /// How often it has expired by `now` since this was asked the last time; the next expiry is then after `now`.
    pub fn take_due(&mut self, now: u64) -> u64 {
        let Some(next) = self.next else { return 0 };
        if next > now {
            return 0;
        }
        if self.interval == 0 {
            self.next = None;
            return 1;
        }
        let missed = (now - next) / self.interval;
        self.next = next.checked_add((missed + 1).saturating_mul(self.interval));
        missed + 1
    }

    /// Time until the next expiry after `now`, as timer_gettime(2) tells it; 0 when it is disarmed.
    pub fn remaining(&self, now: u64) -> u64 {
        let mut copy = *self;
        if copy.interval == 0 {
            // An expiry that is due but was not noticed yet is not "disarmed".
            return copy.next.map_or(0, |next| next.saturating_sub(now).max(1));
        }
        copy.take_due(now);
        copy.next.map_or(0, |next| next.saturating_sub(now).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_timer_counts_what_it_missed_and_keeps_its_phase() {
        let mut schedule = Schedule { next: Some(100), interval: 10 };
        assert_eq!(schedule.take_due(99), 0);
        assert_eq!(schedule.take_due(100), 1);
        assert_eq!(schedule.next, Some(110));
        assert_eq!(schedule.take_due(145), 4);
        assert_eq!(schedule.next, Some(150));
        assert_eq!(schedule.remaining(145), 5);
        assert_eq!(schedule.remaining(152), 8);
    }

    #[test]
    fn a_single_expiry_disarms() {
        let mut schedule = Schedule { next: Some(100), interval: 0 };
        assert_eq!(schedule.remaining(40), 60);
        assert_eq!(schedule.remaining(140), 1);
        assert_eq!(schedule.take_due(140), 1);
        assert_eq!(schedule.take_due(200), 0);
        assert_eq!(schedule.remaining(200), 0);
    }

    #[test]
    fn what_lies_beyond_the_end_of_time_never_comes() {
        let mut schedule = Schedule { next: Some(u64::MAX - 1), interval: u64::MAX };
        assert_eq!(schedule.take_due(u64::MAX), 1);
        assert_eq!(schedule.next, None);
    }
}
