use super::*;

const PORT: u16 = 80;
const LINK: InterfaceId = InterfaceId(2);

fn handle(index: u32) -> Handle {
    Handle { index, generation: 0 }
}

fn binding(index: u32, address: &str) -> Binding {
    let address: IpAddr = address.parse().unwrap();
    Binding {
        handle: handle(index),
        address: Some(address).filter(|address| !address.is_unspecified()),
        family: if address.is_ipv4() { Family::V4 } else { Family::V6 },
        v6_only: false,
        interface: None,
        reuse_address: false,
        reuse_port: false,
        owner: 0,
        listening: true,
    }
}

fn ends(local: &str, remote: &str) -> Ends {
    Ends { protocol: protocol::TCP, local: local.parse().unwrap(), remote: remote.parse().unwrap() }
}

fn demux(bindings: &[Binding]) -> Demux {
    let mut demux = Demux::new(Key([7, 8]));
    for &binding in bindings {
        demux.bind(protocol::TCP, PORT, binding);
    }
    demux
}

fn may(demux: &Demux, new: Binding) -> bool {
    demux.may_bind(protocol::TCP, PORT, &new)
}

#[test]
fn a_connection_comes_before_listeners_and_the_best_listener_before_others() {
    let mut demux = demux(&[
        binding(1, "::"),
        binding(2, "0.0.0.0"),
        binding(3, "10.0.0.1"),
        Binding { interface: Some(LINK), ..binding(4, "10.0.0.1") },
    ]);
    let to = |demux: &Demux, local: &str, link| demux.bound(&ends(local, "10.9.9.9:5"), link).map(|handle| handle.index);
    assert_eq!(to(&demux, "10.0.0.1:80", LINK), Some(4));
    assert_eq!(to(&demux, "10.0.0.1:80", InterfaceId(9)), Some(3));
    assert_eq!(to(&demux, "10.0.0.2:80", LINK), Some(2));
    assert_eq!(to(&demux, "[fd00::1]:80", LINK), Some(1));
    assert_eq!(to(&demux, "10.0.0.1:81", LINK), None);
    let both = ends("10.0.0.1:80", "10.9.9.9:5");
    assert!(demux.connect(both, handle(9), false, false));
    assert!(!demux.connect(both, handle(10), false, false));
    assert_eq!(demux.connection(&both), Some(handle(9)));
}

#[test]
fn a_dual_stack_wildcard_takes_both_families_unless_it_is_v6_only() {
    let both = demux(&[binding(1, "::")]);
    let ends = ends("10.0.0.1:80", "10.9.9.9:5");
    assert!(both.bound(&ends, LINK).is_some());
    assert!(!may(&both, binding(2, "0.0.0.0")));
    let six = demux(&[Binding { v6_only: true, ..binding(1, "::") }]);
    assert!(six.bound(&ends, LINK).is_none());
    assert!(may(&six, binding(2, "0.0.0.0")));
    assert!(!may(&six, binding(2, "fd00::1")));
}

#[test]
fn addresses_conflict_with_themselves_and_with_the_wildcard() {
    let demux = demux(&[binding(1, "10.0.0.1")]);
    assert!(!may(&demux, binding(2, "10.0.0.1")));
    assert!(!may(&demux, binding(2, "0.0.0.0")));
    assert!(!may(&demux, binding(2, "::")));
    assert!(may(&demux, binding(2, "10.0.0.2")));
}

#[test]
fn reuse_address_shares_a_port_while_nobody_listens() {
    let share = |index, listening| Binding { reuse_address: true, listening, ..binding(index, "0.0.0.0") };
    assert!(may(&demux(&[share(1, false)]), share(2, false)));
    assert!(!may(&demux(&[share(1, true)]), share(2, false)));
    assert!(!may(&demux(&[share(1, false)]), Binding { reuse_address: false, ..share(2, false) }));
}

#[test]
fn reuse_port_shares_among_one_owner_and_spreads_connections() {
    let share = |index, owner| Binding { reuse_port: true, owner, ..binding(index, "0.0.0.0") };
    let demux = demux(&[share(1, 1000), share(2, 1000), share(3, 1000)]);
    assert!(may(&demux, share(4, 1000)));
    assert!(!may(&demux, share(4, 1001)));
    let mut counts = [0; 4];
    for port in 1..=3000 {
        let chosen = demux.bound(&ends("10.0.0.1:80", &format!("10.9.9.9:{port}")), LINK).unwrap();
        counts[chosen.index as usize] += 1;
        assert_eq!(demux.bound(&ends("10.0.0.1:80", &format!("10.9.9.9:{port}")), LINK), Some(chosen));
    }
    assert!(counts[1..].iter().all(|&count| count > 800), "{counts:?}");
}

#[test]
fn connections_of_a_former_server_are_in_the_way_unless_both_reuse_the_address() {
    let mut demux = demux(&[]);
    let both = ends("10.0.0.1:80", "10.9.9.9:5");
    demux.connect(both, handle(1), true, false);
    assert!(!may(&demux, binding(2, "0.0.0.0")));
    assert!(may(&demux, Binding { reuse_address: true, ..binding(2, "0.0.0.0") }));
    demux.disconnect(&both);
    assert!(may(&demux, binding(2, "0.0.0.0")));
    demux.connect(both, handle(1), false, false);
    assert!(!may(&demux, Binding { reuse_address: true, ..binding(2, "0.0.0.0") }));
}
