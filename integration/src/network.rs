//! Network namespaces of a test's own, with a veth pair between them: a peer, and what a sandbox is given.

use std::{
    fs::File,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread::JoinHandle,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};

use crate::runtime::eventually;

/// Two namespaces, `10.77.0.1` and `fd77::1` in one, `10.77.0.2` and `fd77::2` in the other, whose interface is called `eth0`.
#[derive(Debug)]
pub struct Network {
    name: String,
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Network {
    /// Makes them.
    pub fn new() -> Network {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bh{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let network = Network { name };
        let (peer, sandbox) = (network.peer(), network.sandbox());
        ip(&format!("netns add {peer}"));
        ip(&format!("netns add {sandbox}"));
        ip(&format!("link add eth0 netns {peer} type veth peer name eth0 netns {sandbox}"));
        for (namespace, number) in [(&peer, 1), (&sandbox, 2)] {
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} addr add 10.77.0.{number}/24 dev eth0"));
            ip(&format!("-n {namespace} addr add fd77::{number}/64 dev eth0 nodad"));
            ip(&format!("-n {namespace} link set eth0 up"));
        }
        ip(&format!("-n {sandbox} route add default via 10.77.0.1"));
        // The link-local address comes when both ends are up.
        eventually("the link is up", || network.shown("-br addr show dev eth0").contains("fe80::"));
        network
    }

    /// The peer's namespace.
    pub fn peer(&self) -> String {
        format!("{}p", self.name)
    }

    /// The sandbox's.
    pub fn sandbox(&self) -> String {
        format!("{}s", self.name)
    }

    /// Where the sandbox's is, for config.json.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.sandbox())
    }

    /// What `ip` says in the sandbox's namespace, but for what counts down.
    pub fn shown(&self, what: &str) -> String {
        let arguments = format!("-n {} {what}", self.sandbox());
        let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs something in a thread that is in the peer's namespace.
    pub fn in_peer<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}", self.peer())).expect("the namespace is there");
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("a test runs as root");
            act()
        })
    }

    /// A listener of the peer's, which gives the bytes of one connection back until they end, and returns how many there were and who
    /// sent them.
    pub fn echoes(&self, address: IpAddr) -> (u16, JoinHandle<(u64, SocketAddr)>) {
        let listener = self.in_peer(move || TcpListener::bind((address, 0)).expect("a port is free"));
        let listener = listener.join().expect("it can be bound");
        let port = listener.local_addr().expect("it is bound").port();
        let thread = std::thread::spawn(move || {
            let (stream, from) = listener.accept().expect("somebody comes");
            let (mut input, mut output) = (&stream, &stream);
            let bytes = std::io::copy(&mut input, &mut output).expect("it is given back");
            stream.shutdown(std::net::Shutdown::Write).expect("it was not shut down");
            (bytes, from)
        });
        (port, thread)
    }

    /// A socket of the peer's, which answers so many datagrams with themselves in capitals and then returns who sent the last.
    pub fn shouts(&self, address: IpAddr, datagrams: usize) -> (u16, JoinHandle<SocketAddr>) {
        let socket = self.in_peer(move || UdpSocket::bind((address, 0)).expect("a port is free"));
        let socket = socket.join().expect("it can be bound");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("it can be set");
        let port = socket.local_addr().expect("it is bound").port();
        let thread = std::thread::spawn(move || {
            let mut last = None;
            let mut buffer = [0; 2000];
            for _ in 0..datagrams {
                let (length, from) = socket.recv_from(&mut buffer).expect("a datagram comes");
                socket.send_to(&buffer[..length].to_ascii_uppercase(), from).expect("it can be answered");
                last = Some(from);
            }
            last.expect("one datagram at least")
        });
        (port, thread)
    }
}

impl Default for Network {
    fn default() -> Self {
        Network::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [self.peer(), self.sandbox()] {
            let _ = Command::new("ip").args(["netns", "delete", &namespace]).status();
        }
    }
}
