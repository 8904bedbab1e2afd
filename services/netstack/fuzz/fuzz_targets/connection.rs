//! TCP's state machine: two engines whose frames are lost, kept back, repeated and damaged, and whose users call, as the bytes say.
#![no_main]

use bulkhead_netstack::{
    Config, Stack, WriteOptions,
    link::{Capabilities, EthernetAddress, InterfaceAddress, InterfaceConfig, InterfaceId, Medium, offload::Received},
    random::Key,
    socket::{Family, Handle, Kind, Shutdown},
    time::Instant,
};
use libfuzzer_sys::fuzz_target;
use std::{collections::VecDeque, time::Duration};

fn host(number: u8) -> Option<(Stack, InterfaceId, Handle)> {
    let mut stack = Stack::new(Config::new(Key([u64::from(number), 2])));
    let eth = stack.add_interface(InterfaceConfig {
        name: "eth0".into(),
        medium: Medium::Ethernet(EthernetAddress([2, 0, 0, 0, 0, number])),
        mtu: 1500,
        capabilities: Capabilities { checksum: true, segmentation: 0 },
    });
    stack.add_address(eth, InterfaceAddress { address: [10, 0, 0, number].into(), prefix: 24 }).ok()?;
    let socket = stack.socket(Family::V4, Kind::Stream, 0).ok()?;
    let peer = 3 - number;
    stack.set_neighbour(eth, [10, 0, 0, peer].into(), EthernetAddress([2, 0, 0, 0, 0, peer]), Instant::ZERO).ok()?;
    Some((stack, eth, socket))
}

fuzz_target!(|bytes: &[u8]| {
    let (Some(a), Some(b)) = (host(1), host(2)) else { return };
    let mut hosts = [a, b];
    let mut now = Instant::from_millis(1000);
    let Ok(server) = "10.0.0.2:80".parse() else { return };
    let listener = hosts[1].2;
    if hosts[1].0.bind(listener, server).is_err() || hosts[1].0.listen(listener, 1).is_err() {
        return;
    }
    let client = hosts[0].2;
    let _ = hosts[0].0.connect(client, server, now);
    let mut flying: [VecDeque<Vec<u8>>; 2] = Default::default();
    let mut buffer = [0; 3000];
    for pair in bytes.chunks_exact(2) {
        let [what, how] = [pair[0], usize::from(pair[1])];
        let side = usize::from(what & 1);
        for (from, (stack, ..)) in hosts.iter_mut().enumerate() {
            while let Some(frame) = stack.transmit(now) {
                if flying[1 - from].len() < 200 {
                    flying[1 - from].push_back(frame.packet.as_ref().to_vec());
                }
            }
            while stack.next_event().is_some() {}
        }
        let (stack, eth, socket) = &mut hosts[side];
        let told = Received { checksum_known: true, segment_size: 0 };
        match what >> 1 & 15 {
            0..=4 => {
                if let Some(frame) = flying[side].pop_front() {
                    stack.receive(*eth, &frame, told, now);
                }
            }
            5 => drop(flying[side].pop_front()),
            6 => flying[side].rotate_left(how.min(flying[side].len())),
            7 => {
                if let Some(frame) = flying[side].front().cloned() {
                    flying[side].push_back(frame);
                }
            }
            8 => {
                // Behind the Ethernet and IP headers: TCP's own.
                if let Some(byte) = flying[side].front_mut().and_then(|frame| frame.get_mut(34 + how % 60)) {
                    *byte = what.wrapping_mul(37) ^ *byte;
                }
            }
            9 | 10 => drop(stack.send(*socket, &vec![what; how * 40], WriteOptions { more: how % 5 == 0, urgent: how % 7 == 0 }, now)),
            11 | 12 => drop(stack.recv(*socket, &mut buffer[..how * 10], how % 11 == 0, now)),
            13 => now += Duration::from_millis((how * how) as u64),
            14 if how < 8 => drop(stack.shutdown(*socket, Shutdown::Write, now)),
            15 if how < 4 => drop(stack.close(*socket, now)),
            _ => {
                if let Ok((accepted, _)) = stack.accept(*socket) {
                    *socket = accepted;
                }
            }
        }
        for (stack, ..) in &mut hosts {
            stack.advance(now);
            assert!(stack.socket_count() < 50);
        }
    }
});
