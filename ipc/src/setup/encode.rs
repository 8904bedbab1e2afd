//! From types to the wire.

use super::{
    Execution, ExecutionNews, GoferSetup, MountKind, MountSpec, NodeSpec, Order, Program, Report, ResourceLimit, Role, RootSpec,
    SentrySetup, Setup, VfsSetup,
};
use crate::{
    control_capnp as schema,
    vfs::ForeignFs,
    wire::{encode, list_length},
};
use capnp::{data_list, primitive_list};

impl Setup {
    /// Replaces `into` by the message.
    pub fn encode(&self, into: &mut Vec<u8>) {
        encode(into, |message| {
            let mut to = message.init_root::<schema::setup::Builder<'_>>();
            to.set_sandbox(self.sandbox.as_str());
            to.set_log_filter(self.log_filter.as_str());
            to.set_log_json(self.log_json);
            let role = to.init_role();
            match &self.role {
                Role::Sentry(setup) => sentry(setup, role.init_sentry()),
                Role::Vfs(setup) => vfs(setup, role.init_vfs()),
                Role::Gofer(setup) => gofer(setup, role.init_gofer()),
                Role::Netstack(setup) => {
                    numbers(&setup.cpus, role.init_netstack().init_cpus(list_length(setup.cpus.len())));
                }
            }
        });
    }
}

impl Order {
    /// Replaces `into` by the message.
    pub fn encode(&self, into: &mut Vec<u8>) {
        encode(into, |message| {
            let mut to = message.init_root::<schema::order::Builder<'_>>();
            match self {
                Order::Prepare => to.set_prepare(()),
                Order::Start => to.set_start(()),
                Order::Signal { signal: number, all } => signal(*number, *all, to.init_signal()),
                Order::Execute { number, execution: what } => {
                    let mut to = to.init_execute();
                    to.set_number(*number);
                    execution(what, to.init_execution());
                }
                Order::LimitTasks(limit) => to.set_limit_tasks(limit.unwrap_or(0)),
                Order::LimitMemory(bytes) => to.set_limit_memory(*bytes),
                Order::SignalExecution { number, signal } => {
                    let mut to = to.init_signal_execution();
                    to.set_number(*number);
                    to.set_signal(*signal);
                }
                Order::WindowChanged => to.set_window_changed(()),
                Order::Network(network) => super::network::encode(network, to.init_network()),
            }
        });
    }
}

impl Report {
    /// Replaces `into` by the message.
    pub fn encode(&self, into: &mut Vec<u8>) {
        encode(into, |message| {
            let mut to = message.init_root::<schema::report::Builder<'_>>();
            match self {
                Report::Ready => to.set_ready(()),
                Report::Failed(why) => to.set_failed(why.as_str()),
                Report::Connected => to.set_connected(()),
                Report::Prepared => to.set_prepared(()),
                Report::Started => to.set_started(()),
                Report::Exited(status) => to.set_exited(*status),
                Report::Execution { number, news } => {
                    let mut to = to.init_execution();
                    to.set_number(*number);
                    match news {
                        ExecutionNews::Started(pid) => to.set_started(*pid),
                        ExecutionNews::Failed(why) => to.set_failed(why.as_str()),
                        ExecutionNews::Ended(status) => to.set_ended(*status),
                    }
                }
            }
        });
    }
}

pub(crate) fn signal(number: i32, all: bool, mut to: schema::signal_order::Builder<'_>) {
    to.set_signal(number);
    to.set_all(all);
}

pub(crate) fn execution(from: &Execution, to: schema::execution::Builder<'_>) {
    program(&from.program, to.init_program());
}

fn sentry(from: &SentrySetup, mut to: schema::sentry_setup::Builder<'_>) {
    program(&from.program, to.reborrow().init_program());
    to.set_hostname(&from.hostname);
    to.set_domainname(&from.domainname);
    numbers(&from.cpus, to.reborrow().init_cpus(list_length(from.cpus.len())));
    to.set_memory_limit(from.memory_limit);
    bytes(&from.masked_paths, to.reborrow().init_masked_paths(list_length(from.masked_paths.len())));
    bytes(&from.readonly_paths, to.reborrow().init_readonly_paths(list_length(from.readonly_paths.len())));
    to.set_devpts_options(from.devpts_options.as_str());
    to.set_keep_call_sites(from.keep_call_sites);
    to.set_task_limit(from.task_limit.unwrap_or(0));
    match &from.profile {
        None => to.reborrow().init_profile().set_none(()),
        Some(profile) => super::profile::encode(profile, to.reborrow().init_profile().init_given()),
    }
    let mut list = to.init_sysctls(list_length(from.sysctls.len()));
    for (n, (name, value)) in (0..).zip(&from.sysctls) {
        let mut to = list.reborrow().get(n);
        to.set_name(name.as_str());
        to.set_value(value.as_str());
    }
}

fn program(from: &Program, mut to: schema::program::Builder<'_>) {
    bytes(&from.arguments, to.reborrow().init_arguments(list_length(from.arguments.len())));
    bytes(&from.environment, to.reborrow().init_environment(list_length(from.environment.len())));
    to.set_directory(&from.directory);
    to.set_uid(from.uid);
    to.set_gid(from.gid);
    numbers(&from.groups, to.reborrow().init_groups(list_length(from.groups.len())));
    match from.umask {
        None => to.reborrow().init_umask().set_default(()),
        Some(mask) => to.reborrow().init_umask().set_given(mask),
    }
    let sets = from.capabilities;
    let mut capabilities = to.reborrow().init_capabilities();
    capabilities.set_bounding(sets.bounding);
    capabilities.set_effective(sets.effective);
    capabilities.set_inheritable(sets.inheritable);
    capabilities.set_permitted(sets.permitted);
    capabilities.set_ambient(sets.ambient);
    let mut limits = to.reborrow().init_limits(list_length(from.limits.len()));
    for (n, &ResourceLimit { resource, soft, hard }) in (0..).zip(&from.limits) {
        let mut to = limits.reborrow().get(n);
        to.set_resource(resource);
        to.set_soft(soft);
        to.set_hard(hard);
    }
    to.set_no_new_privileges(from.no_new_privileges);
    to.set_oom_score_adjust(from.oom_score_adjust);
    to.set_personality(from.personality);
    to.set_terminal(from.terminal);
}

fn vfs(from: &VfsSetup, mut to: schema::vfs_setup::Builder<'_>) {
    numbers(&from.cpus, to.reborrow().init_cpus(list_length(from.cpus.len())));
    let mut mounts = to.reborrow().init_mounts(list_length(from.mounts.len()));
    for (n, from) in (0..).zip(&from.mounts) {
        mount(from, mounts.reborrow().get(n));
    }
    let mut nodes = to.init_nodes(list_length(from.nodes.len()));
    for (n, from) in (0..).zip(&from.nodes) {
        let NodeSpec { path, mode, device, uid, gid, target } = from;
        let mut to = nodes.reborrow().get(n);
        to.set_path(path);
        to.set_mode(*mode);
        to.set_device(*device);
        to.set_uid(*uid);
        to.set_gid(*gid);
        to.set_target(target);
    }
}

fn mount(from: &MountSpec, mut to: schema::mount_spec::Builder<'_>) {
    to.set_destination(&from.destination);
    let mut kind = to.reborrow().init_kind();
    match from.kind {
        MountKind::Gofer { root } => kind.set_gofer(root),
        MountKind::Overlay { lower } => kind.set_overlay(lower),
        MountKind::Tmpfs => kind.set_tmpfs(()),
        MountKind::Foreign(fs) => kind.set_foreign(match fs {
            ForeignFs::Proc => schema::ForeignFs::Proc,
            ForeignFs::Sysfs => schema::ForeignFs::Sysfs,
            ForeignFs::Devpts => schema::ForeignFs::Devpts,
            ForeignFs::Mqueue => schema::ForeignFs::Mqueue,
            ForeignFs::Cgroup => schema::ForeignFs::Cgroup,
        }),
    }
    to.set_flags(from.flags);
    to.set_fstype(from.fstype.as_str());
    to.set_source(from.source.as_str());
    to.set_options(from.options.as_str());
}

fn gofer(from: &GoferSetup, mut to: schema::gofer_setup::Builder<'_>) {
    numbers(&from.cpus, to.reborrow().init_cpus(list_length(from.cpus.len())));
    let mut roots = to.init_roots(list_length(from.roots.len()));
    for (n, RootSpec { path, readonly }) in (0..).zip(&from.roots) {
        let mut to = roots.reborrow().get(n);
        to.set_path(path);
        to.set_readonly(*readonly);
    }
}

fn numbers(from: &[u32], mut to: primitive_list::Builder<'_, u32>) {
    for (n, &number) in (0..).zip(from) {
        to.set(n, number);
    }
}

fn bytes(from: &[Vec<u8>], mut to: data_list::Builder<'_>) {
    for (n, bytes) in (0..).zip(from) {
        to.set(n, bytes);
    }
}
