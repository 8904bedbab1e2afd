//! TCP's settings: what /proc/sys/net/ipv4/tcp_* has, with Linux's defaults.

use std::time::Duration;

/// Which algorithm sets the congestion window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 9438.
    Cubic,
    /// RFC 5681.
    Reno,
}

/// `tcp_ecn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ecn {
    /// Never.
    Off,
    /// Asked for and granted.
    On,
    /// Granted to those who ask.
    Passive,
}

/// `tcp_syncookies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookies {
    /// Never: what does not fit into the queue is dropped.
    Off,
    /// When the queue is full.
    WhenFull,
    /// Always.
    Always,
}

/// A buffer's least, first and greatest size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Never less.
    pub least: usize,
    /// At first.
    pub first: usize,
    /// As far as it grows by itself.
    pub most: usize,
}

/// The settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `tcp_window_scaling`.
    pub window_scaling: bool,
    /// `tcp_timestamps`.
    pub timestamps: bool,
    /// `tcp_sack`.
    pub sack: bool,
    /// `tcp_ecn`.
    pub ecn: Ecn,
    /// `tcp_syncookies`.
    pub cookies: Cookies,
    /// `tcp_congestion_control`.
    pub algorithm: Algorithm,
    /// `tcp_rmem`: as Linux counts, half of it is the window.
    pub receive: Sizes,
    /// `tcp_wmem`.
    pub send: Sizes,
    /// `tcp_syn_retries`.
    pub syn_retries: u8,
    /// `tcp_synack_retries`.
    pub synack_retries: u8,
    /// `tcp_retries2`: how often the same data is sent again before the connection is given up.
    pub retries: u8,
    /// `tcp_orphan_retries`, for connections without a user.
    pub orphan_retries: u8,
    /// `tcp_fin_timeout`: how long the peer may take to close after us, when nobody reads any more.
    pub fin_timeout: Duration,
    /// How long TIME_WAIT lasts.
    pub time_wait: Duration,
    /// `tcp_keepalive_time`.
    pub keepalive_idle: Duration,
    /// `tcp_keepalive_intvl`.
    pub keepalive_interval: Duration,
    /// `tcp_keepalive_probes`.
    pub keepalive_probes: u8,
    /// `tcp_max_syn_backlog`.
    pub half_open: usize,
    /// `somaxconn`.
    pub backlog: usize,
    /// `tcp_abort_on_overflow`.
    pub abort_on_overflow: bool,
    /// The first congestion window, in segments.
    pub initial_window: usize,
    /// The shortest retransmission time-out.
    pub rto_min: Duration,
    /// The longest one.
    pub rto_max: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            window_scaling: true,
            timestamps: true,
            sack: true,
            ecn: Ecn::Passive,
            cookies: Cookies::WhenFull,
            algorithm: Algorithm::Cubic,
            receive: Sizes { least: 4096, first: 131_072, most: 6 << 20 },
            send: Sizes { least: 4096, first: 16_384, most: 4 << 20 },
            syn_retries: 6,
            synack_retries: 5,
            retries: 15,
            orphan_retries: 8,
            fin_timeout: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            keepalive_idle: Duration::from_secs(7200),
            keepalive_interval: Duration::from_secs(75),
            keepalive_probes: 9,
            half_open: 4096,
            backlog: 4096,
            abort_on_overflow: false,
            initial_window: 10,
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
        }
    }
}

impl Settings {
    /// The window scale that goes with the greatest receive buffer (RFC 7323, 2.2).
    pub(crate) fn window_scale(&self) -> u8 {
        (0..14).find(|shift| (65_535_usize << shift) >= self.receive.most).unwrap_or(14)
    }
}
