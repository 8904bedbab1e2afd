//! Segments that come together are put together, and long ones go out where the link cuts them.

use crate::kit::{Options, at, host, host_with, link::Link, v4, v6};
use bulkhead_netstack::{
    WriteOptions,
    link::{
        Capabilities,
        gro::merge,
        offload::{Cut, Received},
    },
    socket::{Family, Handle, Kind},
};

/// Two hosts with a connection, and the frames of `length` bytes that one sends to the other.
fn frames(family: Family, length: usize) -> (Link, Handle, Vec<Vec<u8>>) {
    let mut link = Link::new(host(1), host(2));
    let server = link.hosts[1].stack.socket(Family::V6, Kind::Stream, 0).unwrap();
    link.hosts[1].stack.bind(server, "[::]:80".parse().unwrap()).unwrap();
    link.hosts[1].stack.listen(server, 8).unwrap();
    let client = link.hosts[0].stack.socket(family, Kind::Stream, 0).unwrap();
    let now = link.now;
    let to = if family == Family::V4 { v4(2) } else { v6(2) };
    let _ = link.hosts[0].stack.connect(client, at(to, 80), now);
    link.run(20);
    let (accepted, _) = link.hosts[1].stack.accept(server).unwrap();
    let bytes: Vec<u8> = (0..length).map(|place| place as u8).collect();
    let now = link.now;
    link.hosts[0].stack.send(client, &bytes, WriteOptions::default(), now).unwrap();
    let frames = link.hosts[0].drain(now);
    (link, accepted, frames)
}

fn told(frames: &[Vec<u8>]) -> Vec<(&[u8], Received)> {
    frames.iter().map(|frame| (&frame[..], Received::default())).collect()
}

fn read(link: &mut Link, socket: Handle) -> Vec<u8> {
    let now = link.now;
    let mut bytes = vec![0; 100_000];
    let length = link.hosts[1].stack.recv(socket, &mut bytes, false, now).unwrap_or(0);
    bytes.truncate(length);
    bytes
}

#[test]
fn successive_segments_become_one() {
    for family in [Family::V4, Family::V6] {
        let (mut link, socket, frames) = frames(family, 10_000);
        assert!(frames.len() >= 7);
        let merged = merge(told(&frames));
        assert_eq!(merged.len(), 1);
        assert!(merged[0].told.checksum_known && merged[0].told.segment_size > 1400);
        let (eth, now) = (link.hosts[1].eth, link.now);
        link.hosts[1].stack.receive_batch(eth, told(&frames), now);
        assert_eq!(link.hosts[1].drain(now).len(), 1, "one acknowledgement for all");
        assert_eq!(read(&mut link, socket), (0..10_000).map(|place| place as u8).collect::<Vec<u8>>());
    }
}

#[test]
fn what_is_damaged_missing_or_in_disorder_is_not_put_together() {
    let (mut link, socket, mut frames) = frames(Family::V4, 10_000);
    let last = frames[2].len() - 1;
    frames[2][last] ^= 1;
    frames.swap(4, 5);
    let merged = merge(told(&frames));
    assert_eq!(
        merged.iter().map(|frame| frame.told.segment_size > 0).collect::<Vec<_>>(),
        [true, false, false, false, false, false]
    );
    let (eth, now) = (link.hosts[1].eth, link.now);
    link.hosts[1].stack.receive_batch(eth, told(&frames), now);
    assert_eq!(read(&mut link, socket).len(), 2 * 1448);
}

#[test]
fn a_link_that_cuts_is_told_where() {
    let mut options = Options::new(1);
    options.capabilities = Capabilities { checksum: true, segmentation: 65_000 };
    let mut link = Link::new(host_with(1, options), host(2));
    let server = link.hosts[1].stack.socket(Family::V4, Kind::Stream, 0).unwrap();
    link.hosts[1].stack.bind(server, "0.0.0.0:80".parse().unwrap()).unwrap();
    link.hosts[1].stack.listen(server, 8).unwrap();
    let client = link.hosts[0].stack.socket(Family::V4, Kind::Stream, 0).unwrap();
    let now = link.now;
    let eth = link.hosts[0].eth;
    link.hosts[0].stack.set_neighbour(eth, v4(2), crate::kit::mac(2), now).unwrap();
    let _ = link.hosts[0].stack.connect(client, at(v4(2), 80), now);
    // The test's link does not complete checksums: the frames are handed over with a word that they are known.
    let told = Received { checksum_known: true, segment_size: 0 };
    let (to, from) = (link.hosts[1].eth, link.hosts[0].eth);
    for _ in 0..3 {
        for frame in link.hosts[0].drain(now) {
            link.hosts[1].stack.receive(to, &frame, told, now);
        }
        for frame in link.hosts[1].drain(now) {
            link.hosts[0].stack.receive(from, &frame, told, now);
        }
    }
    let (accepted, _) = link.hosts[1].stack.accept(server).unwrap();
    link.hosts[0].stack.send(client, &[7; 14_000], WriteOptions::default(), now).unwrap();
    let frame = link.hosts[0].stack.transmit(now).unwrap();
    let segmentation = frame.offload.segmentation.unwrap();
    assert_eq!((segmentation.cut, segmentation.size, segmentation.headers), (Cut::Tcp4, 1448, 14 + 20 + 32));
    assert_eq!(frame.packet.len(), 66 + 14_000);
    let told = Received::decode(&frame.offload.encode()).unwrap();
    link.hosts[1].stack.receive(to, frame.packet.as_ref(), told, now);
    assert_eq!(read(&mut link, accepted).len(), 14_000);
}
