use super::*;
use proptest::prelude::*;

fn ring() -> Ring {
    Ring::map(Ring::create().unwrap()).unwrap()
}

#[test]
fn messages_come_out_in_the_order_they_went_in_however_often_the_ring_wraps() {
    let ring = ring();
    let (mut producer, mut consumer) = (ring.producer(Direction::Requests), ring.consumer(Direction::Requests));
    let mut message = Vec::new();
    for round in 0..3 * SLOTS {
        for n in 0..SLOTS {
            producer.put(&vec![n as u8; (round * 7 + n) as usize], n).unwrap();
        }
        assert_eq!(producer.put(b"", 0), Err(RingError::Broken("it takes no messages")));
        for n in 0..SLOTS {
            let description = consumer.take(&mut message).unwrap().unwrap();
            assert_eq!(description.fds, n);
            assert_eq!(message, vec![n as u8; (round * 7 + n) as usize]);
        }
        assert_eq!(consumer.take(&mut message), Ok(None));
    }
}

#[test]
fn the_two_directions_do_not_touch_each_other() {
    let ring = ring();
    let mut ends = [Direction::Requests, Direction::Replies].map(|d| (ring.producer(d), ring.consumer(d)));
    for (producer, _) in &mut ends {
        let fill = if producer.queue.direction == Direction::Requests { 1 } else { 2 };
        for _ in 0..SLOTS {
            producer.put(&vec![fill; MAX_MESSAGE], 0).unwrap();
        }
    }
    let mut message = Vec::new();
    for (fill, (_, consumer)) in (1..).zip(&mut ends) {
        for _ in 0..SLOTS {
            consumer.take(&mut message).unwrap().unwrap();
            assert_eq!(message, vec![fill; MAX_MESSAGE]);
        }
    }
}

#[test]
fn what_was_put_before_the_producer_left_can_still_be_taken() {
    let ring = ring();
    let (mut producer, mut consumer) = (ring.producer(Direction::Requests), ring.consumer(Direction::Requests));
    producer.put(b"last words", 0).unwrap();
    producer.leave();
    let mut message = Vec::new();
    assert!(consumer.take(&mut message).unwrap().is_some());
    assert_eq!(message, b"last words");
    assert_eq!(consumer.wait(Duration::from_secs(60)), Waited::Ready);
    assert_eq!(consumer.take(&mut message), Err(RingError::Gone));
}

#[test]
fn the_indices_wrap() {
    let ring = ring();
    let (mut producer, mut consumer) = (ring.producer(Direction::Requests), ring.consumer(Direction::Requests));
    (producer.head, consumer.tail) = (INDEX - 1, INDEX - 1);
    for place in [word::HEAD, word::TAIL] {
        ring.memory.words32()[place].store(INDEX - 1, Ordering::SeqCst);
    }
    let mut message = Vec::new();
    for n in 0..2 * SLOTS {
        producer.put(&n.to_le_bytes(), 0).unwrap();
        assert!(consumer.take(&mut message).unwrap().is_some());
        assert_eq!(message, n.to_le_bytes());
    }
}

#[test]
fn a_message_longer_than_a_slot_is_refused() {
    let ring = ring();
    assert!(ring.producer(Direction::Replies).put(&vec![0; MAX_MESSAGE + 1], 0).is_err());
}

#[test]
fn memory_that_could_shrink_is_refused() {
    let file = nix::sys::memfd::memfd_create(c"test", nix::sys::memfd::MFdFlags::empty()).unwrap();
    nix::unistd::ftruncate(&file, BYTES as i64).unwrap();
    assert!(Ring::map(file).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the other side writes into the header, taking and putting answer with a bounded message or an error.
    #[test]
    fn hostile_headers_yield_errors_or_bounded_messages(
        words in prop::collection::vec((0..2 * word::PER_QUEUE, prop_oneof![0..8u32, any::<u32>()]), 1..40),
    ) {
        let ring = ring();
        let mut consumer = ring.consumer(Direction::Requests);
        let mut producer = ring.producer(Direction::Replies);
        let mut message = Vec::new();
        for (index, value) in words {
            ring.memory.words32()[index].store(value, Ordering::SeqCst);
            if let Ok(Some(_)) = consumer.take(&mut message) {
                prop_assert!(message.len() <= MAX_MESSAGE);
            }
            let _ = producer.put(b"reply", 0);
        }
    }
}
