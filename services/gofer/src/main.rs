//! The gofer service: take the channels and the roots, lock down, run.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd, process::ExitCode, sync::Arc};

use bulkhead_gofer::{debug, files::Gofer, host, roots::Root, server};
use bulkhead_ipc::{
    confine::{Capability, Files, Restrictions},
    service::{self, ServiceError},
    setup::Role,
};

const POLICY: &str = include_str!("policy.seccomp");

/// It acts for all users of the container on files that belong to any of them: CHOWN gives a new file to the guest's user who
/// made it; DAC_OVERRIDE and DAC_READ_SEARCH reach files whatever their owner (vfs has checked the guest's permissions);
/// FOWNER changes modes and times of others' files; FSETID keeps set-group-id bits that the guest asked for.
const CAPABILITIES: [Capability; 5] =
    [Capability::Chown, Capability::DacOverride, Capability::DacReadSearch, Capability::Fowner, Capability::Fsetid];

/// Open files at most, as far as the host allows: each handle of vfs is one.
const OPEN_FILES: u64 = 1 << 20;

fn main() -> ExitCode {
    service::run("gofer", |role, mut fds, service| {
        let Role::Gofer(setup) = role else { return Err(service.wrong_role()) };
        let servers = fds.servers(setup.cpus.len())?;
        let mut roots = Vec::with_capacity(setup.roots.len());
        for spec in &setup.roots {
            let root = Root::new(fds.take("a root")?, spec.readonly);
            roots.push(root.map_err(|errno| ServiceError::Host("look at a root", errno))?);
        }
        fds.finish()?;
        host::clear_umask();
        let reachable: Vec<_> = roots.iter().map(|root| (root.fd.as_fd(), !root.readonly)).collect();
        let restrictions = Restrictions {
            capabilities: &CAPABILITIES,
            open_files: OPEN_FILES,
            files: Files::Beneath(&reachable),
            ..Restrictions::default()
        };
        let prepared = service.prepare(&restrictions)?;
        let gofer = Arc::new(Gofer::new(roots, host::file_limit()));
        server::start(&gofer, &setup.cpus, servers)?;
        let paths = setup.roots.into_iter().map(|root| root.path).collect();
        prepared.seal(POLICY, debug::plane(gofer, paths))?.wait_until_closed()
    })
}
