//! Rarer ways to run, wait for and outlive processes: execveat, pidfds, subreapers, parent-death signals, robust mutexes. The
//! guest is `integration/guests/processes.c`.

use std::time::Duration;

use bulkhead_integration::guest::Guest;

#[test]
fn rarer_ways_to_run_wait_for_and_outlive_processes() {
    let mut guest = Guest::start("processes.c", &[]);
    guest.says("ok", Duration::from_secs(30), "the guest");
    let (code, errors) = guest.end(Duration::from_secs(10));
    assert_eq!((code, errors.as_str()), (0, ""));
}
