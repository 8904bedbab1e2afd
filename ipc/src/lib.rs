//! How Bulkhead's services speak to each other, start, and lock themselves down.
//!
//! | module | what it owns |
//! |---|---|
//! | [`channel`] | the control plane: messages with fds over a SEQPACKET socket |
//! | [`ring`], [`rpc`] | the fast plane: synchronous calls through shared memory |
//! | [`command`] | what commands ask of a supervisor |
//! | [`setup`] | what the supervisor and the services tell each other |
//! | [`vfs`] | what the sentry asks of vfs |
//! | [`gofer`] | what vfs asks of the gofer |
//! | [`net`] | what the sentry asks of netstack, and what its sockets are ready for |
//! | [`published`] | the names and attributes that vfs lets the sentry see without asking |
//! | [`service`] | the scaffolding of every service's `main` |
//! | [`confine`] | what a service takes away from itself before it serves |
//! | [`debug`] | the gRPC server that costs nothing until someone connects |
//! | [`affinity`] | threads that stay on one CPU |
//! | [`code`] | giving back the code that only the start needed |

pub mod affinity;
pub mod channel;
pub mod code;
pub mod command;
pub mod confine;
pub mod debug;
mod errno;
pub mod gofer;
mod mapping;
pub mod net;
pub mod published;
pub mod ring;
pub mod rpc;
mod schema;
pub mod service;
pub mod setup;
pub mod vfs;
mod wire;

pub use errno::{Errno, name_of};
use schema::{control_capnp, gofer_capnp, net_capnp, vfs_capnp};
pub use wire::DecodeError;
