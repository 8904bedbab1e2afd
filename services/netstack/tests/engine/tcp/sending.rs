//! What a sender does when nothing is lost: when small segments go, closed windows, silent peers, path MTU.

use crate::kit::{Options, script::Script};
use bulkhead_netstack::{
    Error, WriteOptions,
    link::Capabilities,
    socket::{Readiness, SocketOption},
    tcp::StreamOption,
};
use std::time::Duration;

fn set(script: &mut Script, option: StreamOption) {
    let (socket, now) = (script.socket, script.now);
    script.host.stack.set_stream_option(socket, option, now).unwrap();
}

#[test]
fn a_small_segment_waits_for_the_acknowledgement_of_another() {
    let mut script = Script::connected("mss 1000");
    script.write(10);
    script.run("> . 1:11(10) ack 1");
    script.write(10);
    script.write(10);
    script.run("> nothing\n< . 1:1(0) ack 11\n> . 11:31(20) ack 1");
    script.write(1500);
    script.run("> . 31:1031(1000) ack 1\n> nothing\n< . 1:1(0) ack 31\n> . 1031:1531(500) ack 1");
}

#[test]
fn without_delay_small_segments_go_at_once() {
    let mut script = Script::connected("mss 1000");
    set(&mut script, StreamOption::NoDelay(true));
    script.write(10);
    script.run("> . 1:11(10) ack 1");
    script.write(10);
    script.run("> . 11:21(10) ack 1");
}

#[test]
fn a_cork_keeps_small_segments_for_a_while() {
    let mut script = Script::connected("mss 1000");
    set(&mut script, StreamOption::Cork(true));
    script.write(10);
    script.write(10);
    script.run("> nothing\n+0.2 > . 1:21(20) ack 1\n< . 1:1(0) ack 21");
    script.write(1500);
    script.run("> . 21:1021(1000) ack 1\n> nothing");
    set(&mut script, StreamOption::Cork(false));
    script.run("> . 1021:1521(500) ack 1");
}

#[test]
fn more_is_waited_for() {
    let mut script = Script::connected("mss 1000");
    script.write_with(10, WriteOptions { more: true, urgent: false });
    script.run("> nothing");
    script.write(10);
    script.run("> . 1:21(20) ack 1");
}

#[test]
fn urgent_data_is_pointed_to() {
    let mut script = Script::connected("mss 1000");
    script.write_with(5, WriteOptions { more: false, urgent: true });
    script.run("> .U 1:6(5) ack 1 urg 5\n< . 1:1(0) ack 6");
    script.write(5);
    script.run("> . 6:11(5) ack 1");
}

#[test]
fn a_closed_window_is_probed_with_growing_pauses() {
    let mut script = Script::connected("mss 1000");
    script.write(500);
    script.run("> . 1:501(500) ack 1\n< . 1:1(0) ack 501 win 0");
    script.write(2000);
    // A number that was acknowledged: the peer answers with its window.
    script.run(
        "> nothing
         +0.2 > . 500:500(0) ack 1
         < . 1:1(0) ack 501 win 0
         +0.4 > . 500:500(0) ack 1
         +0.8 > . 500:500(0) ack 1
         +1.6 > . 500:500(0) ack 1
         < . 1:1(0) ack 501 win 2000
         > . 501:1501(1000) ack 1
         > . 1501:2501(1000) ack 1",
    );
}

#[test]
fn a_window_smaller_than_a_segment_is_not_filled_in_small_pieces() {
    let mut script = Script::connected("mss 1000");
    script.write(3000);
    script.run(
        "> . 1:1001(1000) ack 1
         > . 1001:2001(1000) ack 1
         > . 2001:3001(1000) ack 1
         < . 1:1(0) ack 3001 win 100",
    );
    script.write(1000);
    script.run("> nothing");
}

#[test]
fn a_silent_peer_is_probed_and_given_up() {
    let mut script = Script::connected("mss 1000");
    set(&mut script, StreamOption::KeepAlive(true));
    set(&mut script, StreamOption::KeepIdle(Duration::from_secs(10)));
    set(&mut script, StreamOption::KeepInterval(Duration::from_secs(5)));
    set(&mut script, StreamOption::KeepCount(2));
    script.run(
        "+10 > . 0:0(0) ack 1
         < . 1:1(0) ack 1
         +10 > . 0:0(0) ack 1
         +5 > . 0:0(0) ack 1
         +5 > R. 1:1(0) ack 1",
    );
    assert_eq!(script.read(10), Err(Error::TimedOut));
}

#[test]
fn a_users_time_out_ends_a_connection_that_gets_nothing_through() {
    let mut script = Script::connected("mss 1000");
    set(&mut script, StreamOption::UserTimeout(Some(Duration::from_secs(1))));
    script.write(10);
    script.run("> . 1:11(10) ack 1\n+0.2 > . 1:11(10) ack 1\n+0.4 > . 1:11(10) ack 1\n+0.7");
    assert_eq!(script.host.stack.take_error(script.socket), Ok(Some(Error::TimedOut)));
}

#[test]
fn a_router_that_takes_less_is_believed_and_what_was_too_long_is_cut_anew() {
    let mut script = Script::connected("mss 1460");
    script.write(2920);
    script.run("> . 1:1461(1460) ack 1\n> . 1461:2921(1460) ack 1");
    script.too_big(99_999, 1000);
    script.run("> nothing");
    script.too_big(1, 1000);
    script.run(
        "> . 1:961(960) ack 1
         > . 961:1461(500) ack 1
         > . 1461:2421(960) ack 1
         > . 2421:2921(500) ack 1
         < . 1:1(0) ack 2921",
    );
    script.write(960);
    script.run("> . 2921:3881(960) ack 1");
}

#[test]
fn a_link_that_cuts_segments_is_given_long_ones() {
    let mut options = Options::new(1);
    options.capabilities = Capabilities { checksum: false, segmentation: 65_000 };
    let mut script = Script::connected_with(options, "mss 1000");
    script.write(9500);
    script.run("> . 1:9501(9500) ack 1\n< . 1:1(0) ack 9501");
}

#[test]
fn a_writer_is_told_when_there_is_room_again() {
    let mut script = Script::connected("mss 1000");
    let socket = script.socket;
    script.host.stack.set_option(socket, SocketOption::SendBuffer(10_000)).unwrap();
    assert_eq!(script.write(20_000), 10_000);
    let now = script.now;
    let full = script.host.stack.send(socket, b"x", WriteOptions::default(), now);
    assert_eq!(full, Err(Error::WouldBlock));
    assert!(!script.host.stack.readiness(socket).unwrap().contains(Readiness::WRITABLE));
    script.host.events();
    script.skip();
    script.run("< . 1:1(0) ack 2001");
    assert_eq!(script.host.event(socket), None, "not for every acknowledgement");
    script.run("< . 1:1(0) ack 5001");
    assert_eq!(script.host.event(socket).unwrap().edges, Readiness::WRITABLE);
}
