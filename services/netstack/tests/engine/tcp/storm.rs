//! Nonsense: random frames, frames that were damaged, and random calls. Nothing panics, and memory stays within its bounds. The
//! fuzz targets do the same with a search instead of a seed.

use crate::kit::{Options, at, host, host_with, script::Script};
use bulkhead_netstack::{
    SendOptions, WriteOptions,
    link::offload::Received,
    socket::{Family, Kind, Shutdown},
    time::Instant,
};
use std::time::Duration;

struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 7
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[test]
fn random_frames_do_no_harm() {
    let mut seed = Seed(0x1234_5678_9abc_def1);
    let mut host = host(1);
    let eth = host.eth;
    let mut now = Instant::from_millis(1);
    for _ in 0..60_000 {
        let length = seed.below(200) as usize;
        let mut frame: Vec<u8> = (0..length).map(|_| seed.next() as u8).collect();
        // Far enough in to matter: addressed to us, with a type, a version, a destination.
        let shape = [
            (0, &[2, 0, 0, 0, 0, 1][..]),
            (6, &[2, 0, 0, 0, 0, 2]),
            (12, &[[8, 0], [0x86, 0xdd], [8, 6]][seed.below(3) as usize]),
            (14, &[[0x45], [0x60], [0x4f]][seed.below(3) as usize]),
            (30, &[10, 0, 0, 1]),
        ];
        for (place, bytes) in shape {
            if let Some(part) = frame.get_mut(place..place + bytes.len()) {
                part.copy_from_slice(bytes);
            }
        }
        let told = Received { checksum_known: seed.below(2) == 0, segment_size: seed.next() as u16 };
        host.stack.receive(eth, &frame, told, now);
        now += Duration::from_millis(seed.below(50));
        host.stack.advance(now);
        host.drain(now);
    }
    assert!(host.stack.socket_count() < 10);
}

#[test]
fn damaged_segments_and_random_calls_do_no_harm() {
    for round in 0..60 {
        let mut seed = Seed(0x9e37_79b9_7f4a_7c15 ^ (round * 77 + 1));
        let syn = ["mss 1000, sackok, ts 100 0, wscale 7", "mss 1000", "mss 88, sackok"][round as usize % 3];
        let mut script = Script::connected(syn);
        for _ in 0..600 {
            let (from, length) = (seed.below(40_000), seed.below(1500));
            let ack = if seed.below(4) == 0 { seed.next() as u32 } else { 1 + seed.below(30_000) as u32 };
            let flags = [".", ".", ".", ".", "F.", "R", "S", "S.", ".U", "", ".EW"]
                [seed.below(if round % 2 == 0 { 4 } else { 11 }) as usize];
            let window = seed.below(3) * 20_000;
            let mut options = Vec::new();
            if seed.below(3) == 0 {
                let (a, b) = (seed.below(30_000), seed.below(30_000));
                options.push(format!("sack {a}:{} {b}:{}", a + seed.below(3000), b + seed.below(9000)));
            }
            if seed.below(2) == 0 {
                options.push(format!("ts {} .", 100 + seed.below(10)));
            }
            let options = options.join(", ");
            if flags.is_empty() {
                continue;
            }
            script.run(&format!(
                "< {flags} {from}:{}({length}) ack {ack} win {window} urg {} <{options}>",
                from + length,
                seed.below(3000)
            ));
            let (socket, now) = (script.socket, script.now);
            match seed.below(8) {
                0 => drop(script.host.stack.send(socket, &vec![1; seed.below(9000) as usize], WriteOptions::default(), now)),
                1 | 2 => drop(script.read(seed.below(5000) as usize)),
                3 if seed.below(50) == 0 => drop(script.host.stack.shutdown(socket, Shutdown::Write, now)),
                4 if seed.below(80) == 0 => drop(script.host.stack.close(socket, now)),
                5 => drop(script.host.stack.recv_urgent(socket, false)),
                _ => {}
            }
            script.skip();
            let most = if seed.below(10) == 0 { 3000 } else { 20 };
            script.now += Duration::from_millis(seed.below(most));
            let now = script.now;
            script.host.stack.advance(now);
            script.skip();
            if let Ok(info) = script.host.stack.info(socket) {
                assert!(info.receive_queue <= 4 << 20 && info.send_queue <= 5 << 20, "{info:?}");
                assert!(info.congestion_window >= info.mss as u64 || info.in_flight == 0 || info.recovering, "{info:?}");
            }
            script.host.events();
        }
        assert!(script.host.stack.socket_count() < 40);
    }
}

#[test]
fn random_calls_on_random_sockets_do_no_harm() {
    let mut seed = Seed(0xfeed_beef_dead_cafe);
    let mut options = Options::new(1);
    options.config.limits.sockets = 64;
    let mut host = host_with(1, options);
    let mut sockets = Vec::new();
    let mut now = Instant::from_millis(1);
    for _ in 0..40_000 {
        let family = if seed.below(2) == 0 { Family::V4 } else { Family::V6 };
        let kind = [Kind::Stream, Kind::Stream, Kind::Datagram, Kind::Ping, Kind::Raw { protocol: 1 }][seed.below(5) as usize];
        if let Some(&socket) = sockets.get(seed.below(sockets.len().max(1) as u64) as usize) {
            let address =
                ["127.0.0.1", "::1", "0.0.0.0", "::", "10.0.0.1", "10.0.0.9", "::ffff:127.0.0.1"][seed.below(7) as usize];
            let address = at(address.parse().unwrap(), 70 + seed.below(4) as u16);
            let stack = &mut host.stack;
            match seed.below(14) {
                0 => drop(stack.bind(socket, address)),
                1 | 2 => drop(stack.connect(socket, address, now)),
                3 => drop(stack.listen(socket, 3)),
                4 => {
                    if let Ok((accepted, _)) = stack.accept(socket) {
                        sockets.push(accepted);
                    }
                }
                5 => drop(stack.send(socket, &[1; 3000], WriteOptions::default(), now)),
                6 => drop(stack.recv(socket, &mut [0; 2000], false, now)),
                7 => drop(stack.send_to(socket, &[8; 300], Some(address), &SendOptions::default(), now)),
                8 => drop(stack.receive_from(socket, false)),
                9 => drop(stack.shutdown(socket, Shutdown::Both, now)),
                10 => drop(stack.disconnect(socket)),
                11 => drop(stack.take_error(socket)),
                12 => drop(stack.readiness(socket)),
                _ => {
                    let _ = stack.close(socket, now);
                    sockets.retain(|other| *other != socket);
                }
            }
        }
        if sockets.len() < 40
            && let Ok(socket) = host.stack.socket(family, kind, 0)
        {
            sockets.push(socket);
        }
        host.drain(now);
        host.events();
        now += Duration::from_millis(seed.below(200));
        host.stack.advance(now);
        host.drain(now);
    }
    for socket in sockets {
        host.stack.close(socket, now).unwrap();
    }
    for _ in 0..400 {
        host.drain(now);
        now += Duration::from_secs(1);
        host.stack.advance(now);
    }
    assert_eq!(host.stack.socket_count(), 0);
}
