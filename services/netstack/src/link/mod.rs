//! Interfaces and what lies between them and IP: Ethernet framing, ARP, neighbour discovery, offloads.
//!
//! Nothing here reads or writes a file: a frame comes in as a slice and goes out through the transmit queue.

pub(crate) mod arp;
pub(crate) mod ethernet;

pub mod gro;
pub(crate) mod interface;
pub(crate) mod ndp;
pub(crate) mod neighbour;
pub mod offload;

pub use interface::{Capabilities, InterfaceAddress, InterfaceConfig, InterfaceId, Medium};
pub use neighbour::{NeighbourInfo, NeighbourState};
pub use smoltcp::wire::EthernetAddress;
