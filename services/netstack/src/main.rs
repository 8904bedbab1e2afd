//! The netstack service: take the channels, lock down, run.
#![forbid(unsafe_code)]

use bulkhead_ipc::{confine::Restrictions, service, setup::Role};
use bulkhead_netstack::{debug, server, service as stack};
use std::process::ExitCode;

const POLICY: &str = include_str!("policy.seccomp");

fn main() -> ExitCode {
    service::run("netstack", |role, mut fds, service| {
        let Role::Netstack(setup) = role else { return Err(service.wrong_role()) };
        let servers = fds.servers(setup.cpus.len())?;
        let board = fds.readiness()?;
        fds.finish()?;
        let prepared = service.prepare(&Restrictions { open_files: 256, ..Restrictions::default() })?;
        let driver = stack::Driver::new(server::config()?, board)?;
        stack::start(&driver, &setup.cpus, servers)?;
        let control = prepared.seal(POLICY, debug::plane())?;
        server::obey(&driver, &control)
    })
}
