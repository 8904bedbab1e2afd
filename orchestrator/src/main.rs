//! `bulkhead`: an OCI runtime whose containers run on an application kernel of separately confined services.
//!
//! The orchestrator starts, connects, supervises and ends the services of each sandbox, and keeps what is known of containers
//! on disk. It parses no guest data.
//!
//! - `cli`: the commands, in runc's form
//! - `oci`: bundles and config.json
//! - `supervisor`: the process that stands for a running container
//! - `inspect`: asking the debug planes of a sandbox
//! - `terminal`: the master of a container's terminal
//! - `state`, `cgroup`, `hooks`: what a container has on the host
//! - `host`: raw host calls, the only `unsafe` code
#![deny(unsafe_code)]

mod cgroup;
mod cli;
mod clock;
mod error;
mod hooks;
mod host;
mod id;
mod inspect;
mod log;
mod network;
mod oci;
mod signals;
mod state;
mod supervisor;
mod terminal;

fn main() {
    std::process::exit(cli::main());
}
