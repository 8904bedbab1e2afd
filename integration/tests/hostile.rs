//! A guest that does its worst hurts nobody but itself.
//!
//! The guest is `integration/guests/hostile.c`. `BULKHEAD_SEED` and `BULKHEAD_HOSTILE_SECONDS` let it rage otherwise and longer.

use std::{thread, time::Duration};

use bulkhead_integration::{
    guest::Guest,
    processes::Holdings,
    runtime::{code, text},
};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |value| value.parse().expect("it is a number"))
}

/// No service holds much more than it did.
fn assert_no_growth(before: &[(&str, Holdings)], after: &[(&str, Holdings)], about: &str) {
    for ((name, before), (_, after)) in before.iter().zip(after) {
        assert!(
            after.private_kilobytes < before.private_kilobytes + 24 * 1024
                && after.shared_kilobytes < before.shared_kilobytes + 16 * 1024
                && after.files < before.files + 32
                && after.threads < before.threads + 8,
            "{about}: {name} held {before:?} and holds {after:?}"
        );
    }
}

#[test]
fn a_guest_that_does_its_worst_hurts_only_itself() {
    let (seed, seconds) = (setting("BULKHEAD_SEED", 1), setting("BULKHEAD_HOSTILE_SECONDS", 20));
    let about = format!("seed {seed}");
    let mut guest = Guest::start("hostile.c", &[&seed.to_string(), &seconds.to_string()]);
    guest.says("ready", Duration::from_secs(20), &about);
    let before = guest.holdings();
    guest.go_on();
    guest.says("quiet", Duration::from_secs(seconds + 30), &about);
    let after = guest.holdings();
    guest.go_on();
    let (code, errors) = guest.end(Duration::from_secs(10));
    assert!(code == 0 && !errors.contains("bulkhead:"), "{about}: {code}, {errors}");
    assert_no_growth(&before, &after, &about);
}

#[test]
fn a_guest_that_does_its_worst_can_be_killed() {
    let seed = setting("BULKHEAD_SEED", 2);
    let about = format!("seed {seed}");
    let mut guest = Guest::start("hostile.c", &[&seed.to_string(), "1000"]);
    guest.says("ready", Duration::from_secs(20), &about);
    guest.go_on();
    thread::sleep(Duration::from_secs(3));
    let killed = guest.kill();
    assert_eq!(code(&killed), 0, "{about}: {}", text(&killed.stderr));
    let (code, errors) = guest.end(Duration::from_secs(3));
    assert!(code == 137 && !errors.contains("bulkhead:"), "{about}: {code}, {errors}");
}
