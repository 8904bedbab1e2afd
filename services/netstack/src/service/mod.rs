//! The stack at work: what drives it, and what the sentry asks of it.
//!
//! | module | what it owns |
//! |---|---|
//! | [`driver`] | the one lock, the links' frames, timers, and what the sentry is told of sockets |
//! | [`link`] | a packet socket of the host |
//! | [`calls`] | the sentry's requests |
//! | `info` | struct tcp_info |
//! | [`options`] | socket options as setsockopt(2) has them |
//!
//! One thread a CPU answers the sentry and does what its request brings about, out to the wire; one more takes what comes in and keeps
//! the time.

mod calls;
mod driver;
mod info;
mod link;
mod options;

pub use driver::Driver;

use std::{os::fd::OwnedFd, sync::Arc};

use bulkhead_ipc::{Errno, affinity, rpc::Server};

/// Starts the threads: one per connection to the sentry, each on its CPU, and the one that watches the links.
pub fn start(driver: &Arc<Driver>, cpus: &[u32], servers: Vec<Server>) -> std::io::Result<()> {
    for (&cpu, server) in cpus.iter().zip(servers) {
        let driver = driver.clone();
        server.serve_on(cpu, "netstack", "the sentry", move |request| (calls::answer(&driver, request), None::<OwnedFd>))?;
    }
    let driver = driver.clone();
    affinity::spawn("links", move || driver.watch())
}

/// The engine's error as the guest's.
fn errno(error: crate::Error) -> Errno {
    Errno::new(error.errno())
}
