//! Frames that are put together: any cut of any bytes gives frames, no longer in all than they were.
#![no_main]

use bulkhead_netstack::link::{gro::merge, offload::Received};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let [length, tail @ ..] = rest {
        let (frame, after) = tail.split_at(usize::from(*length).min(tail.len()));
        frames.push((frame, Received { checksum_known: length % 2 == 0, segment_size: 0 }));
        rest = after;
    }
    let merged = merge(frames);
    assert!(merged.iter().map(|frame| frame.bytes.len()).sum::<usize>() <= bytes.len());
});
