//! netstack: the compartment that is to own the sandbox's TCP/IP stack and is the only one to touch its link.
//!
//! The engine, [`Stack`], does no I/O and looks at no clock. The service drives it: frames between it and packet sockets of the host,
//! timers, and the sentry's requests.
//!
//! | module | what it owns |
//! |---|---|
//! | [`server`] | the service's life: from the set-up to the supervisor's going |
//! | [`service`] | what drives the engine, and what the sentry asks of it |
//! | [`debug`] | what its debug socket answers |
//! | [`stack`] | the engine's public face: packets in and out, time, socket calls |
//! | [`socket`] | what every socket has; how a packet finds it; ports |
//! | [`tcp`] | streams |
//! | [`udp`], `raw` | datagrams |
//! | [`icmp`] | echoes, and errors both ways |
//! | `network` | what lies beneath the sockets: interfaces, routes, queues |
//! | [`ip`] | headers, fragments, reassembly, path MTU, the routing table |
//! | [`link`] | Ethernet, ARP, neighbour discovery, offloads |
//!
//! `policy.seccomp` is what it may ask of the host.
#![forbid(unsafe_code)]

pub mod debug;
pub mod error;
pub mod icmp;
pub mod ip;
pub mod link;
mod network;
pub mod packet;
pub mod random;
mod raw;
pub mod server;
pub mod service;
pub mod socket;
pub mod stack;
pub mod tcp;
pub mod time;
pub mod udp;

pub use error::Error;
pub use network::Frame;
pub use stack::{Config, Stack, datagram::SendOptions, stream::WriteOptions};
