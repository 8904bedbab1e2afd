//! Everything at once, from many threads, for a while, with everything checked. The guest is `integration/guests/stress`.
//!
//! `BULKHEAD_STRESS_SECONDS` lets it run longer (`make stress`), `BULKHEAD_SEED` otherwise.

use std::{process::Command, time::Duration};

use bulkhead_integration::guest::Guest;

/// Runs the guest with these roles; the runtime is started by `prefix`.
fn stress(prefix: &[&str], roles: &str, otherwise: u64) {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("it is a number"));
    let seconds = number("BULKHEAD_STRESS_SECONDS").unwrap_or(otherwise);
    let seed = number("BULKHEAD_SEED").unwrap_or(1);
    let mut guest = Guest::start_by(prefix, "stress", &[&seconds.to_string(), &seed.to_string(), roles]);
    // The guest itself notices when a thread is stuck; what it says of it is in the errors.
    let said = guest.next_line(Duration::from_secs(seconds + 200));
    let (code, errors) = guest.end(Duration::from_secs(20));
    assert_eq!((said.as_deref(), code, errors.as_str()), (Some("ok"), 0, ""), "seed {seed}");
}

#[test]
fn threads_keep_what_is_theirs_while_everything_happens_at_once() {
    stress(&[], "all", 20);
}

#[test]
fn threads_keep_what_is_theirs_on_one_cpu() {
    stress(&["taskset", "-c", "0"], "all", 10);
}

#[test]
fn threads_keep_what_is_theirs_beside_somebody_who_wants_a_cpu_for_himself() {
    let _load = Load::start();
    stress(&[], "all", 10);
}

#[test]
fn bursts_of_calls_and_pauses_of_all_kinds_hold_nobody_up() {
    stress(&[], "burst,signal,ring,make,take,echo", 10);
}

/// Computing on one CPU that has nothing to do with the sandbox.
struct Load(std::process::Child);

impl Load {
    fn start() -> Load {
        Load(Command::new("taskset").args(["-c", "0", "sh", "-c", "while :; do :; done"]).spawn().expect("it starts"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
