//! The netstack service: take the channels, lock down, run.
#![forbid(unsafe_code)]

use bulkhead_ipc::{confine::Restrictions, service, setup::Role};
use bulkhead_netstack::{debug, server::Server};
use std::process::ExitCode;

const POLICY: &str = include_str!("policy.seccomp");

fn main() -> ExitCode {
    service::run("netstack", |role, fds, service| {
        let Role::Netstack(setup) = role else { return Err(service.wrong_role()) };
        fds.finish()?;
        let prepared = service.prepare(&Restrictions { open_files: 256, ..Restrictions::default() })?;
        let server = Server::new(setup);
        let control = prepared.seal(POLICY, debug::plane())?;
        server.run(&control)
    })
}
