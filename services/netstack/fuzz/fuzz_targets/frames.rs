//! Every parser from Ethernet up: frames of any bytes, with time passing between them.
#![no_main]

use bulkhead_netstack::{
    Config, Stack,
    link::{Capabilities, EthernetAddress, InterfaceAddress, InterfaceConfig, Medium, offload::Received},
    random::Key,
    socket::{Family, Kind},
    time::Instant,
};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let mut stack = Stack::new(Config::new(Key([1, 2])));
    let eth = stack.add_interface(InterfaceConfig {
        name: "eth0".into(),
        medium: Medium::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        capabilities: Capabilities::default(),
    });
    for (address, prefix) in [("10.0.0.1", 24), ("fd00::1", 64)] {
        let Ok(address) = address.parse() else { return };
        let _ = stack.add_address(eth, InterfaceAddress { address, prefix });
    }
    for kind in [Kind::Stream, Kind::Datagram] {
        let (Ok(socket), Ok(any)) = (stack.socket(Family::V6, kind, 0), "[::]:80".parse()) else { return };
        let _ = stack.bind(socket, any);
        let _ = stack.listen(socket, 2);
    }
    let mut now = Instant::from_millis(1000);
    let mut rest = bytes;
    while let [flags, length, tail @ ..] = rest {
        let (frame, after) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = after;
        let mut whole = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        whole.extend_from_slice(frame);
        stack.receive(eth, &whole, Received { checksum_known: flags & 1 != 0, segment_size: u16::from(flags & 2) * 700 }, now);
        now += Duration::from_millis(u64::from(flags >> 2) * 100);
        stack.advance(now);
        while stack.transmit(now).is_some() {}
        while stack.next_event().is_some() {}
    }
    assert!(stack.socket_count() < 1000 && stack.reassembly_bytes() <= 4 << 20);
});
