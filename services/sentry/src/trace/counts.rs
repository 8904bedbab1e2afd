//! Counters by system call and by process.

use std::collections::BTreeMap;

/// Of one system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CallCount {
    /// How often it returned.
    pub calls: u64,
    /// How often with an error.
    pub errors: u64,
    /// Time from trap to return, all together, in nanoseconds.
    pub total: u64,
    /// The longest.
    pub longest: u64,
}

/// Of one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProcessCount {
    /// Calls that returned.
    pub calls: u64,
    /// How many with an error.
    pub errors: u64,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// By number.
    pub calls: BTreeMap<u64, CallCount>,
    /// By pid.
    pub processes: BTreeMap<i32, ProcessCount>,
}

/// Different numbers that are kept apart: guests can make up any, and those without a name count as one.
const NO_NAME: u64 = u64::MAX;

impl Counts {
    pub(super) fn add(&mut self, pid: i32, number: u64, failed: bool, duration: u64) {
        let number = if crate::syscalls::table::name(number).is_empty() { NO_NAME } else { number };
        let call = self.calls.entry(number).or_default();
        call.calls += 1;
        call.errors += u64::from(failed);
        call.total = call.total.saturating_add(duration);
        call.longest = call.longest.max(duration);
        let process = self.processes.entry(pid).or_default();
        process.calls += 1;
        process.errors += u64::from(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_count_by_number_and_process_and_made_up_numbers_as_one() {
        let mut counts = Counts::default();
        counts.add(1, 0, false, 5);
        counts.add(2, 0, true, 7);
        counts.add(2, 1 << 40, true, 1);
        counts.add(2, 1 << 41, true, 1);
        assert_eq!(counts.calls[&0], CallCount { calls: 2, errors: 1, total: 12, longest: 7 });
        assert_eq!(counts.calls.len(), 2);
        assert_eq!(counts.processes[&2], ProcessCount { calls: 3, errors: 3 });
    }
}
