//! What lies beneath TCP, end to end: neighbours, echoes, datagrams, fragments, errors, groups.

use crate::kit::{
    Host, Options, at, host, host_with,
    link::{Link, Trouble},
    ms, v4, v6,
};
use bulkhead_netstack::{
    Error, SendOptions,
    ip::{Fragmentation, Prefix},
    link::{NeighbourState, offload::Received},
    socket::{Family, Handle, Kind, Readiness, Shutdown, SocketOption},
    stack::Drop,
};
use std::net::IpAddr;

fn pair() -> Link {
    Link::new(host(1), host(2))
}

fn udp(host: &mut Host, port: u16) -> Handle {
    let socket = host.stack.socket(Family::V6, Kind::Datagram, 0).unwrap();
    host.stack.bind(socket, at("::".parse().unwrap(), port)).unwrap();
    socket
}

/// The address of a host as a socket of AF_INET6 writes it.
fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().into(),
        six => six,
    }
}

fn send(link: &mut Link, from: Handle, to: IpAddr, data: &[u8]) -> Result<usize, Error> {
    let now = link.now;
    link.hosts[0].stack.send_to(from, data, Some(at(mapped(to), 7)), &SendOptions::default(), now)
}

#[test]
fn a_datagram_arrives_after_its_neighbour_was_found() {
    for to in [v4(2), v6(2)] {
        let mut link = pair();
        let (from, socket) = (udp(&mut link.hosts[0], 5), udp(&mut link.hosts[1], 7));
        assert_eq!(send(&mut link, from, to, b"hello"), Ok(5));
        link.run(10);
        assert_eq!(link.hosts[1].event(socket).unwrap().edges, Readiness::READABLE);
        let message = link.hosts[1].stack.receive_from(socket, false).unwrap();
        assert_eq!(message.data, b"hello");
        assert_eq!(message.source, at(mapped(if to.is_ipv4() { v4(1) } else { v6(1) }), 5));
        assert_eq!(message.destination, to);
        assert_eq!(link.hosts[1].stack.receive_from(socket, false), Err(Error::WouldBlock));
        let eth = link.hosts[0].eth;
        let neighbours = link.hosts[0].stack.neighbours(eth).unwrap();
        assert_eq!(neighbours.iter().map(|one| (one.address, one.state)).collect::<Vec<_>>(), [(to, NeighbourState::Reachable)]);
    }
}

#[test]
fn a_long_datagram_is_cut_and_put_together_again() {
    for to in [v4(2), v6(2)] {
        for length in [1472, 1473, 4000, 65_000] {
            let mut link = pair();
            let (from, socket) = (udp(&mut link.hosts[0], 5), udp(&mut link.hosts[1], 7));
            let data: Vec<u8> = (0..length).map(|byte| (byte * 31 % 251) as u8).collect();
            assert_eq!(send(&mut link, from, to, &data), Ok(length));
            link.run(10);
            assert_eq!(link.hosts[1].stack.receive_from(socket, false).unwrap().data, data);
        }
    }
}

#[test]
fn what_must_not_be_cut_is_refused() {
    let mut link = pair();
    let from = udp(&mut link.hosts[0], 5);
    link.hosts[0].stack.set_option(from, SocketOption::Fragmentation(Fragmentation::Forbidden)).unwrap();
    assert_eq!(send(&mut link, from, v4(2), &[0; 1472]), Ok(1472));
    assert_eq!(send(&mut link, from, v4(2), &[0; 1473]), Err(Error::MessageTooLong));
    assert_eq!(send(&mut link, from, v4(2), &[0; 65_600]), Err(Error::MessageTooLong));
}

#[test]
fn a_connected_socket_learns_that_nobody_has_the_port() {
    for to in [v4(2), v6(2)] {
        let mut link = pair();
        let socket = udp(&mut link.hosts[0], 5);
        let now = link.now;
        link.hosts[0].stack.connect(socket, at(mapped(to), 9), now).unwrap();
        link.hosts[0].stack.send_to(socket, b"?", None, &SendOptions::default(), now).unwrap();
        link.run(10);
        assert!(link.hosts[0].event(socket).unwrap().readiness.contains(Readiness::ERROR));
        assert_eq!(link.hosts[0].stack.take_error(socket), Ok(Some(Error::ConnectionRefused)));
        assert_eq!(link.hosts[0].stack.take_error(socket), Ok(None));
    }
}

#[test]
fn an_error_queue_says_who_reported_what() {
    let mut link = pair();
    let socket = udp(&mut link.hosts[0], 5);
    link.hosts[0].stack.set_option(socket, SocketOption::ReceiveErrors(true)).unwrap();
    send(&mut link, socket, v4(2), b"?").unwrap();
    link.run(10);
    let error = link.hosts[0].stack.receive_error(socket).unwrap();
    assert_eq!((error.error, error.reporter, error.kind), (Error::ConnectionRefused, v4(2), (3, 3)));
}

#[test]
fn errors_are_limited() {
    let mut link = pair();
    let socket = udp(&mut link.hosts[0], 5);
    for _ in 0..50 {
        send(&mut link, socket, v4(2), b"?").unwrap();
    }
    link.run(10);
    assert_eq!(link.hosts[1].stack.counters().dropped(Drop::NoSocket), 50);
    assert_eq!(link.hosts[1].stack.counters().dropped(Drop::IcmpRateLimit), 44);
}

#[test]
fn a_host_that_does_not_answer_is_unreachable() {
    let mut link = pair();
    let socket = udp(&mut link.hosts[0], 5);
    let now = link.now;
    link.hosts[0].stack.connect(socket, at(mapped(v4(99)), 9), now).unwrap();
    link.hosts[0].stack.send_to(socket, b"?", None, &SendOptions::default(), now).unwrap();
    link.run(2900);
    assert_eq!(link.hosts[0].stack.take_error(socket), Ok(None));
    link.run(200);
    assert_eq!(link.hosts[0].stack.take_error(socket), Ok(Some(Error::HostUnreachable)));
}

#[test]
fn a_ping_is_answered() {
    for (family, own, to, request) in [(Family::V4, v4(1), v4(2), 8), (Family::V6, v6(1), v6(2), 128)] {
        let mut link = pair();
        let now = link.now;
        let stack = &mut link.hosts[0].stack;
        let socket = stack.socket(family, Kind::Ping, 0).unwrap();
        let message = [request, 0, 0, 0, 0, 0, 0, 1, b'x', b'y'];
        stack.send_to(socket, &message, Some(at(to, 0)), &SendOptions::default(), now).unwrap();
        let ident = stack.local_address(socket).unwrap().port();
        link.run(10);
        let answer = link.hosts[0].stack.receive_from(socket, false).unwrap();
        assert_eq!((answer.source, answer.destination), (at(to, 0), own));
        assert_eq!(answer.data[4..], [(ident >> 8) as u8, ident as u8, 0, 1, b'x', b'y']);
    }
}

#[test]
fn a_raw_socket_sees_packets_with_their_headers() {
    let mut link = pair();
    let now = link.now;
    let raw = link.hosts[1].stack.socket(Family::V4, Kind::Raw { protocol: 200 }, 0).unwrap();
    let sender = link.hosts[0].stack.socket(Family::V4, Kind::Raw { protocol: 200 }, 0).unwrap();
    link.hosts[0].stack.send_to(sender, b"raw", Some(at(v4(2), 0)), &SendOptions::default(), now).unwrap();
    link.run(10);
    let seen = link.hosts[1].stack.receive_from(raw, false).unwrap();
    assert_eq!((seen.data[0], &seen.data[20..]), (0x45, &b"raw"[..]));
    assert_eq!(link.hosts[1].stack.counters().dropped(Drop::UnknownProtocol), 0);
}

#[test]
fn packets_to_ourselves_stay_here() {
    let mut one = host(1);
    let (a, b) = (udp(&mut one, 5), udp(&mut one, 7));
    for to in [v4(1), v6(1), "127.0.0.1".parse().unwrap(), "127.8.8.8".parse().unwrap(), "::1".parse().unwrap()] {
        one.stack.send_to(a, &vec![7; 40_000], Some(at(mapped(to), 7)), &SendOptions::default(), ms(0)).unwrap();
        assert!(one.drain(ms(0)).is_empty());
        assert_eq!(one.stack.receive_from(b, false).unwrap().source, at(mapped(to), 5), "it comes from where it goes");
    }
}

#[test]
fn a_receive_buffer_is_bounded_and_drops_are_counted() {
    let mut link = pair();
    let (from, socket) = (udp(&mut link.hosts[0], 5), udp(&mut link.hosts[1], 7));
    link.hosts[1].stack.set_option(socket, SocketOption::ReceiveBuffer(10_000)).unwrap();
    for _ in 0..20 {
        send(&mut link, from, v4(2), &[0; 1000]).unwrap();
    }
    link.run(10);
    let got = std::iter::from_fn(|| link.hosts[1].stack.receive_from(socket, false).ok()).count();
    assert_eq!((got, link.hosts[1].stack.counters().dropped(Drop::ReceiveBufferFull)), (7, 13));
}

#[test]
fn broadcasts_need_leave_and_reach_all_sockets() {
    let mut link = pair();
    let from = link.hosts[0].stack.socket(Family::V4, Kind::Datagram, 0).unwrap();
    let listeners: Vec<Handle> = (0..2)
        .map(|_| {
            let socket = link.hosts[1].stack.socket(Family::V4, Kind::Datagram, 0).unwrap();
            link.hosts[1].stack.set_option(socket, SocketOption::ReuseAddress(true)).unwrap();
            link.hosts[1].stack.bind(socket, "0.0.0.0:7".parse().unwrap()).unwrap();
            socket
        })
        .collect();
    let now = link.now;
    let to = Some("10.0.0.255:7".parse().unwrap());
    let stack = &mut link.hosts[0].stack;
    assert_eq!(stack.send_to(from, b"all", to, &SendOptions::default(), now), Err(Error::AccessDenied));
    stack.set_option(from, SocketOption::Broadcast(true)).unwrap();
    stack.send_to(from, b"all", to, &SendOptions::default(), now).unwrap();
    link.run(10);
    for socket in listeners {
        assert_eq!(link.hosts[1].stack.receive_from(socket, false).unwrap().data, b"all");
    }
}

#[test]
fn a_group_is_heard_by_its_members_only() {
    for (group, from) in [("239.1.2.3", Family::V4), ("ff05::1234", Family::V6)] {
        let mut link = pair();
        let group: IpAddr = group.parse().unwrap();
        let now = link.now;
        let socket = udp(&mut link.hosts[1], 7);
        let eth = link.hosts[1].eth;
        let sender = link.hosts[0].stack.socket(from, Kind::Datagram, 0).unwrap();
        let out = link.hosts[0].eth;
        link.hosts[0].stack.set_option(sender, SocketOption::MulticastInterface(Some(out))).unwrap();
        let send = |link: &mut Link| {
            link.hosts[0].stack.send_to(sender, b"group", Some(at(group, 7)), &SendOptions::default(), now).unwrap();
            link.run(5);
        };
        send(&mut link);
        assert_eq!(link.hosts[1].stack.receive_from(socket, false), Err(Error::WouldBlock));
        link.hosts[1].stack.join(socket, Some(eth), group, now).unwrap();
        let report = link.hosts[1].drain(now);
        assert_eq!(report.len(), 1, "a report of the membership");
        send(&mut link);
        assert_eq!(link.hosts[1].stack.receive_from(socket, false).unwrap().data, b"group");
        link.hosts[1].stack.leave(socket, Some(eth), group, now).unwrap();
        send(&mut link);
        assert_eq!(link.hosts[1].stack.receive_from(socket, false), Err(Error::WouldBlock));
    }
}

#[test]
fn without_a_route_there_is_no_way() {
    let mut one = host(1);
    let socket = udp(&mut one, 5);
    let to = Some(at(mapped("192.0.2.1".parse().unwrap()), 7));
    assert_eq!(one.stack.send_to(socket, b"x", to, &SendOptions::default(), ms(0)), Err(Error::NetworkUnreachable));
    let route = bulkhead_netstack::ip::Route {
        destination: Prefix::new("0.0.0.0".parse().unwrap(), 0),
        gateway: Some(v4(2)),
        interface: one.eth,
        metric: 0,
        source: None,
        mtu: None,
    };
    one.stack.add_route(route).unwrap();
    assert_eq!(one.stack.send_to(socket, b"x", to, &SendOptions::default(), ms(0)), Ok(1));
    let question = one.drain(ms(0));
    assert_eq!(question[0][12..14], [8, 6], "the router is asked for");
    assert_eq!(question[0][38..42], [10, 0, 0, 2]);
    one.stack.set_interface_up(one.eth, false).unwrap();
    assert_eq!(one.stack.send_to(socket, b"x", to, &SendOptions::default(), ms(0)), Err(Error::NetworkUnreachable));
}

#[test]
fn a_socket_that_is_shut_down_or_closed_receives_no_more() {
    let mut link = pair();
    let (from, socket) = (udp(&mut link.hosts[0], 5), udp(&mut link.hosts[1], 7));
    let now = link.now;
    assert_eq!(link.hosts[1].stack.shutdown(socket, Shutdown::Read, now), Err(Error::NotConnected));
    link.hosts[1].stack.close(socket, now).unwrap();
    assert_eq!(link.hosts[1].stack.receive_from(socket, false), Err(Error::BadHandle));
    send(&mut link, from, v4(2), b"x").unwrap();
    link.run(10);
    assert_eq!(link.hosts[1].stack.counters().dropped(Drop::NoSocket), 1);
    let again = udp(&mut link.hosts[1], 7);
    assert_ne!(again, socket);
}

#[test]
fn ports_are_shared_by_the_rules_of_linux() {
    let mut one = host_with(1, Options::new(1));
    let socket = udp(&mut one, 7);
    let other = one.stack.socket(Family::V4, Kind::Datagram, 0).unwrap();
    assert_eq!(one.stack.bind(other, "0.0.0.0:7".parse().unwrap()), Err(Error::AddressInUse));
    assert_eq!(one.stack.bind(other, "192.0.2.1:8".parse().unwrap()), Err(Error::AddressNotAvailable));
    assert_eq!(one.stack.bind(other, "[::1]:8".parse().unwrap()), Err(Error::FamilyNotSupported));
    one.stack.bind(other, "127.0.0.1:0".parse().unwrap()).unwrap();
    let chosen = one.stack.local_address(other).unwrap();
    assert!((32_768..=60_999).contains(&chosen.port()));
    assert_eq!(one.stack.bind(other, "127.0.0.1:8".parse().unwrap()), Err(Error::InvalidArgument));
    one.stack.close(socket, ms(0)).unwrap();
}

#[test]
fn frames_for_others_and_damaged_ones_are_dropped() {
    let mut link = pair();
    let (from, socket) = (udp(&mut link.hosts[0], 5), udp(&mut link.hosts[1], 7));
    send(&mut link, from, v4(2), b"first").unwrap();
    link.run(10);
    link.hosts[1].stack.receive_from(socket, false).unwrap();
    send(&mut link, from, v4(2), b"second").unwrap();
    let now = link.now;
    let frame = link.hosts[0].drain(now).remove(0);
    let eth = link.hosts[1].eth;
    let mut take = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = frame.clone();
        change(&mut frame);
        link.hosts[1].stack.receive(eth, &frame, Received::default(), now);
        link.hosts[1].stack.receive_from(socket, false).is_ok()
    };
    assert!(take(&|_| {}));
    assert!(!take(&|frame| frame[5] = 9), "another station");
    assert!(!take(&|frame| frame[43] ^= 1), "damaged payload");
    assert!(!take(&|frame| frame[20] ^= 1), "damaged header");
    assert!(!take(&|frame| frame.truncate(40)), "cut");
    assert!(take(&|frame| frame.extend([0; 20])), "padded");
}

#[test]
fn over_a_bad_link_what_arrives_is_intact() {
    let trouble = Trouble { loss: 50, reorder: 200, duplicate: 100, corrupt: 100, ..Trouble::default() };
    let mut link = Link::new(host(1), host(2)).with(trouble, 7);
    let (from, socket) = (udp(&mut link.hosts[0], 5), udp(&mut link.hosts[1], 7));
    let mut got = 0;
    for round in 0..200_u32 {
        let data: Vec<u8> = (0..1 + round * 29 % 5000).map(|byte| (byte * round) as u8).collect();
        let _ = send(&mut link, from, if round % 2 == 0 { v4(2) } else { v6(2) }, &data);
        link.run(20);
        while let Ok(message) = link.hosts[1].stack.receive_from(socket, false) {
            let sent: Vec<u8> = (0..message.data.len() as u32).map(|byte| (byte * round) as u8).collect();
            assert_eq!(message.data, sent);
            got += 1;
        }
    }
    assert!(got > 50, "{got} of 200");
}
