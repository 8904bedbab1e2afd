//! The network of a sandbox: its own loopback, and the namespace that it takes over. The guests are
//! `integration/guests/datagrams.c` and `integration/guests/streams.c`.

use std::net::IpAddr;

use bulkhead_integration::{
    bundle::Bundle,
    guest::compile,
    leftovers::Leftovers,
    network::Network,
    runtime::{Runtime, code, text},
    scene::Scene,
    tree,
};

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn datagrams_on_loopback_behave_as_under_runc() {
    Scene::guest("datagrams.c").same_and_succeeds();
}

#[test]
fn streams_on_loopback_behave_as_under_runc() {
    Scene::guest("streams.c").same_and_succeeds();
}

/// Runs a guest in the sandbox's namespace of a network.
fn guest(network: &Network, source: &str, arguments: &[&str]) -> String {
    let runtime = Runtime::bulkhead();
    let mut bundle = Bundle::new(&tree("busybox"), &[&["/guest"], arguments].concat());
    compile(source, &bundle.rootfs().join("guest"));
    bundle.configure(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("there are namespaces");
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(serde_json::json!({ "type": "network", "path": network.path() }));
    });
    let output = runtime.run(&bundle, b"");
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    Leftovers::of(&runtime).assert_none();
    text(&output.stdout)
}

#[test]
fn a_sandbox_speaks_with_the_addresses_of_its_namespace_and_gives_them_back() {
    let network = Network::new();
    let before = [network.shown("-br addr"), network.shown("route"), network.shown("-6 route")];
    for (host, own) in [("10.77.0.1", "10.77.0.2"), ("fd77::1", "fd77::2")] {
        let (port, peer) = network.shouts(address(host), 3);
        assert_eq!(guest(&network, "datagrams.c", &[host, &port.to_string(), "one", "two", "three"]), "ONE\nTWO\nTHREE\n");
        assert_eq!(peer.join().expect("it answers").ip(), address(own));
    }
    assert_eq!([network.shown("-br addr"), network.shown("route"), network.shown("-6 route")], before);
}

#[test]
fn streams_go_to_the_hosts_own_tcp_and_come_back_whole() {
    const BYTES: u64 = 5_000_000;
    let network = Network::new();
    for (host, own) in [("10.77.0.1", "10.77.0.2"), ("fd77::1", "fd77::2")] {
        let (port, peer) = network.echoes(address(host));
        let said = guest(&network, "streams.c", &[host, &port.to_string(), &BYTES.to_string()]);
        assert_eq!(said, format!("{BYTES} bytes\n"));
        let (bytes, from) = peer.join().expect("it echoes");
        assert_eq!((bytes, from.ip()), (BYTES, address(own)));
    }
}
