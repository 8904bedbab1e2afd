//! Many sandboxes on one machine, one with less than a CPU, threads that want certain CPUs: all get on where they should, and who has
//! nothing to do costs nothing. The guests are `integration/guests/crowd.c` and `affinity.c`.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use bulkhead_integration::{
    bundle::unique,
    guest::{Guest, compile},
};
use serde_json::json;

const SANDBOXES: usize = 50;
const PATIENCE: Duration = Duration::from_secs(300);
/// How long idle sandboxes are looked at.
const IDLE: Duration = Duration::from_secs(4);
/// What the clock tick, /proc and whatever ends in the background may add to that.
const SLACK: Duration = Duration::from_millis(200);

/// What these use when they have nothing to do, in CPU time.
fn idle_cost(guests: &[Guest]) -> Duration {
    // What was begun in the background ends first.
    sleep(Duration::from_secs(1));
    let sum = || guests.iter().map(Guest::cpu_time).sum::<Duration>();
    let before = sum();
    sleep(IDLE);
    sum().saturating_sub(before)
}

#[test]
fn fifty_sandboxes_get_on_side_by_side_and_cost_nothing_when_idle() {
    let program = std::env::temp_dir().join(unique("bulkhead-crowd"));
    compile("crowd.c", &program);
    let start = || {
        Guest::built(&[], |rootfs| {
            std::fs::copy(&program, rootfs.join("guest")).expect("the program is copied");
        })
    };
    let mut guests: Vec<Guest> = (0..SANDBOXES).map(|_| start()).collect();
    let _ = std::fs::remove_file(&program);
    guests.iter_mut().for_each(|guest| guest.says("ready", PATIENCE, "start"));
    let fresh = idle_cost(&guests);
    guests.iter_mut().for_each(Guest::go_on);
    guests.iter_mut().for_each(|guest| guest.says("done", PATIENCE, "work"));
    let used = idle_cost(&guests);
    for mut guest in guests {
        guest.go_on();
        assert_eq!(guest.end(PATIENCE), (0, String::new()));
    }
    // Of each second, less than a hundredth for all of them, but for the slack.
    let most = IDLE / 100 + SLACK;
    assert!(fresh < most && used < most, "idle for {IDLE:?}: {fresh:?} before their work, {used:?} after it");
}

#[test]
fn a_sandbox_with_a_fifth_of_a_cpu_gets_on_and_does_not_spin_its_share_away() {
    let quota = json!({ "cpu": { "quota": 20_000, "period": 100_000 } });
    let mut guest = Guest::configured("crowd.c", |config| config["linux"]["resources"] = quota);
    guest.says("ready", PATIENCE, "start");
    let (cpu, time) = (guest.cpu_time(), Instant::now());
    guest.go_on();
    guest.says("done", PATIENCE, "work");
    let (cpu, time) = (guest.cpu_time().saturating_sub(cpu), time.elapsed());
    // Some 10 000 calls and hand-overs, each of which takes 5 to 20 µs of CPU time when nobody spins.
    assert!(cpu < Duration::from_millis(1500), "{cpu:?} of CPU time in {time:?}");
    assert!(cpu < time / 3 + SLACK, "the limit holds: {cpu:?} of CPU time in {time:?}");
    let idle = idle_cost(std::slice::from_ref(&guest));
    guest.go_on();
    assert_eq!(guest.end(PATIENCE), (0, String::new()));
    assert!(idle < IDLE / 100 + SLACK, "idle for {IDLE:?}: {idle:?}");
}

#[test]
fn a_thread_runs_on_the_cpus_that_it_asked_for() {
    let mut guest = Guest::start("affinity.c", &[]);
    guest.says("ok", PATIENCE, "affinity");
    assert_eq!(guest.end(PATIENCE), (0, String::new()));
}
