//! The network of a sandbox: its own loopback, and the namespace that it takes over. The guest is `integration/guests/datagrams.c`.

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

/// Runs the guest in the sandbox's namespace of a network.
fn guest(network: &Network, arguments: &[&str]) -> String {
    let runtime = Runtime::bulkhead();
    let mut bundle = Bundle::new(&tree("busybox"), &[&["/guest"], arguments].concat());
    compile("datagrams.c", &bundle.rootfs().join("guest"));
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
    let before = [network.shown("addr"), network.shown("route"), network.shown("-6 route")];
    for (host, own) in [("10.77.0.1", "10.77.0.2"), ("fd77::1", "fd77::2")] {
        let (port, peer) = network.shouts(address(host), 3);
        assert_eq!(guest(&network, &[host, &port.to_string(), "one", "two", "three"]), "ONE\nTWO\nTHREE\n");
        assert_eq!(peer.join().expect("it answers").ip(), address(own));
    }
    assert_eq!([network.shown("addr"), network.shown("route"), network.shown("-6 route")], before);
}
