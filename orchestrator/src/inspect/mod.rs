//! Asking the debug planes of a sandbox, and showing the answers.
//!
//! - `client`: a connection to a service's debug socket
//! - `paint`: colour where it is wanted, tables, and text that does not drive a terminal
//! - `metrics`: figures in the form that Prometheus reads
//! - `host`: what the host says of a process
//!
//! A service may be anything by the time it is asked: what it says is shown as text, with control characters escaped, and what is not
//! gRPC is an error that names the service.

mod client;
pub mod host;
pub mod metrics;
pub mod paint;

pub use client::{Inspection, Interrupt, failure, run};

/// The generated code of the protocols.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    pub mod debug {
        tonic::include_proto!("bulkhead.debug.v1");
    }
    pub mod sentry {
        tonic::include_proto!("bulkhead.sentry.v1");
    }
    pub mod vfs {
        tonic::include_proto!("bulkhead.vfs.v1");
    }
    pub mod gofer {
        tonic::include_proto!("bulkhead.gofer.v1");
    }
    pub mod supervisor {
        tonic::include_proto!("bulkhead.supervisor.v1");

        /// The protocol's description, for reflection.
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/supervisor.descriptors"));
    }
}

/// A state by name, for JSON.
pub(crate) fn show_state<S: serde::Serializer>(state: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state_name(*state))
}

/// What is known of a name in vfs.
pub fn state_name(state: i32) -> &'static str {
    use proto::vfs::step::State;
    match State::try_from(state).unwrap_or(State::Unspecified) {
        State::Unspecified => "?",
        State::Present => "present",
        State::Absent => "absent",
        State::Whiteout => "whiteout",
        State::Listed => "listed",
        State::Unknown => "unknown",
        State::Foreign => "foreign",
    }
}
