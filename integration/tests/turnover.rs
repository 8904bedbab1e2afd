//! What a guest gives back, the host gets back. The guest is `integration/guests/turnover.c`.

use std::time::Duration;

use bulkhead_integration::{guest::Guest, processes::Holdings, runtime::eventually};

const PATIENCE: Duration = Duration::from_secs(60);

fn guest_memory(holdings: &[(&str, Holdings)]) -> u64 {
    holdings.iter().map(|(_, holdings)| holdings.memory_file_kilobytes).sum()
}

#[test]
fn what_a_guest_gives_back_goes_back_to_the_host() {
    let mut guest = Guest::start("turnover.c", &[]);
    guest.says("ready", PATIENCE, "start");
    let before = guest_memory(&guest.holdings());
    guest.go_on();
    guest.says("large", PATIENCE, "500 MB");
    assert!(guest_memory(&guest.holdings()) > 500 << 10, "the measurement sees the guest's memory");
    guest.go_on();
    guest.says("warm", PATIENCE, "first round");
    let warm = guest.holdings();
    assert!(guest_memory(&warm) < before + (4 << 10), "of 500 MB that a process used, {warm:?} is left");
    guest.go_on();
    guest.says("done", PATIENCE, "four more rounds");
    let mut done = guest.holdings();
    // What is given back in the background gets a moment.
    eventually("no service holds more than after the first round", || {
        done = guest.holdings();
        let grown = warm.iter().zip(&done).any(|((_, warm), (_, done))| {
            done.private_kilobytes > warm.private_kilobytes + 1024
                || done.memory_file_kilobytes > warm.memory_file_kilobytes + 1024
                || done.files > warm.files + 4
                || done.threads > warm.threads + 2
        });
        if grown {
            std::thread::sleep(Duration::from_millis(500));
            eprintln!("{warm:?}\n{done:?}");
        }
        !grown
    });
    guest.go_on();
    assert_eq!(guest.end(PATIENCE), (0, String::new()));
}
