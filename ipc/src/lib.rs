//! How Bulkhead's services speak to each other.

mod errno;
pub mod rpc;
pub mod setup;
pub mod vfs;

pub use errno::{Errno, name_of};
