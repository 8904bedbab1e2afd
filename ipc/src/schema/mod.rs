//! What `capnp` generates from `schema/` (run `make schema`). Not edited, not formatted, not documented by hand.

#![allow(clippy::all, missing_docs, unused_qualifications)]

#[rustfmt::skip]
pub mod control_capnp;
#[rustfmt::skip]
pub mod gofer_capnp;
#[rustfmt::skip]
pub mod net_capnp;
#[rustfmt::skip]
pub mod vfs_capnp;
