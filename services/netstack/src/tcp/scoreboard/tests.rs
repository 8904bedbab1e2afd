use super::*;
use proptest::prelude::*;

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// Ten pieces of 100, sent a millisecond apart.
fn board() -> Scoreboard {
    let mut board = Scoreboard::default();
    for piece in 0..10 {
        board.push(1000 + piece * 100, 1100 + piece * 100, at(piece));
    }
    board
}

#[test]
fn what_a_later_piece_overtook_is_lost_after_the_window() {
    let mut board = board();
    let mut rack = Rack::default();
    let news = board.sack(1300, 1500, |sent| rack.delivered(sent.delivered(), at(20), None));
    assert_eq!((news, board.flight()), (200, 800));
    assert_eq!(rack.latest, Some((at(4), 1500)));
    let (lost, wait) = board.detect(&rack, Duration::from_millis(5), at(20));
    assert_eq!((lost, wait), (false, Some(Duration::from_millis(3))), "rtt 16 ms: the first is due at 21");
}

#[test]
fn pieces_are_split_at_the_edges_of_blocks_and_of_retransmissions() {
    let mut board = board();
    assert_eq!(board.sack(1150, 1250, |_| {}), 100);
    assert_eq!(board.sack(1120, 1260, |_| {}), 40);
    board.lose_all();
    assert_eq!((board.lost(), board.sacked()), (860, 140));
    assert_eq!(board.next_lost(), Some((1000, 1100)));
    board.resent(1000, 1060, at(50));
    assert_eq!((board.next_lost(), board.lost(), board.flight()), (Some((1060, 1100)), 800, 60));
    let mut acked = 0;
    board.ack(1130, |sent| acked += sent.length());
    assert_eq!((acked, board.sacked(), board.lost()), (130, 130, 740));
}

#[test]
fn a_receiver_that_takes_back_is_sent_everything() {
    let mut board = board();
    board.sack(1000, 1200, |_| {});
    board.lose_all();
    assert_eq!((board.sacked(), board.lost()), (0, 1000));
}

#[derive(Debug, Clone)]
enum Step {
    Ack(u64),
    Sack(u64, u64),
    LoseAll,
    LoseFirst(u64),
    Resend(u64),
    Detect(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..300).prop_map(Step::Ack),
        (0_u64..2500, 0_u64..600).prop_map(|(start, length)| Step::Sack(start, start + length)),
        Just(Step::LoseAll),
        (1_u64..200).prop_map(Step::LoseFirst),
        (1_u64..150).prop_map(Step::Resend),
        (0_u64..40).prop_map(Step::Detect),
    ]
}

proptest! {
    /// The sums agree with the records, the records with a model of single bytes, and nothing overlaps or is missing.
    #[test]
    fn sums_and_bytes_agree(pieces in proptest::collection::vec(1_u64..300, 1..20), steps in proptest::collection::vec(step(), 0..60)) {
        let mut board = Scoreboard::default();
        let mut next = 500;
        for (index, length) in pieces.iter().enumerate() {
            board.push(next, next + length, at(index as u64));
            next += length;
        }
        let (mut una, end) = (500, next);
        let mut arrived = std::collections::BTreeSet::new();
        let mut now = 100;
        for step in steps {
            now += 1;
            match step {
                Step::Ack(bytes) => {
                    una = (una + bytes).min(end);
                    board.ack(una, |_| {});
                    arrived = arrived.split_off(&una);
                }
                Step::Sack(from, to) => {
                    let before = arrived.len();
                    arrived.extend(from.max(una)..to.min(end));
                    let news = board.sack(from, to, |_| {});
                    prop_assert_eq!(news as usize, arrived.len() - before);
                }
                Step::LoseAll => {
                    if board.first().is_some_and(|first| first.sacked) {
                        arrived.clear();
                    }
                    board.lose_all();
                    prop_assert_eq!(board.flight(), 0);
                }
                Step::LoseFirst(bytes) => board.lose_first(bytes),
                Step::Resend(bytes) => {
                    if let Some((start, end)) = board.next_lost() {
                        board.resent(start, end.min(start + bytes), at(now));
                    }
                }
                Step::Detect(window) => {
                    let mut rack = Rack::default();
                    rack.latest = Some((at(now - 50), una));
                    board.detect(&rack, Duration::from_millis(window), at(now));
                }
            }
            let records: Vec<Sent> = board.records.iter().copied().collect();
            prop_assert!(records.iter().all(|record| record.start < record.end && !(record.sacked && record.lost)));
            prop_assert!(records.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert_eq!(records.first().map_or(end, |record| record.start), una);
            prop_assert_eq!(records.last().map_or(end, |record| record.end), end);
            let sum = |of: fn(&Sent) -> bool| records.iter().filter(|record| of(record)).map(Sent::length).sum::<u64>();
            prop_assert_eq!(board.sacked(), sum(|record| record.sacked));
            prop_assert_eq!(board.lost(), sum(|record| record.lost));
            prop_assert_eq!(board.flight(), sum(|record| !record.lost && !record.sacked));
            prop_assert_eq!(board.sacked() as usize, arrived.len());
            prop_assert!(arrived.iter().all(|byte| records.iter().any(|r| r.sacked && r.start <= *byte && *byte < r.end)));
        }
    }
}
