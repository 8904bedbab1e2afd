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

use std::sync::Arc;

use bulkhead_ipc::{
    Errno, affinity,
    net::{Reply, Request},
    rpc::{RpcError, Server},
};

/// Starts the threads: one per connection to the sentry, each on its CPU, and the one that watches the links.
pub fn start(driver: &Arc<Driver>, cpus: &[u32], servers: Vec<Server>) -> std::io::Result<()> {
    for (&cpu, server) in cpus.iter().zip(servers) {
        let driver = driver.clone();
        affinity::spawn_on(cpu, &format!("netstack/{cpu}"), move || {
            if let Err(error) = serve(&driver, server) {
                tracing::error!(cpu, %error, "a connection to the sentry ended");
            }
        })?;
    }
    let driver = driver.clone();
    affinity::spawn("links", move || driver.watch())
}

/// Answers one connection of the sentry's until it is gone.
fn serve(driver: &Driver, mut server: Server) -> Result<(), RpcError> {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    loop {
        match server.receive(&mut request) {
            // No request carries an fd; one that comes all the same is closed here.
            Ok(_) => {}
            Err(RpcError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
        let answer = match Request::decode(&request) {
            Ok(request) => calls::answer(driver, request),
            Err(error) => {
                tracing::warn!(%error, "dropped a request");
                Reply::Error(error.errno())
            }
        };
        answer.encode(&mut reply);
        server.reply(&reply, &[])?;
    }
}

/// The engine's error as the guest's.
fn errno(error: crate::Error) -> Errno {
    Errno::new(error.errno())
}
