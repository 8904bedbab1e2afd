//! The debug plane: a gRPC server in every service that costs a parked thread until someone connects.
//!
//! The supervisor makes the listening socket before the service is locked down. The thread waits in poll(2); with the first
//! connection it starts a tokio runtime on itself, and a little after the last connection has gone it drops it again. What the
//! runtime needs of the host is in `policy.seccomp`, which a service's policy takes in by `include debug`.
//!
//! Every service answers the standard health service, server reflection and [`proto::debug_server::Debug`]; [`Plane::with`] adds
//! its own.
#![forbid(unsafe_code)]

mod authority;
mod common;
mod connection;
mod server;
mod stats;

pub(crate) use common::Common;
pub use server::Plane;
pub(crate) use stats::Stats;

/// The generated code of `proto/debug.proto`.
#[allow(missing_docs)]
pub mod proto {
    tonic::include_proto!("bulkhead.debug.v1");

    /// The protocol's description, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/debug.descriptors"));
}
