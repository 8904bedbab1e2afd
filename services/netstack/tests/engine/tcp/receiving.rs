//! What a receiver does: acknowledgements, windows, what is out of order, old or forged, urgent data.

use crate::kit::script::Script;
use bulkhead_netstack::{
    Error,
    socket::{Readiness, SocketOption},
    stack::Drop,
    tcp::{State, StreamOption},
};

#[test]
fn at_first_each_segment_is_acknowledged_then_every_second_or_after_a_delay() {
    let mut script = Script::connected("mss 1460");
    for segment in 0..16 {
        let (from, to) = (1 + segment * 1000, 1001 + segment * 1000);
        script.run(&format!("< . {from}:{to}(1000) ack 1\n> . 1:1(0) ack {to}"));
        script.read(1000).unwrap();
    }
    script.run(
        "< . 16001:17001(1000) ack 1
         > nothing
         < . 17001:18001(1000) ack 1
         > . 1:1(0) ack 18001
         < . 18001:19001(1000) ack 1
         +0.04 > . 1:1(0) ack 19001",
    );
}

#[test]
fn quickack_ends_the_delay() {
    let mut script = Script::connected("mss 1460");
    let (socket, now) = (script.socket, script.now);
    script.host.stack.set_stream_option(socket, StreamOption::QuickAck(false), now).unwrap();
    script.run("< . 1:11(10) ack 1\n> nothing");
    script.host.stack.set_stream_option(socket, StreamOption::QuickAck(true), now).unwrap();
    script.run("> . 1:1(0) ack 11\n< . 11:21(10) ack 1\n> . 1:1(0) ack 21");
}

#[test]
fn an_answer_carries_the_acknowledgement() {
    let mut script = Script::connected("mss 1460");
    for round in 0..3 {
        let at = 1 + round * 10;
        let (peer, own) = (at + 10, at);
        script.run(&format!("< . {at}:{peer}(10) ack {own}"));
        if round == 0 {
            script.run("> . 1:1(0) ack 11");
        } else {
            script.run("> nothing");
        }
        script.read(10).unwrap();
        script.write(10);
        script.run(&format!("> . {own}:{}(10) ack {peer}", own + 10));
    }
}

#[test]
fn gaps_are_reported_the_latest_first_and_filled() {
    let mut script = Script::connected("mss 1000, sackok");
    script.run(
        "< . 1001:2001(1000) ack 1
         > . 1:1(0) ack 1 <sack 1001:2001>
         < . 3001:4001(1000) ack 1
         > . 1:1(0) ack 1 <sack 3001:4001 1001:2001>
         < . 2001:2501(500) ack 1
         > . 1:1(0) ack 1 <sack 1001:2501 3001:4001>
         < . 1:1001(1000) ack 1
         > . 1:1(0) ack 2501 <sack 3001:4001>
         < . 2501:3001(500) ack 1
         > . 1:1(0) ack 4001",
    );
    assert_eq!(script.read(10_000), Ok(4000));
}

#[test]
fn what_arrives_twice_is_reported() {
    let mut script = Script::connected("mss 1000, sackok");
    script.run(
        "< . 1:1001(1000) ack 1
         > . 1:1(0) ack 1001
         < . 1:1001(1000) ack 1
         > . 1:1(0) ack 1001 <sack 1:1001>
         < . 2001:3001(1000) ack 1
         > . 1:1(0) ack 1001 <sack 2001:3001>
         < . 2501:3001(500) ack 1
         > . 1:1(0) ack 1001 <sack 2501:3001 2001:3001>",
    );
}

#[test]
fn without_sack_each_segment_out_of_order_is_answered() {
    let mut script = Script::connected("mss 1000");
    script.run(
        "< . 1001:2001(1000) ack 1
         > . 1:1(0) ack 1
         < . 2001:3001(1000) ack 1
         > . 1:1(0) ack 1
         < . 1:1001(1000) ack 1
         > . 1:1(0) ack 3001",
    );
}

#[test]
fn the_window_closes_and_opens_in_one_step() {
    let mut script = Script::connected("mss 1000");
    let socket = script.socket;
    script.host.stack.set_option(socket, SocketOption::ReceiveBuffer(131_072)).unwrap();
    for segment in 0..65 {
        let (from, to) = (1 + segment * 1000, 1001 + segment * 1000);
        script.run(&format!("< . {from}:{to}(1000) ack 1"));
    }
    script.skip();
    script.run("< . 65001:65536(535) ack 1\n> . 1:1(0) ack 65536 win 0");
    script.run("< . 65536:65537(1) ack 1\n> . 1:1(0) ack 65536 win 0");
    assert_eq!(script.read(900), Ok(900));
    script.run("> nothing");
    assert_eq!(script.read(200), Ok(200));
    script.run("> . 1:1(0) ack 65536 win 1101");
    assert_eq!(script.read(70_000), Ok(64_435));
    script.run("> . 1:1(0) ack 65536 win 65535");
}

#[test]
fn an_old_timestamp_is_refused() {
    let mut script = Script::connected("mss 1000, sackok, ts 100 0");
    script.run(
        "< . 1:11(10) ack 1 <ts 200 .>
         > . 1:1(0) ack 11 <ts 200>
         < . 11:21(10) ack 1 <ts 199 .>
         > . 1:1(0) ack 11 <ts 200>
         < . 11:21(10) ack 1 <ts 200 .>
         > . 1:1(0) ack 21",
    );
    assert_eq!(script.host.stack.counters().dropped(Drop::TcpUnacceptable), 1);
}

#[test]
fn a_reset_is_believed_only_at_the_very_next_number() {
    let mut script = Script::connected("mss 1000");
    script.run(
        "< R 500:500(0)
         > . 1:1(0) ack 1
         < R 501:501(0)
         > nothing
         +0.5 < R 501:501(0)
         > . 1:1(0) ack 1
         < R 900001:900001(0)
         > nothing
         < R 1:1(0)",
    );
    assert_eq!(script.read(10), Err(Error::ConnectionReset));
    assert_eq!(script.read(10), Ok(0));
}

#[test]
fn a_syn_in_a_connection_is_challenged() {
    let mut script = Script::connected("mss 1000");
    script.run("< S 500:500(0) win 1000\n> . 1:1(0) ack 1");
    assert_eq!(script.host.stack.info(script.socket).unwrap().state, State::Established);
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_challenged_and_its_data_dropped() {
    let mut script = Script::connected("mss 1000");
    script.run("< . 1:11(10) ack 2\n> . 1:1(0) ack 1");
    script.run("+0.5 < . 1:11(10) ack 4294867295\n> . 1:1(0) ack 1");
    assert_eq!(script.read(10), Err(Error::WouldBlock));
}

#[test]
fn the_urgent_byte_is_read_beside_and_reads_stop_at_the_mark() {
    let mut script = Script::connected("mss 1000");
    let socket = script.socket;
    script.host.events();
    script.run("< .U 1:11(10) ack 1 urg 5\n> . 1:1(0) ack 11");
    assert!(script.host.event(socket).unwrap().readiness.contains(Readiness::PRIORITY | Readiness::READABLE));
    // The byte before the pointer: number 5.
    assert_eq!(script.host.stack.recv_urgent(socket, true), Ok(5));
    assert_eq!(script.host.stack.at_mark(socket), Ok(false));
    assert_eq!(script.read(100), Ok(4));
    assert_eq!(script.host.stack.at_mark(socket), Ok(true));
    assert_eq!(script.host.stack.recv_urgent(socket, false), Ok(5));
    assert_eq!(script.host.stack.recv_urgent(socket, false), Err(Error::InvalidArgument));
    assert_eq!(script.read(100), Ok(5));
    assert_eq!(script.read(100), Err(Error::WouldBlock));
}

#[test]
fn an_urgent_byte_in_line_is_read_like_others() {
    let mut script = Script::connected("mss 1000");
    let (socket, now) = (script.socket, script.now);
    script.host.stack.set_stream_option(socket, StreamOption::UrgentInline(true), now).unwrap();
    script.run("< .U 1:11(10) ack 1 urg 5");
    assert_eq!(script.read(100), Ok(4));
    assert_eq!(script.host.stack.recv_urgent(socket, false), Err(Error::InvalidArgument));
    assert_eq!(script.read(100), Ok(6));
}

#[test]
fn marks_are_echoed_until_the_sender_has_reduced() {
    let script = Script::connected("mss 1000");
    assert!(!script.host.stack.info(script.socket).unwrap().ecn);
    let mut script = Script::server(crate::kit::Options::new(1));
    script.run("< SEW 0:0(0) <mss 1000>\n> S.E 0:0(0) ack 1\n< . 1:1(0) ack 1");
    script.accept();
    script.tos = 3;
    script.run("< . 1:1001(1000) ack 1\n> .E 1:1(0) ack 1001");
    script.tos = 2;
    script.run("< . 1001:2001(1000) ack 1\n> .E 1:1(0) ack 2001\n< .W 2001:3001(1000) ack 1\n> . 1:1(0) ack 3001");
}

#[test]
fn data_beyond_the_window_is_not_taken() {
    let mut script = Script::connected("mss 1000");
    script.run("< . 65000:66000(1000) ack 1\n> . 1:1(0) ack 1\n< . 99001:99011(10) ack 1\n> . 1:1(0) ack 1");
    assert_eq!(script.host.stack.counters().dropped(Drop::TcpUnacceptable), 1);
}

#[test]
fn peeking_leaves_everything_as_it_is() {
    let mut script = Script::connected("mss 1000");
    script.run("< . 1:101(100) ack 1\n> . 1:1(0) ack 101");
    let (socket, now) = (script.socket, script.now);
    let mut bytes = [0; 200];
    assert_eq!(script.host.stack.recv(socket, &mut bytes, true, now), Ok(100));
    assert_eq!(script.host.stack.recv(socket, &mut bytes, false, now), Ok(100));
    assert_eq!(bytes[..100], (1..=100).collect::<Vec<u8>>());
}
