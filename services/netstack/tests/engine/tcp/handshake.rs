//! How connections begin.

use crate::kit::{Options, at, host, link::Link, script::Script, v4};
use bulkhead_netstack::{
    Error,
    socket::{Family, Kind, Readiness},
    stack::Drop,
    tcp::{Cookies, Ecn, State},
};

fn syns(script: &mut Script, ports: std::ops::Range<u16>) {
    for port in ports {
        script.reconnect(port);
        script.run("< S 0:0(0) win 65535 <mss 1460>");
    }
}

#[test]
fn a_server_grants_what_is_asked_and_accepts() {
    let mut script = Script::server(Options::new(1));
    script.run(
        "< S 0:0(0) win 65535 <mss 1460, sackok, ts 7 0, wscale 5>
         > S. 0:0(0) ack 1 win 65535 <mss 1460, sackok, ts 7, wscale 7>",
    );
    assert_eq!(script.host.stack.accept(script.socket).unwrap_err(), Error::WouldBlock);
    assert_eq!(script.host.event(script.socket), None);
    script.run("< . 1:1(0) ack 1 win 100 <ts 8 .>\n> nothing");
    assert_eq!(script.host.event(script.socket).unwrap().readiness, Readiness::READABLE);
    script.accept();
    let info = script.host.stack.info(script.socket).unwrap();
    assert_eq!((info.state, info.mss, info.window_scale, info.peer_window), (State::Established, 1448, (5, 7), 3200));
    assert!(info.sack && info.timestamps && !info.ecn);
}

#[test]
fn a_server_asks_for_nothing_that_was_not_offered() {
    let mut script = Script::server(Options::new(1));
    script.run("< S 0:0(0) win 65535\n> S. 0:0(0) ack 1 <mss 1460>\n< . 1:1(0) ack 1 win 1000");
    script.accept();
    let info = script.host.stack.info(script.socket).unwrap();
    assert_eq!((info.mss, info.window_scale, info.sack, info.timestamps), (536, (0, 0), false, false));
    assert_eq!(info.peer_window, 1000);
}

#[test]
fn a_client_connects() {
    let mut script = Script::client(Options::new(1));
    script.run("> S 0:0(0) win 65535 <mss 1460, sackok, ts, wscale 7>");
    assert!(!script.host.stack.readiness(script.socket).unwrap().contains(Readiness::WRITABLE));
    let (socket, now) = (script.socket, script.now);
    let again = script.host.stack.connect(socket, at(v4(2), 80), now);
    assert_eq!(again, Err(Error::Already));
    script.run("< S. 0:0(0) ack 1 win 65535 <mss 1000, sackok, ts 5 ., wscale 3>\n> . 1:1(0) ack 1 <ts 5>");
    assert!(script.host.event(socket).unwrap().edges.contains(Readiness::WRITABLE));
    let again = script.host.stack.connect(socket, at(v4(2), 80), now);
    assert_eq!(again, Err(Error::IsConnected));
}

#[test]
fn a_syn_is_repeated_with_doubled_pauses_and_given_up() {
    let mut script = Script::client(Options::new(1));
    script.run(
        "> S 0:0(0)
         +1 > S 0:0(0)
         +2 > S 0:0(0)
         +4 > S 0:0(0)
         +8 > S 0:0(0)
         +16 > S 0:0(0)
         +32 > S 0:0(0)
         +63.9
         > nothing",
    );
    assert_eq!(script.host.stack.take_error(script.socket), Ok(None));
    script.run("+0.2");
    assert_eq!(script.host.stack.take_error(script.socket), Ok(Some(Error::TimedOut)));
}

#[test]
fn a_refusal_is_believed_only_if_it_answers_our_syn() {
    let mut script = Script::client(Options::new(1));
    script.run("> S 0:0(0)\n< R. 0:0(0) ack 99");
    assert_eq!(script.host.stack.info(script.socket).unwrap().state, State::SynSent);
    script.run("< R. 0:0(0) ack 1");
    let readiness = script.host.stack.readiness(script.socket).unwrap();
    assert!(readiness.contains(Readiness::ERROR | Readiness::HANG_UP | Readiness::READABLE | Readiness::WRITABLE));
    assert_eq!(script.host.stack.take_error(script.socket), Ok(Some(Error::ConnectionRefused)));
}

#[test]
fn an_acknowledgement_of_another_syn_is_reset() {
    let mut script = Script::client(Options::new(1));
    script.run("> S 0:0(0)\n< S. 0:0(0) ack 99\n> R 99:99(0)");
    assert_eq!(script.host.stack.info(script.socket).unwrap().state, State::SynSent);
}

#[test]
fn both_can_ask_at_the_same_time() {
    let mut script = Script::client(Options::new(1));
    script.run(
        "> S 0:0(0)
         < S 0:0(0) win 65535 <mss 1000, sackok>
         > S. 0:0(0) ack 1
         < S. 0:0(0) ack 1 win 65535 <mss 1000, sackok>",
    );
    assert_eq!(script.host.stack.info(script.socket).unwrap().state, State::Established);
}

#[test]
fn where_nobody_listens_a_reset_answers() {
    let mut script = Script::client(Options::new(1));
    script.run("> S 0:0(0)");
    script.reconnect(999);
    script.run(
        "< S 0:0(0)
         > R. 0:0(0) ack 1
         < . 5:15(10) ack 77
         > R 77:77(0)
         < R 5:5(0)
         > nothing",
    );
}

#[test]
fn a_syn_ack_is_repeated_until_it_is_answered_or_given_up() {
    let mut script = Script::server(Options::new(1));
    script.run(
        "< S 0:0(0) <mss 1460>
         > S. 0:0(0) ack 1
         +0.5 < S 0:0(0) <mss 1460>
         > S. 0:0(0) ack 1
         +0.5 > S. 0:0(0) ack 1
         +2 > S. 0:0(0) ack 1
         +4 > S. 0:0(0) ack 1
         +8 > S. 0:0(0) ack 1
         +16 > S. 0:0(0) ack 1
         +100",
    );
    assert_eq!(script.host.stack.streams().len(), 1, "only the listener is left");
}

#[test]
fn a_full_accept_queue_drops_and_the_peer_tries_again() {
    let mut script = Script::server(Options::new(1));
    // The backlog is one: two fit, as on Linux.
    let mut asked = Vec::new();
    for port in 6000..6003 {
        script.reconnect(port);
        script.run("< S 0:0(0) <mss 1460>\n> S. 0:0(0) ack 1");
        asked.push((port, script.engine_iss));
    }
    for (port, iss) in asked {
        script.resume(port, iss);
        script.run("< . 1:1(0) ack 1\n> nothing");
    }
    assert_eq!(script.host.stack.counters().dropped(Drop::TcpListenOverflow), 1);
    script.reconnect(6003);
    script.run("< S 0:0(0) <mss 1460>\n> nothing");
    script.accept();
    script.reconnect(6004);
    script.run("< S 0:0(0) <mss 1460>\n> S. 0:0(0) ack 1\n< . 1:11(10) ack 1");
    assert_eq!(script.host.stack.accept(script.listener.unwrap()).unwrap().1, at(v4(2), 6001));
    assert_eq!(script.host.stack.accept(script.listener.unwrap()).unwrap().1, at(v4(2), 6004));
}

#[test]
fn a_flood_is_answered_with_cookies_and_costs_nothing() {
    let mut script = Script::server(Options::new(1));
    syns(&mut script, 10_000..10_500);
    let sockets = script.host.stack.socket_count();
    assert!(sockets < 20, "{sockets} sockets");
    script.skip();
    script.reconnect(20_000);
    script.run(
        "< S 0:0(0) win 65535 <mss 1460, sackok, ts 7 0, wscale 5>
         > S. 0:0(0) ack 1 <sackok, ts 7, wscale 7>
         < . 1:11(10) ack 1 win 100 <ts 8 .>
         > . 1:1(0) ack 11",
    );
    script.accept();
    let info = script.host.stack.info(script.socket).unwrap();
    assert_eq!((info.mss, info.window_scale, info.sack, info.receive_queue), (1448, (5, 7), true, 10));
}

#[test]
fn a_made_up_cookie_is_reset_and_without_a_flood_none_is_looked_at() {
    let mut script = Script::server(Options::new(1));
    script.run("< . 1:1(0) ack 4711\n> R 4711:4711(0)");
    assert_eq!(script.host.stack.counters().dropped(Drop::TcpBadCookie), 0);
    syns(&mut script, 10_000..10_100);
    script.skip();
    script.reconnect(20_000);
    script.run("< . 1:1(0) ack 4711\n> R 4711:4711(0)");
    assert_eq!(script.host.stack.counters().dropped(Drop::TcpBadCookie), 1);
}

#[test]
fn without_cookies_a_flood_fills_the_queue_and_no_more() {
    let mut options = Options::new(1);
    options.config.tcp.cookies = Cookies::Off;
    let mut script = Script::server(options);
    syns(&mut script, 10_000..10_500);
    assert!(script.host.stack.socket_count() < 20);
    assert!(script.host.stack.counters().dropped(Drop::TcpListenOverflow) > 480);
}

#[test]
fn ecn_is_granted_to_those_who_ask() {
    let mut script = Script::server(Options::new(1));
    script.run("< SEW 0:0(0) <mss 1460>\n> S.E 0:0(0) ack 1\n< . 1:1(0) ack 1");
    script.accept();
    assert!(script.host.stack.info(script.socket).unwrap().ecn);
    let mut options = Options::new(1);
    options.config.tcp.ecn = Ecn::On;
    let mut script = Script::client(options);
    script.run("> SEW 0:0(0)\n+1 > S 0:0(0)\n< S.E 0:0(0) ack 1 <mss 1460>\n> . 1:1(0) ack 1");
}

#[test]
fn a_listener_that_closes_resets_what_waits_there() {
    let mut script = Script::server(Options::new(1));
    script.run("< S 0:0(0) <mss 1460>\n> S. 0:0(0) ack 1\n< . 1:1(0) ack 1");
    let (socket, now) = (script.socket, script.now);
    script.host.stack.close(socket, now).unwrap();
    script.run("> R. 1:1(0) ack 1");
    assert_eq!(script.host.stack.socket_count(), 1, "the datagram socket of the kit");
}

#[test]
fn a_dual_stack_listener_accepts_both_families_and_ports_are_chosen() {
    let mut link = Link::new(host(1), host(2));
    let now = link.now;
    let server = link.hosts[1].stack.socket(Family::V6, Kind::Stream, 0).unwrap();
    link.hosts[1].stack.bind(server, "[::]:80".parse().unwrap()).unwrap();
    link.hosts[1].stack.listen(server, 10).unwrap();
    for (family, to) in [(Family::V4, v4(2)), (Family::V6, crate::kit::v6(2))] {
        let client = link.hosts[0].stack.socket(family, Kind::Stream, 0).unwrap();
        assert_eq!(link.hosts[0].stack.connect(client, at(to, 80), now), Err(Error::InProgress));
        link.run(20);
        let (accepted, peer) = link.hosts[1].stack.accept(server).unwrap();
        assert!(peer.is_ipv6());
        let own = link.hosts[0].stack.local_address(client).unwrap();
        assert_eq!(own.port() % 2, 0, "connections take even ports");
        assert_eq!(peer.port(), own.port());
        assert_eq!(link.hosts[1].stack.local_address(accepted).unwrap().port(), 80);
    }
}

#[test]
fn a_host_that_is_not_there_is_found_unreachable() {
    let mut link = Link::new(host(1), host(2));
    let client = link.hosts[0].stack.socket(Family::V4, Kind::Stream, 0).unwrap();
    let now = link.now;
    let _ = link.hosts[0].stack.connect(client, at(v4(77), 80), now);
    link.run(3500);
    assert_eq!(link.hosts[0].stack.take_error(client), Ok(Some(Error::HostUnreachable)));
}
