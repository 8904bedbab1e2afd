//! The options of a stream socket.

use super::settings::Algorithm;
use std::time::Duration;

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOption {
    /// TCP_NODELAY.
    NoDelay(bool),
    /// TCP_CORK.
    Cork(bool),
    /// TCP_QUICKACK.
    QuickAck(bool),
    /// SO_KEEPALIVE.
    KeepAlive(bool),
    /// TCP_KEEPIDLE.
    KeepIdle(Duration),
    /// TCP_KEEPINTVL.
    KeepInterval(Duration),
    /// TCP_KEEPCNT.
    KeepCount(u8),
    /// TCP_USER_TIMEOUT.
    UserTimeout(Option<Duration>),
    /// SO_LINGER with zero seconds: close is a reset. Waiting is the caller's.
    ResetOnClose(bool),
    /// TCP_LINGER2.
    FinTimeout(Duration),
    /// TCP_MAXSEG.
    MaxSegment(u16),
    /// TCP_CONGESTION.
    Congestion(Algorithm),
    /// TCP_SYNCNT.
    SynRetries(u8),
    /// SO_OOBINLINE.
    UrgentInline(bool),
}

/// All of them, which an accepted connection has from its listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamOptions {
    pub no_delay: bool,
    pub cork: bool,
    pub keep_alive: bool,
    pub keep_idle: Option<Duration>,
    pub keep_interval: Option<Duration>,
    pub keep_count: Option<u8>,
    pub user_timeout: Option<Duration>,
    pub reset_on_close: bool,
    pub fin_timeout: Option<Duration>,
    pub max_segment: Option<u16>,
    pub algorithm: Option<Algorithm>,
    pub syn_retries: Option<u8>,
    pub urgent_inline: bool,
    pub receive_buffer: Option<usize>,
    pub send_buffer: Option<usize>,
}

impl StreamOptions {
    pub(crate) fn set(&mut self, option: StreamOption) {
        match option {
            StreamOption::NoDelay(on) => self.no_delay = on,
            StreamOption::Cork(on) => self.cork = on,
            StreamOption::QuickAck(_) => {}
            StreamOption::KeepAlive(on) => self.keep_alive = on,
            StreamOption::KeepIdle(time) => self.keep_idle = Some(time),
            StreamOption::KeepInterval(time) => self.keep_interval = Some(time),
            StreamOption::KeepCount(count) => self.keep_count = Some(count),
            StreamOption::UserTimeout(time) => self.user_timeout = time,
            StreamOption::ResetOnClose(on) => self.reset_on_close = on,
            StreamOption::FinTimeout(time) => self.fin_timeout = Some(time),
            StreamOption::MaxSegment(size) => self.max_segment = Some(size.max(88)),
            StreamOption::Congestion(algorithm) => self.algorithm = Some(algorithm),
            StreamOption::SynRetries(count) => self.syn_retries = Some(count),
            StreamOption::UrgentInline(on) => self.urgent_inline = on,
        }
    }
}
