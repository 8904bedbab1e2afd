//! Messages in, messages out.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use bulkhead_ipc::{
    affinity,
    gofer::{Reply, Request},
    rpc::{RpcError, Server},
};

use crate::files::Gofer;

/// Starts a thread per connection, each on its CPU.
pub fn start(gofer: &Arc<Gofer>, cpus: &[u32], servers: Vec<Server>) -> std::io::Result<()> {
    for (&cpu, server) in cpus.iter().zip(servers) {
        let gofer = gofer.clone();
        affinity::spawn_on(cpu, &format!("gofer/{cpu}"), move || {
            if let Err(error) = serve(&gofer, server) {
                tracing::error!(cpu, %error, "a connection to vfs ended");
            }
        })?;
    }
    Ok(())
}

/// Answers one connection until the other side is gone.
pub fn serve(gofer: &Arc<Gofer>, mut server: Server) -> Result<(), RpcError> {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    loop {
        match server.receive(&mut request) {
            // No request carries an fd; one that comes all the same is closed here.
            Ok(_) => {}
            Err(RpcError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
        let (answer, fd) = match Request::decode(&request) {
            Ok(request) => gofer.answer(request),
            Err(error) => {
                tracing::warn!(%error, "dropped a request");
                (Reply::Error(error.errno()), None)
            }
        };
        answer.encode(&mut reply);
        let fds: Vec<BorrowedFd<'_>> = fd.iter().map(AsFd::as_fd).collect();
        server.reply(&reply, &fds)?;
    }
}
