//! How connections end.

use crate::kit::{Options, script::Script};
use bulkhead_netstack::{
    Error, WriteOptions,
    socket::{Readiness, Shutdown},
    tcp::{State, StreamOption},
};

fn shut(script: &mut Script, how: Shutdown) {
    let (socket, now) = (script.socket, script.now);
    script.host.stack.shutdown(socket, how, now).unwrap();
}

fn close(script: &mut Script) {
    let (socket, now) = (script.socket, script.now);
    script.host.stack.close(socket, now).unwrap();
}

fn state(script: &Script) -> State {
    script.host.stack.info(script.socket).unwrap().state
}

#[test]
fn one_direction_can_end_before_the_other() {
    let mut script = Script::connected("mss 1000");
    script.write(10);
    script.run("> . 1:11(10) ack 1");
    shut(&mut script, Shutdown::Write);
    script.run("> F. 11:11(0) ack 1");
    let (socket, now) = (script.socket, script.now);
    let broken = script.host.stack.send(socket, b"x", WriteOptions::default(), now);
    assert_eq!(broken, Err(Error::BrokenPipe));
    assert_eq!(state(&script), State::FinWait1);
    script.run("< . 1:1(0) ack 12\n< . 1:101(100) ack 12\n> . 12:12(0) ack 101");
    assert_eq!(state(&script), State::FinWait2);
    assert_eq!(script.read(1000), Ok(100));
    script.run("< F. 101:101(0) ack 12\n> . 12:12(0) ack 102");
    assert_eq!(script.read(1000), Ok(0));
    assert!(script.host.stack.readiness(socket).unwrap().contains(Readiness::HANG_UP | Readiness::READ_HANG_UP));
}

#[test]
fn an_end_goes_with_the_last_bytes() {
    let mut script = Script::connected("mss 1000");
    script.write_with(10, WriteOptions { more: true, urgent: false });
    shut(&mut script, Shutdown::Write);
    script.run("> F. 1:11(10) ack 1\n+0.2 > F. 1:11(10) ack 1");
}

#[test]
fn the_peer_can_end_first() {
    let mut script = Script::connected("mss 1000");
    let socket = script.socket;
    script.host.events();
    script.run("< F. 1:1(0) ack 1\n> . 1:1(0) ack 2");
    let event = script.host.event(socket).unwrap();
    assert!(event.readiness.contains(Readiness::READABLE | Readiness::READ_HANG_UP | Readiness::WRITABLE));
    assert!(!event.readiness.contains(Readiness::HANG_UP));
    assert_eq!((state(&script), script.read(10)), (State::CloseWait, Ok(0)));
    script.write(10);
    script.run("> . 1:11(10) ack 2\n< . 2:2(0) ack 11");
    close(&mut script);
    script.run("> F. 11:11(0) ack 2\n< . 2:2(0) ack 12");
    assert_eq!(script.host.stack.streams().len(), 1, "only the listener: who closes last need not wait");
}

#[test]
fn both_can_end_at_the_same_time() {
    let mut script = Script::connected("mss 1000");
    shut(&mut script, Shutdown::Write);
    script.run("> F. 1:1(0) ack 1\n< F. 1:1(0) ack 1\n> . 2:2(0) ack 2");
    assert_eq!(state(&script), State::Closing);
    script.run("< . 2:2(0) ack 2");
    assert!(script.host.stack.streams().iter().any(|stream| stream.2 == State::TimeWait));
}

#[test]
fn what_is_over_is_remembered_for_a_minute() {
    let mut script = Script::connected("mss 1000");
    close(&mut script);
    script.run(
        "> F. 1:1(0) ack 1
         < F. 1:1(0) ack 2
         > . 2:2(0) ack 2
         +1 < F. 1:1(0) ack 2
         > . 2:2(0) ack 2
         +0.1 < F. 1:1(0) ack 2
         > nothing
         +59.8",
    );
    assert_eq!(script.host.stack.streams().len(), 2, "the end that came again began the minute again");
    script.run("+0.3");
    assert_eq!(script.host.stack.streams().len(), 1);
}

#[test]
fn a_later_syn_ends_the_wait_and_an_old_one_does_not() {
    let mut script = Script::connected("mss 1000");
    close(&mut script);
    script.run("> F. 1:1(0) ack 1\n< F. 1:1(0) ack 2\n> . 2:2(0) ack 2");
    script.run("+1 < S 1:1(0) <mss 1000>\n> . 2:2(0) ack 2\n< S 70000:70000(0) <mss 1000>\n> S. 0:0(0) ack 70001");
}

#[test]
fn unread_bytes_make_closing_a_reset() {
    let mut script = Script::connected("mss 1000");
    script.run("< . 1:101(100) ack 1\n> . 1:1(0) ack 101");
    close(&mut script);
    script.run("> R. 1:1(0) ack 101");
    assert_eq!(script.host.stack.streams().len(), 1);
}

#[test]
fn bytes_that_come_after_closing_are_answered_by_a_reset() {
    let mut script = Script::connected("mss 1000");
    close(&mut script);
    script.run("> F. 1:1(0) ack 1\n< . 1:1(0) ack 2\n< . 1:101(100) ack 2\n> R. 2:2(0) ack 1");
    assert_eq!(script.host.stack.streams().len(), 1);
}

#[test]
fn lingering_for_no_time_is_a_reset() {
    let mut script = Script::connected("mss 1000");
    let (socket, now) = (script.socket, script.now);
    script.host.stack.set_stream_option(socket, StreamOption::ResetOnClose(true), now).unwrap();
    close(&mut script);
    script.run("> R. 1:1(0) ack 1");
    assert_eq!(script.host.stack.streams().len(), 1);
}

#[test]
fn a_peer_that_never_ends_is_not_waited_for_when_nobody_reads() {
    let mut script = Script::connected("mss 1000");
    close(&mut script);
    script.run("> F. 1:1(0) ack 1\n< . 1:1(0) ack 2\n+59.9");
    assert_eq!(script.host.stack.streams().len(), 2);
    script.run("+0.2");
    assert_eq!(script.host.stack.streams().len(), 1);
}

#[test]
fn an_orphan_that_gets_no_answer_is_given_up() {
    let mut options = Options::new(1);
    options.config.tcp.orphan_retries = 3;
    let mut script = Script::connected_with(options, "mss 1000");
    script.write(10);
    close(&mut script);
    script.run("> F. 1:11(10) ack 1\n+0.2 > F. 1:11(10) ack 1\n+0.4 > F. 1:11(10) ack 1\n+0.8 > F. 1:11(10) ack 1\n+2");
    assert_eq!(script.host.stack.streams().len(), 1);
}

#[test]
fn what_was_received_before_a_reset_can_be_read_but_the_error_is_told() {
    let mut script = Script::connected("mss 1000");
    script.run("< . 1:101(100) ack 1\n> . 1:1(0) ack 101\n< R. 101:101(0) ack 1");
    assert_eq!(script.read(1000), Ok(100));
    assert_eq!(script.read(1000), Err(Error::ConnectionReset));
    assert_eq!(script.read(1000), Ok(0));
}
