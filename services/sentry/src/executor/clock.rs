//! The executor's clock where a call to the host's vDSO (32 ns on a machine whose native getpid(2) takes 140) would be dear.
//!
//! The processor's counter, where it runs at one rate whatever the CPU does, is read in 13 ns. It is brought in line with the host's
//! clock each time a thread uses it after [`FRESH`], so it may be off by a microsecond, and never adds up to more.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::now;

/// Ticks for which a thread goes by the counter alone (about a millisecond).
const FRESH: u64 = 1 << 21;
/// So far apart must two looks at both clocks be to tell the counter's rate: each look is off by some 30 ns.
const APART: u64 = 200_000;
/// Fractional bits of the rate.
const FRACTION: u32 = 32;

/// Nanoseconds for each tick, times 2^32; 0 while it is not known.
static RATE: AtomicU64 = AtomicU64::new(0);
/// Both clocks at the start.
static START: OnceLock<(u64, u64)> = OnceLock::new();

thread_local! {
    /// Both clocks when this thread last looked: counter, host.
    static SEEN: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Whether the processor says that its counter runs at one rate in all power states.
fn usable() -> bool {
    use std::arch::x86_64::__cpuid;
    __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & 1 << 8 != 0
}

fn counter() -> u64 {
    // SAFETY: reads a register; the host lets user code do it, or `start` would not have got here alive.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Looks at both clocks for the first time.
pub(super) fn start() {
    if usable() {
        START.get_or_init(|| (counter(), now()));
    }
}

/// Finds the rate if it is time to. Called where a thread has nothing better to do.
pub(super) fn settle() {
    if RATE.load(Relaxed) != 0 {
        return;
    }
    let Some((ticks, time)) = START.get() else { return };
    let (ticks, time) = (counter().saturating_sub(*ticks), now().saturating_sub(*time));
    if time >= APART && ticks > 0 {
        RATE.store(((u128::from(time) << FRACTION) / u128::from(ticks)).min(u128::from(u64::MAX)) as u64, Relaxed);
    }
}

/// As [`now`], but for a microsecond, and cheaper.
pub fn instant() -> u64 {
    let rate = RATE.load(Relaxed);
    if rate == 0 {
        return now();
    }
    let ticks = counter();
    let (seen, time) = SEEN.get();
    let passed = ticks.wrapping_sub(seen);
    if passed < FRESH {
        return time + ((u128::from(passed) * u128::from(rate)) >> FRACTION) as u64;
    }
    let time = now();
    SEEN.set((ticks, time));
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheap_clock_keeps_to_the_hosts() {
        start();
        while now() - START.get().map_or(0, |start| start.1) < APART {}
        settle();
        for _ in 0..100_000 {
            let (before, time, after) = (now(), instant(), now());
            // Being put aside by the host between the looks only makes the bounds wider, but for one within `instant`.
            assert!(time + 20_000_000 > before && time < after + 20_000, "{before} {time} {after}");
        }
    }
}
