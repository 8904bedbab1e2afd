//! What a sender does about loss: retransmission, SACK, RACK, tail loss probes, the congestion window.

use crate::kit::{Options, script::Script};
use bulkhead_netstack::{
    Error,
    tcp::{Algorithm, Ecn, StreamOption},
};

/// A connection on which a round trip takes a tenth of a second, with ten segments of 1000 bytes in flight.
fn ten(syn: &str) -> Script {
    let mut script = Script::connected_after(Options::new(1), syn, 0.1);
    let stamps = if syn.contains("ts") { " <ts 200 .>" } else { "" };
    script.write(10);
    script.run("> . 1:11(10) ack 1");
    script.run(&format!("+0.1 < . 1:1(0) ack 11{stamps}"));
    script.write(10_000);
    let size = if syn.contains("ts") { 988 } else { 1000 };
    for segment in 0..10 {
        let from = 11 + segment * size;
        script.run(&format!("> . {from}:{}({size}) ack 1", from + size));
    }
    script
}

fn window(script: &Script) -> u64 {
    script.host.stack.info(script.socket).unwrap().congestion_window
}

#[test]
fn the_timer_doubles_and_gives_up_in_the_end() {
    let mut script = Script::connected("mss 1000");
    script.write(10);
    script.run("> . 1:11(10) ack 1");
    let mut pause = 0.2;
    for _ in 0..15 {
        script.run(&format!("+{pause} > . 1:11(10) ack 1"));
        pause = f64::min(pause * 2.0, 120.0);
    }
    script.run("+119");
    assert_eq!(script.host.stack.take_error(script.socket), Ok(None));
    script.run("+2");
    assert_eq!(script.host.stack.take_error(script.socket), Ok(Some(Error::TimedOut)));
}

#[test]
fn after_a_time_out_the_window_is_one_segment_and_doubles() {
    let mut script = ten("mss 1000");
    script.run("+0.3 > . 11:1011(1000) ack 1\n> nothing");
    assert_eq!(window(&script), 1000);
    script.run(
        "+0.1 < . 1:1(0) ack 1011
         > . 1011:2011(1000) ack 1
         > . 2011:3011(1000) ack 1
         > nothing
         +0.1 < . 1:1(0) ack 10011
         > nothing",
    );
}

#[test]
fn a_segment_that_three_later_ones_overtook_is_sent_again_at_once() {
    let mut script = ten("mss 1000, sackok");
    script.run(
        "+0.1 < . 1:1(0) ack 11 <sack 1011:2011>
         > nothing
         < . 1:1(0) ack 11 <sack 1011:3011>
         > nothing
         < . 1:1(0) ack 11 <sack 1011:4011>
         > . 11:1011(1000) ack 1
         +0.1 < . 1:1(0) ack 10011",
    );
    // CUBIC: seven tenths.
    assert_eq!(window(&script), 7000);
}

#[test]
fn less_than_three_are_waited_for_a_quarter_of_a_round_trip() {
    let mut script = ten("mss 1000, sackok");
    script.run("+0.1 < . 1:1(0) ack 11 <sack 1011:2011>\n> nothing\n+0.025 > . 11:1011(1000) ack 1");
}

#[test]
fn where_reordering_was_seen_three_are_not_enough() {
    let mut script = ten("mss 1000, sackok");
    // The first arrives after the third, without having been sent again.
    script.run(
        "+0.1 < . 1:1(0) ack 11 <sack 2011:3011>
         < . 1:1(0) ack 1011 <sack 2011:3011>
         < . 1:1(0) ack 3011",
    );
    assert!(script.host.stack.info(script.socket).unwrap().reordering);
    script.run("< . 1:1(0) ack 3011 <sack 4011:8011>\n> nothing\n+0.025 > . 3011:4011(1000) ack 1");
}

#[test]
fn a_retransmission_that_is_lost_is_found_out_without_the_timer() {
    let mut script = ten("mss 1000, sackok");
    script.write(5000);
    script.run(
        "+0.1 < . 1:1(0) ack 11 <sack 1011:4011>
         > . 11:1011(1000) ack 1",
    );
    script.run("< . 1:1(0) ack 11 <sack 1011:10011>");
    let new = script.skip();
    assert!(new >= 1000, "new data goes while the loss is repaired");
    // What was sent after the retransmission arrives a round trip later: the retransmission itself must be lost.
    script.run("+0.1 < . 1:1(0) ack 11 <sack 1011:11011>\n> . 11:1011(1000) ack 1");
}

#[test]
fn the_last_segment_is_probed_for_before_the_timer() {
    let mut script = Script::connected_after(Options::new(1), "mss 1000, sackok", 0.01);
    script.write(10);
    script.run("> . 1:11(10) ack 1\n+0.01 < . 1:1(0) ack 11");
    script.write(3000);
    script.run(
        "> . 11:1011(1000) ack 1
         > . 1011:2011(1000) ack 1
         > . 2011:3011(1000) ack 1
         +0.022 > . 2011:3011(1000) ack 1
         +0.01 < . 1:1(0) ack 11 <sack 2011:3011>",
    );
    // The probe tells that the others are lost.
    assert!(script.host.stack.info(script.socket).unwrap().recovering);
}

#[test]
fn a_probe_that_was_not_needed_changes_nothing() {
    let mut script = Script::connected_after(Options::new(1), "mss 1000, sackok", 0.01);
    script.write(10);
    script.run("> . 1:11(10) ack 1\n+0.01 < . 1:1(0) ack 11");
    let before = window(&script);
    script.write(2000);
    script.run(
        "> . 11:1011(1000) ack 1
         > . 1011:2011(1000) ack 1
         +0.022 > . 1011:2011(1000) ack 1
         < . 1:1(0) ack 2011
         +0.005 < . 1:1(0) ack 2011 <sack 1011:2011>",
    );
    assert!(window(&script) >= before);
}

#[test]
fn without_sack_three_duplicates_and_partial_acknowledgements_do() {
    let mut script = ten("mss 1000");
    script.run(
        "+0.1 < . 1:1(0) ack 11
         < . 1:1(0) ack 11
         > nothing
         < . 1:1(0) ack 11
         > . 11:1011(1000) ack 1
         +0.1 < . 1:1(0) ack 3011
         > . 3011:4011(1000) ack 1
         +0.1 < . 1:1(0) ack 10011",
    );
    assert!(!script.host.stack.info(script.socket).unwrap().recovering);
}

#[test]
fn in_recovery_sending_goes_on_in_proportion() {
    let mut script = ten("mss 1000, sackok");
    script.write(20_000);
    script.run("+0.1 < . 1:1(0) ack 11 <sack 1011:4011>\n> . 11:1011(1000) ack 1");
    let mut new = 0;
    for end in 5..=10 {
        script.run(&format!("< . 1:1(0) ack 11 <sack 1011:{}>", end * 1000 + 11));
        new += script.skip();
    }
    // Nine delivered, seven tenths of that may be out, one was the retransmission.
    assert!((5000..=7000).contains(&new), "{new}");
}

#[test]
fn a_time_out_that_was_not_needed_is_undone() {
    // With timestamps the answer tells which of the two it is for.
    for (echo, undone) in [("1100", true), (".", false)] {
        let mut options = Options::new(1);
        options.config.tcp.sack = false;
        let mut script = Script::connected_with(options, "mss 1000, ts 100 0");
        script.write(5000);
        script.skip();
        let (before, stamp) = (window(&script), script.last_stamp);
        script.run("+0.2 > . 1:989(988) ack 1");
        assert_eq!(window(&script), 988);
        let echo = if echo == "." { ".".to_owned() } else { stamp.to_string() };
        script.run(&format!("+0.01 < . 1:1(0) ack 989 <ts 110 {echo}>"));
        assert_eq!(window(&script) >= before, undone, "{}", window(&script));
    }
}

#[test]
fn a_mark_reduces_the_window_once_and_is_answered() {
    let mut options = Options::new(1);
    options.config.tcp.ecn = Ecn::On;
    let mut script = Script::server(options);
    script.run("< SEW 0:0(0) win 65535 <mss 1000>\n> S.E 0:0(0) ack 1\n< . 1:1(0) ack 1 win 65535");
    script.accept();
    script.write(8000);
    script.skip();
    assert_eq!(script.seen_tos & 3, 2, "data is ECN-capable");
    script.run("+0.1 < .E 1:1(0) ack 1001\n< .E 1:1(0) ack 2001");
    assert_eq!(window(&script), 7000);
    script.run("< .E 1:1(0) ack 8001");
    script.write(1000);
    script.run("> .W 8001:9001(1000) ack 1");
}

#[test]
fn reno_can_be_chosen() {
    let mut script = Script::connected_after(Options::new(1), "mss 1000, sackok", 0.1);
    let (socket, now) = (script.socket, script.now);
    script.host.stack.set_stream_option(socket, StreamOption::Congestion(Algorithm::Reno), now).unwrap();
    script.write(10_000);
    script.skip();
    script.run("+0.1 < . 1:1(0) ack 1 <sack 1001:4001>\n> . 1:1001(1000) ack 1\n+0.1 < . 1:1(0) ack 10001");
    assert_eq!(window(&script), 5000);
}

#[test]
fn slow_start_doubles_in_a_round_trip() {
    let mut script = ten("mss 1000");
    script.write(60_000);
    script.run("+0.1 < . 1:1(0) ack 10011");
    assert_eq!(script.skip(), 20_000);
}

#[test]
fn after_a_pause_the_window_begins_anew() {
    let mut script = ten("mss 1000");
    script.write(30_000);
    script.run("+0.1 < . 1:1(0) ack 10011");
    script.skip();
    script.run("+0.1 < . 1:1(0) ack 30011");
    script.skip();
    script.run("< . 1:1(0) ack 40011");
    assert!(window(&script) > 20_000);
    script.run("+30");
    script.write(40_000);
    assert_eq!(script.skip(), 10_000);
}
