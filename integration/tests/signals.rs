//! Signals to programs whose call sites are rewritten: handlers are entered and left without a signal of the host's. The guest is
//! `integration/guests/signals.c`.

use std::time::Duration;

use bulkhead_integration::guest::Guest;

#[test]
fn a_handler_finds_and_restores_all_registers_however_the_thread_stopped() {
    let mut guest = Guest::start("signals.c", &[]);
    guest.says("ok", Duration::from_secs(60), "the guest");
    let (code, errors) = guest.end(Duration::from_secs(10));
    assert_eq!((code, errors.as_str()), (0, ""));
}
