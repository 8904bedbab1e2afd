//! Messages in, messages out.

use std::sync::Arc;

use bulkhead_ipc::rpc::Server;

use crate::files::Gofer;

/// Starts a thread per connection to vfs, each on its CPU.
pub fn start(gofer: &Arc<Gofer>, cpus: &[u32], servers: Vec<Server>) -> std::io::Result<()> {
    for (&cpu, server) in cpus.iter().zip(servers) {
        let gofer = gofer.clone();
        server.serve_on(cpu, "gofer", "vfs", move |request| gofer.answer(request))?;
    }
    Ok(())
}
