//! A ring whose header the other side has filled with anything: taking and putting give bounded messages or errors.
#![no_main]

use bulkhead_ipc::ring::{Direction, MAX_MESSAGE, Ring};
use libfuzzer_sys::fuzz_target;
use std::{fs::File, os::unix::fs::FileExt};

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Ring::create() else { return };
    let Ok(ring) = Ring::map(&file) else { return };
    let file = File::from(file);
    let mut consumer = ring.consumer(Direction::Requests);
    let mut producer = ring.producer(Direction::Replies);
    let mut message = Vec::new();
    // Each step writes somewhere into the header and lets this side go on.
    for step in bytes.chunks(8) {
        let [low, high, data @ ..] = step else { break };
        let place = u64::from(u16::from_le_bytes([*low, *high]) % 4096);
        let _ = file.write_all_at(&data[..data.len().min(4096 - place as usize)], place);
        if let Ok(Some(_)) = consumer.take(&mut message) {
            assert!(message.len() <= MAX_MESSAGE);
        }
        let _ = producer.put(b"reply", 0);
    }
});
