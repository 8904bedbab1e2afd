//! The debug plane: a gRPC server in every service that costs two parked threads until someone connects.
//!
//! The supervisor makes the listening socket before the service is locked down. One thread waits for it, and for the connections, in
//! poll(2) ([`reactor`]). With the first connection the other starts a tokio runtime on itself, which has a clock but no reactor of its
//! own, and drops it a little after the last connection has gone. So all that is needed of the host beside what every service may do
//! is in `policy.seccomp`, which a service's policy takes in by `include debug`.
//!
//! Every service answers the standard health service, server reflection and [`proto::debug_server::Debug`]; [`Plane::with`] adds
//! its own.#![forbid(unsafe_code)]

mod authority;
mod common;
mod connection;
mod reactor;
mod server;
mod stats;

pub(crate) use common::Common;
pub use connection::Keeper;
pub use server::Plane;
pub(crate) use stats::Stats;

/// The generated code of `proto/debug.proto`.
#[allow(missing_docs)]
pub mod proto {
    tonic::include_proto!("bulkhead.debug.v1");

    /// The protocol's description, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/debug.descriptors"));
}
