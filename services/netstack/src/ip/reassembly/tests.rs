use super::*;
use proptest::prelude::*;

const HEADER: &[u8] = b"header";

fn key(ident: u32) -> Key {
    Key { source: "10.0.0.1".parse().unwrap(), destination: "10.0.0.2".parse().unwrap(), protocol: 17, ident }
}

fn piece(offset: u16, more: bool, payload: &[u8]) -> Piece<'_> {
    Piece { offset, more, tos: 0, header: HEADER, payload }
}

#[test]
fn fragments_in_any_order_become_whole() {
    let mut reassembly = Reassembly::new(1 << 20);
    assert_eq!(reassembly.add(key(1), piece(16, false, b"end"), Instant::ZERO), Outcome::Waiting);
    assert_eq!(reassembly.add(key(1), piece(8, true, b"middle.."), Instant::ZERO), Outcome::Waiting);
    assert_eq!(reassembly.add(key(1), piece(8, true, b"middle.."), Instant::ZERO), Outcome::Duplicate);
    let whole = Whole { header: HEADER.to_vec(), payload: b"start...middle..end".to_vec(), tos: 0 };
    assert_eq!(reassembly.add(key(1), piece(0, true, b"start..."), Instant::ZERO), Outcome::Whole(whole));
    assert_eq!(reassembly.bytes(), 0);
}

#[test]
fn an_overlap_ends_the_packet() {
    let mut reassembly = Reassembly::new(1 << 20);
    reassembly.add(key(1), piece(0, true, &[0; 16]), Instant::ZERO);
    assert_eq!(reassembly.add(key(1), piece(8, true, &[0; 16]), Instant::ZERO), Outcome::Refused);
    assert_eq!(reassembly.bytes(), 0, "all of it is forgotten");
}

#[test]
fn two_ends_or_data_behind_the_end_end_the_packet() {
    let mut reassembly = Reassembly::new(1 << 20);
    reassembly.add(key(1), piece(16, false, b"end"), Instant::ZERO);
    assert_eq!(reassembly.add(key(1), piece(32, false, b"another"), Instant::ZERO), Outcome::Refused);
    reassembly.add(key(2), piece(32, true, &[0; 8]), Instant::ZERO);
    assert_eq!(reassembly.add(key(2), piece(16, false, b"end"), Instant::ZERO), Outcome::Refused);
}

#[test]
fn a_packet_longer_than_ip_allows_is_refused() {
    let mut reassembly = Reassembly::new(1 << 20);
    assert_eq!(reassembly.add(key(1), piece(65_528, false, &[0; 16]), Instant::ZERO), Outcome::Refused);
    assert_eq!(reassembly.add(key(1), piece(0, true, &[0; 15]), Instant::ZERO), Outcome::Refused);
}

#[test]
fn what_does_not_become_whole_is_given_up_with_its_first_fragment() {
    let mut reassembly = Reassembly::new(1 << 20);
    reassembly.add(key(1), piece(0, true, b"start..."), Instant::ZERO);
    reassembly.add(key(2), piece(8, true, b"middle.."), Instant::from_millis(1));
    assert_eq!(reassembly.deadline(), Some(Instant::from_millis(30_000)));
    let expired = reassembly.advance(Instant::from_millis(30_000));
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].first.as_ref().map(|(header, data)| (&header[..], &data[..])), Some((HEADER, &b"start..."[..])));
    let expired = reassembly.advance(Instant::from_millis(30_001));
    assert!(expired[0].first.is_none());
}

#[test]
fn a_mark_survives_and_a_mark_beside_unmarkable_fragments_drops() {
    let mut reassembly = Reassembly::new(1 << 20);
    reassembly.add(key(1), Piece { tos: 2, ..piece(0, true, &[0; 8]) }, Instant::ZERO);
    let Outcome::Whole(whole) = reassembly.add(key(1), Piece { tos: 3, ..piece(8, false, &[0; 8]) }, Instant::ZERO) else {
        panic!("not whole")
    };
    assert_eq!(whole.tos & 3, 3);
    reassembly.add(key(1), Piece { tos: 0, ..piece(0, true, &[0; 8]) }, Instant::ZERO);
    assert_eq!(reassembly.add(key(1), Piece { tos: 3, ..piece(8, false, &[0; 8]) }, Instant::ZERO), Outcome::Refused);
}

proptest! {
    /// A packet cut anywhere at multiples of eight, shuffled and with repetitions, comes out whole exactly once; and memory
    /// stays within the bound whatever else arrives.
    #[test]
    fn any_order_with_repetitions_gives_the_packet_once(
        length in 9_usize..4000,
        cuts in proptest::collection::vec(1_usize..500, 0..12),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..60),
        noise in proptest::collection::vec((0_u16..8000, any::<bool>(), 1_usize..600, 2_u32..400), 0..200),
    ) {
        let payload: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
        let mut edges: Vec<usize> = cuts.iter().map(|cut| cut * 8).filter(|&cut| cut < length).collect();
        edges.push(0);
        edges.push(length);
        edges.sort_unstable();
        edges.dedup();
        let mut queue: Vec<(usize, usize)> = edges.windows(2).map(|edge| (edge[0], edge[1])).collect();
        let all = queue.clone();
        for index in &order {
            queue.push(all[index.index(all.len())]);
        }
        for (index, pick) in order.iter().enumerate() {
            let other = pick.index(queue.len());
            let index = index % queue.len();
            queue.swap(index, other);
        }
        let limit = 256 << 10;
        let mut reassembly = Reassembly::new(limit);
        let mut wholes = 0;
        for (from, to) in queue {
            let outcome = reassembly.add(key(1), piece(from as u16, to < length, &payload[from..to]), Instant::ZERO);
            prop_assert!(outcome != Outcome::Refused);
            if let Outcome::Whole(whole) = outcome {
                prop_assert_eq!(&whole.payload, &payload);
                wholes += 1;
                break;
            }
        }
        prop_assert_eq!(wholes, 1);
        prop_assert_eq!(reassembly.bytes(), 0);
        for (offset, more, size, ident) in noise {
            reassembly.add(key(ident), piece(offset & !7, more, &vec![0; size]), Instant::ZERO);
            prop_assert!(reassembly.bytes() <= limit);
        }
        reassembly.advance(Instant::from_millis(30_000));
        prop_assert_eq!(reassembly.bytes(), 0);
    }
}
