//! Messages in, messages out.

use std::sync::Arc;

use bulkhead_ipc::{rpc::Server, vfs::Request};
use parking_lot::Mutex;

use crate::{gofer::Gofer, world::World};

/// Starts a thread per connection to the sentry, each on its CPU and with its own connection to the gofer.
pub fn start(world: &Arc<Mutex<World>>, cpus: &[u32], servers: Vec<Server>, gofers: Vec<Gofer>) -> std::io::Result<()> {
    for ((&cpu, server), mut gofer) in cpus.iter().zip(servers).zip(gofers) {
        let world = world.clone();
        server.serve_on(cpu, "vfs", "the sentry", move |request: Request| world.lock().answer(&mut gofer, &request))?;
    }
    Ok(())
}
