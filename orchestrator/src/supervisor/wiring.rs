//! What each service is told, and the fds it is given.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_ipc::{
    channel::{Channel, ChannelError},
    net::readiness,
    rpc::{self, ClientEnd, ServerEnd},
    setup::{GoferSetup, MountKind, NetstackSetup, Role, RootSpec, SentrySetup, Setup, VfsSetup},
    vfs::ForeignFs,
};
use std::os::unix::ffi::OsStrExt;

use super::service::Kind;
use crate::{
    error::{Error, Result},
    host::open_mount_tree,
    oci::Plan,
};

/// Channels of one kind between two processes of the sandbox, for those who look at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Who asks.
    pub from: &'static str,
    /// Who answers.
    pub to: &'static str,
    /// What it is.
    pub kind: &'static str,
    /// How many there are.
    pub count: usize,
    /// What for.
    pub purpose: &'static str,
}

/// Connections between the services, one per CPU each.
#[derive(Debug)]
pub struct Wiring {
    cpus: Vec<u32>,
    sentry_to_vfs: Vec<(ClientEnd, ServerEnd)>,
    vfs_to_gofer: Vec<(ClientEnd, ServerEnd)>,
    sentry_to_netstack: Vec<(ClientEnd, ServerEnd)>,
    /// What netstack's sockets are ready for.
    readiness: readiness::Fds,
    roots: Vec<OwnedFd>,
}

impl Wiring {
    /// Makes the connections and opens what the gofer is to serve.
    pub fn lay(plan: &Plan) -> Result<Wiring> {
        let cpus = cpus()?;
        let pairs =
            || -> Result<Vec<_>> { cpus.iter().map(|_| rpc::pair().map_err(Error::ipc("connect the services"))).collect() };
        let (sentry_to_vfs, vfs_to_gofer, sentry_to_netstack) = (pairs()?, pairs()?, pairs()?);
        let readiness = readiness::Fds::new().map_err(Error::ipc("connect the services"))?;
        let roots = plan.roots.iter().map(open_mount_tree).collect::<Result<_>>()?;
        Ok(Wiring { cpus, sentry_to_vfs, vfs_to_gofer, sentry_to_netstack, readiness, roots })
    }

    /// What a service is told.
    pub fn role(&self, kind: Kind, plan: &Plan) -> Role {
        let cpus = self.cpus.clone();
        match kind {
            Kind::Sentry => Role::Sentry(SentrySetup {
                program: plan.program.clone(),
                hostname: plan.hostname.clone().into_bytes(),
                domainname: plan.domainname.clone().into_bytes(),
                cpus,
                memory_limit: plan.resources.guest_memory(),
                masked_paths: plan.masked_paths.clone(),
                readonly_paths: plan.readonly_paths.clone(),
                sysctls: plan.sysctls.clone(),
                devpts_options: devpts_options(plan),
                keep_call_sites: !plan.rewriting,
                task_limit: plan.resources.task_limit(),
                profile: plan.profile.clone(),
            }),
            Kind::Vfs => Role::Vfs(VfsSetup { cpus, mounts: plan.mounts.clone(), nodes: plan.nodes.clone() }),
            Kind::Gofer => Role::Gofer(GoferSetup {
                cpus,
                roots: plan
                    .roots
                    .iter()
                    .map(|root| RootSpec { path: root.path.as_os_str().as_bytes().to_vec(), readonly: root.readonly })
                    .collect(),
            }),
            Kind::Netstack => Role::Netstack(NetstackSetup { cpus }),
        }
    }

    /// All channels that [`Wiring::fds`] gives the services, and those that all have.
    pub fn links(&self) -> Vec<Link> {
        let control = Kind::ALL.map(|kind| Link {
            from: "supervisor",
            to: kind.name(),
            kind: "socket",
            count: 1,
            purpose: "set-up, orders and reports",
        });
        let ring = |from: Kind, to: Kind, count, purpose| Link { from: from.name(), to: to.name(), kind: "ring", count, purpose };
        let between = [
            ring(Kind::Sentry, Kind::Vfs, self.sentry_to_vfs.len(), "paths, attributes, opening of files"),
            ring(Kind::Sentry, Kind::Netstack, self.sentry_to_netstack.len(), "sockets of the Internet families"),
            Link { from: "netstack", to: "sentry", kind: "memory", count: 1, purpose: "what sockets are ready for" },
            ring(Kind::Vfs, Kind::Gofer, self.vfs_to_gofer.len(), "what is on the host"),
            Link {
                from: "gofer",
                to: "host",
                kind: "files",
                count: self.roots.len(),
                purpose: "directories and files that are served",
            },
            Link {
                from: "sentry",
                to: "stub",
                kind: "memory",
                count: 1,
                purpose: "registers, guest memory and the agents' commands",
            },
        ];
        control.into_iter().chain(between).collect()
    }

    /// The fds that go with it, after the log and the debug listener. `files` are the first program's.
    pub fn fds<'a>(&'a self, kind: Kind, files: &[BorrowedFd<'a>]) -> Vec<BorrowedFd<'a>> {
        let clients = |pairs: &'a [(ClientEnd, ServerEnd)]| {
            pairs.iter().flat_map(|(client, _)| [client.socket.as_fd(), client.ring.as_fd()]).collect::<Vec<_>>()
        };
        let servers = |pairs: &'a [(ClientEnd, ServerEnd)]| {
            pairs.iter().flat_map(|(_, server)| [server.socket.as_fd(), server.ring.as_fd()]).collect::<Vec<_>>()
        };
        let readiness = [self.readiness.memory.as_fd(), self.readiness.event.as_fd()];
        match kind {
            Kind::Sentry => {
                [clients(&self.sentry_to_vfs), clients(&self.sentry_to_netstack), readiness.to_vec(), files.to_vec()].concat()
            }
            Kind::Vfs => [servers(&self.sentry_to_vfs), clients(&self.vfs_to_gofer)].concat(),
            Kind::Gofer => [servers(&self.vfs_to_gofer), self.roots.iter().map(AsFd::as_fd).collect::<Vec<_>>()].concat(),
            Kind::Netstack => [servers(&self.sentry_to_netstack), readiness.to_vec()].concat(),
        }
    }
}

/// Sends a service's first message.
pub fn send_setup(channel: &Channel, setup: &Setup, fds: &[BorrowedFd<'_>]) -> std::result::Result<(), ChannelError> {
    let mut message = Vec::new();
    setup.encode(&mut message);
    channel.send(&message, fds)
}

/// Options of the container's devpts; there is one, however often it is mounted.
fn devpts_options(plan: &Plan) -> String {
    let devpts = plan.mounts.iter().find(|mount| mount.kind == MountKind::Foreign(ForeignFs::Devpts));
    devpts.map(|mount| mount.options.clone()).unwrap_or_default()
}

/// The CPUs that this process may run on.
fn cpus() -> Result<Vec<u32>> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).map_err(Error::host("tell the CPUs"))?;
    Ok((0..nix::sched::CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).map(|cpu| cpu as u32).collect())
}
