//! Two engines over a link that gets worse: streams arrive whole and in order, and memory stays within its bounds.

use crate::kit::{
    Options, at, host_with,
    link::{Link, Trouble},
    v4, v6,
};
use bulkhead_netstack::{
    Error, WriteOptions,
    link::Capabilities,
    random::Key,
    socket::{Family, Handle, Kind, Shutdown},
    tcp::{Algorithm, State},
    time::Instant,
};
use std::{net::IpAddr, time::Duration};

/// A byte of the stream, by its place.
fn byte(place: usize, salt: u8) -> u8 {
    (place.wrapping_mul(2_654_435_761) >> 11) as u8 ^ salt
}

struct Flow {
    from: usize,
    socket: Handle,
    written: usize,
    read: usize,
    other: Handle,
    ended: bool,
}

fn connect(link: &mut Link, family: Family, to: IpAddr, port: u16) -> (Handle, Handle) {
    let server = link.hosts[1].stack.socket(Family::V6, Kind::Stream, 0).unwrap();
    link.hosts[1].stack.bind(server, at("::".parse().unwrap(), port)).unwrap();
    link.hosts[1].stack.listen(server, 8).unwrap();
    let client = link.hosts[0].stack.socket(family, Kind::Stream, 0).unwrap();
    let now = link.now;
    assert_eq!(link.hosts[0].stack.connect(client, at(to, port), now), Err(Error::InProgress));
    for _ in 0..600 {
        link.run(100);
        if let Ok((accepted, _)) = link.hosts[1].stack.accept(server) {
            return (client, accepted);
        }
    }
    panic!("no connection in a minute");
}

/// Sends `size` bytes both ways, and says how long it took.
fn transfer(link: &mut Link, client: Handle, server: Handle, size: usize) -> Duration {
    let flow = |from, socket, other| Flow { from, socket, written: 0, read: 0, other, ended: false };
    let mut flows = [flow(0, client, server), flow(1, server, client)];
    let started = link.now;
    let mut buffer = vec![0; 70_000];
    while !flows.iter().all(|flow| flow.ended) {
        assert!(link.now.since(started) < Duration::from_secs(3600), "stuck: {:?}", describe(link, &flows));
        let now = link.now;
        for flow in &mut flows {
            let salt = flow.from as u8;
            let sender = &mut link.hosts[flow.from].stack;
            while flow.written < size {
                let chunk: Vec<u8> = (flow.written..size.min(flow.written + 30_000)).map(|place| byte(place, salt)).collect();
                match sender.send(flow.socket, &chunk, WriteOptions::default(), now) {
                    Ok(taken) => flow.written += taken,
                    Err(Error::WouldBlock) => break,
                    Err(error) => panic!("writing: {error}"),
                }
                if flow.written == size {
                    sender.shutdown(flow.socket, Shutdown::Write, now).unwrap();
                }
            }
            let receiver = &mut link.hosts[1 - flow.from].stack;
            loop {
                match receiver.recv(flow.other, &mut buffer, false, now) {
                    Ok(0) => {
                        flow.ended = true;
                        break;
                    }
                    Ok(length) => {
                        for (place, &got) in buffer[..length].iter().enumerate() {
                            assert_eq!(got, byte(flow.read + place, salt), "at {}", flow.read + place);
                        }
                        flow.read += length;
                    }
                    Err(Error::WouldBlock) => break,
                    Err(error) => panic!(
                        "reading at {:?}: {error}: {:?}; {:?}",
                        now.since(started),
                        receiver.info(flow.other),
                        receiver.counters()
                    ),
                }
            }
            assert!(!flow.ended || flow.read == size, "{} of {size}", flow.read);
        }
        let until = link.now + Duration::from_millis(50);
        link.step(until);
    }
    link.now.since(started)
}

fn describe(link: &Link, flows: &[Flow; 2]) -> Vec<String> {
    flows
        .iter()
        .map(|flow| format!("{} of {}: {:?}", flow.read, flow.written, link.hosts[flow.from].stack.info(flow.socket)))
        .collect()
}

fn link(change: impl Fn(&mut Options), trouble: Trouble, seed: u64) -> Link {
    let hosts = [1, 2].map(|number| {
        let mut options = Options::new(number);
        options.config.key = Key([seed, u64::from(number)]);
        change(&mut options);
        host_with(number, options)
    });
    let [a, b] = hosts;
    Link::new(a, b).with(trouble, seed)
}

#[test]
fn a_good_link_is_filled() {
    // 10 MB/s and 20 ms there and back.
    let trouble = Trouble { delay: Duration::from_millis(10), rate: 10_000_000, ..Trouble::default() };
    let mut link = link(|_| {}, trouble, 1);
    let (client, server) = connect(&mut link, Family::V4, v4(2), 80);
    let took = transfer(&mut link, client, server, 8_000_000);
    assert!(took < Duration::from_millis(1600), "{took:?}");
    let info = link.hosts[0].stack.info(client).unwrap();
    assert!(info.buffers.0 > 200_000, "the send buffer has grown: {info:?}");
}

#[test]
fn streams_survive_everything_at_once() {
    for seed in 1..=12 {
        let trouble = Trouble {
            loss: 10 + seed * 8,
            reorder: 20 * (seed % 5),
            duplicate: 10 * (seed % 4),
            corrupt: 5 * (seed % 3),
            delay: Duration::from_millis(1 + seed * 3),
            rate: if seed % 2 == 0 { 2_000_000 } else { 0 },
            ..Trouble::default()
        };
        let change = |options: &mut Options| {
            options.mtu = [576, 1500, 9000, 65_535][seed as usize % 4].max(if seed % 3 == 0 { 1280 } else { 576 });
            options.config.tcp.sack = seed % 5 != 0;
            options.config.tcp.timestamps = seed % 4 != 0;
            options.config.tcp.window_scaling = seed % 7 != 0;
            options.config.tcp.algorithm = if seed % 2 == 0 { Algorithm::Reno } else { Algorithm::Cubic };
        };
        let mut link = link(change, trouble, seed);
        let (family, to) = if seed % 3 == 0 { (Family::V6, v6(2)) } else { (Family::V4, v4(2)) };
        let (client, server) = connect(&mut link, family, to, 80);
        transfer(&mut link, client, server, 300_000);
    }
}

#[test]
fn ten_percent_loss_costs_time_but_no_stall() {
    let trouble = Trouble { loss: 100, delay: Duration::from_millis(5), ..Trouble::default() };
    let mut link = link(|_| {}, trouble, 3);
    let (client, server) = connect(&mut link, Family::V4, v4(2), 80);
    let took = transfer(&mut link, client, server, 1_000_000);
    assert!(took < Duration::from_secs(120), "{took:?}");
}

#[test]
fn a_long_pause_of_the_link_is_survived() {
    let mut link = link(|_| {}, Trouble { delay: Duration::from_millis(5), ..Trouble::default() }, 4);
    let (client, server) = connect(&mut link, Family::V4, v4(2), 80);
    let now = link.now;
    link.hosts[0].stack.send(client, &[1; 20_000], WriteOptions::default(), now).unwrap();
    link.filter = Box::new(|_, _| false);
    link.run(20_000);
    link.filter = Box::new(|_, _| true);
    link.run(30_000);
    let mut buffer = vec![0; 30_000];
    let now = link.now;
    assert_eq!(link.hosts[1].stack.recv(server, &mut buffer, false, now), Ok(20_000));
}

#[test]
fn a_slow_reader_takes_bounded_memory_and_loses_nothing() {
    let mut link = link(|_| {}, Trouble::default(), 5);
    let (client, server) = connect(&mut link, Family::V4, v4(2), 80);
    let mut written = 0;
    loop {
        let now = link.now;
        let chunk: Vec<u8> = (written..written + 10_000).map(|place| byte(place, 0)).collect();
        match link.hosts[0].stack.send(client, &chunk, WriteOptions::default(), now) {
            Ok(taken) => written += taken,
            Err(_) => {
                let before = written;
                link.run(5000);
                let now = link.now;
                if let Ok(taken) = link.hosts[0].stack.send(client, &chunk, WriteOptions::default(), now) {
                    written += taken;
                }
                if written == before {
                    break;
                }
            }
        }
    }
    let held = link.hosts[1].stack.info(server).unwrap().receive_queue;
    assert!(held <= 65_536, "{held}");
    let mut read = 0;
    let mut buffer = vec![0; 5000];
    while read < written {
        let now = link.now;
        if let Ok(length) = link.hosts[1].stack.recv(server, &mut buffer, false, now) {
            assert!((0..length).all(|place| buffer[place] == byte(read + place, 0)));
            read += length;
        }
        link.run(50);
        assert!(link.now < Instant::from_millis(10_000_000), "{read} of {written}");
    }
}

#[test]
fn loopback_carries_streams_by_long_segments() {
    let mut link = link(|_| {}, Trouble::default(), 6);
    let stack = &mut link.hosts[0].stack;
    let server = stack.socket(Family::V4, Kind::Stream, 0).unwrap();
    stack.bind(server, "127.0.0.1:80".parse().unwrap()).unwrap();
    stack.listen(server, 8).unwrap();
    let client = stack.socket(Family::V4, Kind::Stream, 0).unwrap();
    let now = link.now;
    let _ = stack.connect(client, "127.0.0.1:80".parse().unwrap(), now);
    assert!(stack.transmit(now).is_none());
    let (accepted, _) = stack.accept(server).unwrap();
    assert!(stack.info(client).unwrap().mss > 60_000);
    let mut total = 0;
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..200 {
        stack.send(client, &[7; 60_000], WriteOptions::default(), now).unwrap();
        assert!(stack.transmit(now).is_none());
        total += stack.recv(accepted, &mut buffer, false, now).unwrap_or(0);
        assert!(stack.transmit(now).is_none());
    }
    assert!(total > 10_000_000, "{total}");
}

#[test]
fn ten_thousand_connections_at_once_and_none_left_after() {
    let mut link = link(|options| options.config.tcp.time_wait = Duration::from_secs(1), Trouble::default(), 7);
    let server = link.hosts[1].stack.socket(Family::V4, Kind::Stream, 0).unwrap();
    link.hosts[1].stack.bind(server, "0.0.0.0:80".parse().unwrap()).unwrap();
    link.hosts[1].stack.listen(server, 4096).unwrap();
    let mut open = Vec::new();
    for _ in 0..100 {
        for _ in 0..100 {
            let now = link.now;
            let client = link.hosts[0].stack.socket(Family::V4, Kind::Stream, 0).unwrap();
            assert_eq!(link.hosts[0].stack.connect(client, at(v4(2), 80), now), Err(Error::InProgress));
            open.push((0, client));
        }
        link.run(2);
        while let Ok((accepted, _)) = link.hosts[1].stack.accept(server) {
            open.push((1, accepted));
        }
    }
    link.run(2000);
    while let Ok((accepted, _)) = link.hosts[1].stack.accept(server) {
        open.push((1, accepted));
    }
    assert_eq!(open.len(), 20_000);
    let established = link.hosts[0].stack.streams().iter().filter(|stream| stream.2 == State::Established).count();
    assert_eq!(established, 10_000);
    for (side, socket) in open {
        let now = link.now;
        link.hosts[side].stack.close(socket, now).unwrap();
    }
    link.run(5000);
    assert_eq!((link.hosts[0].stack.socket_count(), link.hosts[1].stack.socket_count()), (0, 1));
}

#[test]
fn hardware_that_cuts_and_checks_is_used() {
    let change = |options: &mut Options| options.capabilities = Capabilities { checksum: true, segmentation: 0 };
    let mut link = link(change, Trouble::default(), 8);
    let now = link.now;
    let client = link.hosts[0].stack.socket(Family::V4, Kind::Stream, 0).unwrap();
    let eth = link.hosts[0].eth;
    link.hosts[0].stack.set_neighbour(eth, v4(2), crate::kit::mac(2), now).unwrap();
    let _ = link.hosts[0].stack.connect(client, at(v4(2), 80), now);
    let frame = link.hosts[0].stack.transmit(now).unwrap();
    let checksum = frame.offload.checksum.unwrap();
    assert_eq!((checksum.start, checksum.offset), (34, 16));
    // Completing the sum as the link would gives the right one.
    let mut bytes = frame.packet.as_ref().to_vec();
    let sum = !smoltcp::wire::checksum::data(&bytes[34..]);
    bytes[50..52].copy_from_slice(&sum.to_be_bytes());
    let ip = smoltcp::wire::Ipv4Packet::new_checked(&bytes[14..]).unwrap();
    let tcp = smoltcp::wire::TcpPacket::new_checked(ip.payload()).unwrap();
    assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
}
