//! Messages in, messages out.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use bulkhead_ipc::{
    affinity,
    rpc::{RpcError, Server},
    vfs::{Reply, Request},
};
use parking_lot::Mutex;

use crate::{gofer::Gofer, world::World};

/// Starts a thread per connection, each on its CPU and with its own connection to the gofer.
pub fn start(world: &Arc<Mutex<World>>, cpus: &[u32], servers: Vec<Server>, gofers: Vec<Gofer>) -> std::io::Result<()> {
    for ((&cpu, server), gofer) in cpus.iter().zip(servers).zip(gofers) {
        let world = world.clone();
        affinity::spawn_on(cpu, &format!("vfs/{cpu}"), move || {
            if let Err(error) = serve(&world, server, gofer) {
                tracing::error!(cpu, %error, "a connection to the sentry ended");
            }
        })?;
    }
    Ok(())
}

/// Answers one connection of the sentry's until it is gone.
pub fn serve(world: &Arc<Mutex<World>>, mut server: Server, mut gofer: Gofer) -> Result<(), RpcError> {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    loop {
        match server.receive(&mut request) {
            // No request carries an fd; one that comes all the same is closed here.
            Ok(_) => {}
            Err(RpcError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
        let (answer, fd) = match Request::decode(&request) {
            Ok(request) => world.lock().answer(&mut gofer, &request),
            Err(error) => {
                tracing::warn!(%error, "dropped a request");
                (Reply::Error(error.errno()), None)
            }
        };
        answer.encode(&mut reply);
        let fds: Vec<BorrowedFd<'_>> = fd.iter().map(|fd| fd.as_fd()).collect();
        server.reply(&reply, &fds)?;
    }
}
