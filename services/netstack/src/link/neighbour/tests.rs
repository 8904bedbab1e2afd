use super::*;
use crate::random::Key;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const OTHER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn state(cache: &Neighbours) -> Option<NeighbourState> {
    cache.list().find(|entry| entry.address == PEER).map(|entry| entry.state)
}

fn resolved(cache: &mut Neighbours, now: Instant) -> (bool, usize) {
    let mut actions = Vec::new();
    let known = cache.resolve(PEER, Packet::of(b"x"), Offload::default(), now, &mut actions).is_ok();
    (known, actions.len())
}

#[test]
fn a_neighbour_is_asked_for_three_times_and_then_given_up() {
    let mut cache = Neighbours::new(8);
    assert_eq!(resolved(&mut cache, at(0)), (false, 1));
    assert_eq!(resolved(&mut cache, at(1)), (false, 0), "one question at a time");
    for second in 1..=2 {
        let mut actions = Vec::new();
        cache.advance(at(second * 1000), &mut actions);
        assert!(matches!(actions[..], [Action::Solicit { known: None, .. }]));
    }
    let mut actions = Vec::new();
    cache.advance(at(3000), &mut actions);
    let [Action::Unreachable { packets }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(packets.len(), 2);
    assert_eq!(state(&cache), Some(NeighbourState::Failed));
}

#[test]
fn packets_wait_for_the_answer_and_go_in_order() {
    let mut cache = Neighbours::new(8);
    let mut actions = Vec::new();
    for byte in [b"a", b"b"] {
        assert!(cache.resolve(PEER, Packet::of(byte), Offload::default(), at(0), &mut actions).is_err());
    }
    actions.clear();
    cache.answered(PEER, MAC, true, at(10), &mut Random::new(Key([1, 1])), &mut actions);
    let [Action::Send { packets, ethernet: MAC }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(packets.iter().map(|(packet, _)| packet.as_ref()[0]).collect::<Vec<_>>(), b"ab");
    assert_eq!(state(&cache), Some(NeighbourState::Reachable));
}

#[test]
fn a_stale_neighbour_is_used_then_probed_by_itself() {
    let mut cache = Neighbours::new(8);
    cache.heard(PEER, MAC, true, at(0), &mut Vec::new());
    assert_eq!(state(&cache), Some(NeighbourState::Stale));
    assert_eq!(resolved(&mut cache, at(100)), (true, 0));
    assert_eq!(state(&cache), Some(NeighbourState::Delay));
    let mut actions = Vec::new();
    cache.advance(at(5100), &mut actions);
    assert!(matches!(actions[..], [Action::Solicit { known: Some(MAC), .. }]));
    assert_eq!(state(&cache), Some(NeighbourState::Probe));
}

#[test]
fn a_hint_from_above_spares_the_probe() {
    let mut cache = Neighbours::new(8);
    cache.heard(PEER, MAC, true, at(0), &mut Vec::new());
    resolved(&mut cache, at(100));
    cache.confirm(PEER, at(200));
    let mut actions = Vec::new();
    cache.advance(at(5100), &mut actions);
    assert!(actions.is_empty());
    assert_eq!(state(&cache), Some(NeighbourState::Reachable));
}

#[test]
fn an_advertisement_that_does_not_insist_does_not_replace_a_known_address() {
    let mut cache = Neighbours::new(8);
    let mut random = Random::new(Key([1, 1]));
    resolved(&mut cache, at(0));
    cache.answered(PEER, MAC, true, at(1), &mut random, &mut Vec::new());
    cache.answered(PEER, OTHER, false, at(2), &mut random, &mut Vec::new());
    let known = cache.list().next().and_then(|entry| entry.ethernet);
    assert_eq!((known, state(&cache)), (Some(MAC), Some(NeighbourState::Stale)));
}

#[test]
fn the_cache_and_what_waits_in_it_are_bounded() {
    let mut cache = Neighbours::new(8);
    let mut actions = Vec::new();
    for host in 0..100 {
        let target = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, host));
        let _ = cache.resolve(target, Packet::of(b"x"), Offload::default(), at(u64::from(host)), &mut actions);
    }
    assert!(cache.list().count() <= 8);
    for _ in 0..1000 {
        let _ = cache.resolve(PEER, Packet::of(b"x"), Offload::default(), at(200), &mut actions);
    }
    assert!(cache.entries[&PEER].waiting.len() <= WAITING_PACKETS);
}
