//! The sentry's process. Everything is in the library; this connects it to the supervisor.

use std::process::ExitCode;

use bulkhead_ipc::{service, setup::Role};

fn main() -> ExitCode {
    service::run("sentry", |role, fds, service| match role {
        Role::Sentry(setup) => bulkhead_sentry::server::serve(setup, fds, service),
        _ => Err(service.wrong_role()),
    })
}
