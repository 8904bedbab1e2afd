//! TCP.
//!
//! A connection is pure: it is given segments, calls and the time, and gives segments, readiness and a deadline.
//!
//! | file | what it does |
//! |---|---|
//! | `seq`, `segment`, `settings`, `options` | numbers, headers, what can be set |
//! | `connection` | what a connection remembers; its beginning and end |
//! | `input`, `acknowledge`, `receive` | what it does with a segment, its acknowledgement, its data |
//! | `user` | what the user asks |
//! | `output` | what it sends |
//! | `timers` | what time brings |
//! | `scoreboard`, `rack`, `rtt`, `congestion` | what is in flight, what is lost, how long a trip takes, how much may be in flight |
//! | `assembler`, `store` | what arrived out of order; where bytes lie |
//! | `listener`, `cookie` | half-open connections, the accept queue, TIME_WAIT |

mod acknowledge;
mod assembler;
mod congestion;
pub(crate) mod connection;
pub(crate) mod cookie;
pub(crate) mod info;
pub(crate) mod input;
pub(crate) mod listener;
pub(crate) mod options;
mod output;
mod rack;
mod receive;
mod rtt;
mod scoreboard;
pub(crate) mod segment;
pub(crate) mod seq;
pub(crate) mod settings;
pub mod store;
mod timers;
mod user;

pub use connection::State;
pub use info::Info;
pub use options::StreamOption;
pub use settings::{Algorithm, Cookies, Ecn, Settings, Sizes};

pub(crate) use connection::Connection;
pub(crate) use listener::{Listener, Request, TimeWait};
pub(crate) use output::Emission;

use crate::socket::Readiness;
use options::StreamOptions;

/// What a stream socket is at present.
#[derive(Debug)]
pub(crate) enum Phase {
    Idle,
    Listening(Listener),
    Open(Box<Connection>),
}

/// A stream socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub phase: Phase,
    pub options: StreamOptions,
}

impl Socket {
    pub(crate) fn new() -> Socket {
        Socket { phase: Phase::Idle, options: StreamOptions::default() }
    }

    /// SO_RCVBUF: as Linux counts, half of it is the window; it grows by itself no more.
    pub(crate) fn set_receive_buffer(&mut self, bytes: usize) {
        self.options.receive_buffer = Some(bytes);
        if let Phase::Open(connection) = &mut self.phase {
            connection.options.receive_buffer = Some(bytes);
            connection.r.limit = connection.r.limit.max(bytes / 2);
        }
    }

    /// SO_SNDBUF.
    pub(crate) fn set_send_buffer(&mut self, bytes: usize) {
        self.options.send_buffer = Some(bytes);
        if let Phase::Open(connection) = &mut self.phase {
            connection.options.send_buffer = Some(bytes);
            connection.s.limit = bytes;
        }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        match &self.phase {
            // As Linux: who is nothing yet is hung up, and writing would fail at once.
            Phase::Idle => Readiness::WRITABLE | Readiness::HANG_UP,
            Phase::Listening(listener) if listener.ready.is_empty() => Readiness::empty(),
            Phase::Listening(_) => Readiness::READABLE,
            Phase::Open(connection) => connection.readiness(),
        }
    }
}
