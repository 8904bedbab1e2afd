//! The vfs service: take the channels, build the mount tree, lock down, run.
#![forbid(unsafe_code)]

use std::{process::ExitCode, sync::Arc};

use bulkhead_ipc::{confine::Restrictions, service, setup::Role};
use bulkhead_vfs::{
    debug,
    gofer::{Dropped, Gofer},
    server,
    world::World,
};
use parking_lot::Mutex;

const POLICY: &str = include_str!("policy.seccomp");

/// Open files at most, as far as the host allows: each memory file is one.
const OPEN_FILES: u64 = 1 << 20;

fn main() -> ExitCode {
    service::run("vfs", |role, mut fds, service| {
        let Role::Vfs(setup) = role else { return Err(service.wrong_role()) };
        let servers = fds.servers(setup.cpus.len())?;
        let dropped = Dropped::default();
        let clients = fds.clients(setup.cpus.len())?;
        let mut gofers: Vec<_> = clients.into_iter().map(|client| Gofer::new(client, dropped.clone())).collect();
        fds.finish()?;
        let prepared = service.prepare(&Restrictions { open_files: OPEN_FILES, ..Restrictions::default() })?;
        let first = gofers.first_mut().ok_or("there is no CPU to run on")?;
        let world = Arc::new(Mutex::new(World::new(&setup, first)?));
        server::start(&world, &setup.cpus, servers, gofers)?;
        prepared.seal(POLICY, debug::plane(world))?.wait_until_closed()
    })
}
