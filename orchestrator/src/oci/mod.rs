//! From an OCI bundle to what the services are told. `config` reads and checks config.json; the other modules turn its parts
//! into `ipc::setup` types. Nothing here changes anything on the host.

mod annotation;
mod capabilities;
mod complaint;
pub mod config;
mod default_spec;
mod hidden;
pub mod ids;
mod limits;
pub mod mounts;
mod network;
mod nodes;
mod overlay;
pub mod plan;
mod process_file;
mod program;
pub mod resources;
mod seccomp;

pub use capabilities::{ALL as ALL_CAPABILITIES, NAMES as CAPABILITY_NAMES};
pub use config::Config;
pub use default_spec::{default_mounts, default_spec};
pub use mounts::MOUNT_OPTIONS;
pub use network::NetworkMode;
pub use overlay::Overlay;
pub use plan::Plan;
pub use process_file::ProcessFile;
pub use program::set_variable;

/// The version of the runtime specification that is implemented.
pub const SPEC_VERSION: &str = "1.2.0";
