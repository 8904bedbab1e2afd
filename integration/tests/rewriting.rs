//! Call sites that are rewritten behave as before. The guests are `integration/guests/rewriting_*.c`;
//! `BULKHEAD_REWRITING_SECONDS` lets the stress test run longer.

use std::time::Duration;

use bulkhead_integration::guest::Guest;

#[test]
fn rewritten_calls_keep_everything_that_calls_keep_while_all_else_goes_on() {
    let seconds = std::env::var("BULKHEAD_REWRITING_SECONDS").unwrap_or_else(|_| "20".into());
    let length: u64 = seconds.parse().expect("it is a number");
    let guest = Guest::start("rewriting_stress.c", &[&seconds]);
    ends_well(guest, Duration::from_secs(length + 30));
}

#[test]
fn a_program_may_do_anything_to_its_rewritten_text() {
    ends_well(Guest::start("rewriting_odd.c", &[]), Duration::from_secs(60));
}

fn ends_well(mut guest: Guest, within: Duration) {
    guest.says("ok", within, "the guest");
    let (code, errors) = guest.end(Duration::from_secs(10));
    assert_eq!((code, errors.as_str()), (0, ""));
}
