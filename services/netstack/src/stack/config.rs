//! What a stack is made with: its secret, its limits, and the settings that /proc/sys/net has.

use crate::{random::Key, tcp::Settings};
use std::ops::RangeInclusive;

/// Bounds on memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sockets, those included that the stack keeps for itself (half-open, TIME_WAIT, orphans).
    pub sockets: usize,
    /// Neighbours of one interface.
    pub neighbours: usize,
    /// Path MTUs.
    pub path_mtus: usize,
    /// Bytes of fragments that wait for others.
    pub reassembly_bytes: usize,
    /// Frames in the transmit queue.
    pub transmit_packets: usize,
    /// TIME_WAIT sockets (`tcp_max_tw_buckets`).
    pub time_wait: usize,
    /// Connections without a user (`tcp_max_orphans`).
    pub orphans: usize,
}

/// Everything that a stack has to be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Random and secret. With the same key, the same packets and the same times a stack does the same.
    pub key: Key,
    /// Bounds on memory.
    pub limits: Limits,
    /// Ports for those who ask for none (`ip_local_port_range`).
    pub local_ports: RangeInclusive<u16>,
    /// Default receive buffer of a datagram socket in bytes (`rmem_default`).
    pub datagram_receive_buffer: usize,
    /// TCP's settings.
    pub tcp: Settings,
}

impl Config {
    /// Linux's defaults.
    pub fn new(key: Key) -> Config {
        Config {
            key,
            limits: Limits {
                sockets: 1 << 16,
                neighbours: 1024,
                path_mtus: 4096,
                reassembly_bytes: 4 << 20,
                transmit_packets: 1000,
                time_wait: 16_384,
                orphans: 8192,
            },
            local_ports: 32_768..=60_999,
            datagram_receive_buffer: 212_992,
            tcp: Settings::default(),
        }
    }
}
