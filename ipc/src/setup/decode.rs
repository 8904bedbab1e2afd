//! From the wire to types, with every limit that there is.

use super::{
    CapabilitySets, Execution, ExecutionNews, GoferSetup, MountKind, MountSpec, NetstackSetup, NodeSpec, Order, Program, Report,
    ResourceLimit, Role, RootSpec, SentrySetup, Setup, VfsSetup,
};
use crate::{
    channel::MAX_MESSAGE,
    control_capnp as schema,
    vfs::ForeignFs,
    wire::{DecodeError, bounded, count},
};
use capnp::{data_list, message::ReaderOptions, primitive_list, serialize, struct_list, text};

/// PATH_MAX without its NUL.
const PATH_LIMIT: usize = 4095;
/// MAX_ARG_STRLEN: one argument or environment variable.
const STRING_LIMIT: usize = 128 << 10;
/// Names, file-system types, sysctls, log filters.
const NAME_LIMIT: usize = 4096;
/// Why something failed.
const REASON_LIMIT: usize = 4096;
/// HOST_NAME_MAX.
const HOST_NAME_LIMIT: usize = 64;
/// Elements of a list of arguments or variables.
const STRINGS: u32 = 1 << 18;
/// Elements of any other list.
const ELEMENTS: u32 = 1 << 16;

impl Setup {
    /// Reads and checks a message.
    pub fn decode(bytes: &[u8]) -> Result<Setup, DecodeError> {
        read(bytes, |message| {
            let from = message.get_root::<schema::setup::Reader<'_>>()?;
            use schema::setup::role::Which;
            Ok(Setup {
                sandbox: string(from.get_sandbox()?, NAME_LIMIT, "sandbox")?,
                log_filter: string(from.get_log_filter()?, NAME_LIMIT, "log filter")?,
                log_json: from.get_log_json(),
                role: match from.get_role().which()? {
                    Which::Sentry(setup) => Role::Sentry(sentry(setup?)?),
                    Which::Vfs(setup) => Role::Vfs(vfs(setup?)?),
                    Which::Gofer(setup) => Role::Gofer(gofer(setup?)?),
                    Which::Netstack(setup) => Role::Netstack(NetstackSetup { cpus: numbers(setup?.get_cpus()?, "cpus")? }),
                },
            })
        })
    }
}

impl Order {
    /// Reads and checks a message.
    pub fn decode(bytes: &[u8]) -> Result<Order, DecodeError> {
        read(bytes, |message| {
            use schema::order::Which;
            match message.get_root::<schema::order::Reader<'_>>()?.which()? {
                Which::Prepare(()) => Ok(Order::Prepare),
                Which::Start(()) => Ok(Order::Start),
                Which::Signal(order) => {
                    let (signal, all) = signal(order?)?;
                    Ok(Order::Signal { signal, all })
                }
                Which::Execute(order) => {
                    let order = order?;
                    Ok(Order::Execute { number: order.get_number(), execution: execution(order.get_execution()?)? })
                }
                Which::LimitTasks(limit) => Ok(Order::LimitTasks(task_limit(limit))),
                Which::LimitMemory(bytes) => Ok(Order::LimitMemory(bytes)),
                Which::SignalExecution(order) => {
                    let order = order?;
                    Ok(Order::SignalExecution { number: order.get_number(), signal: signal_number(order.get_signal())? })
                }
                Which::WindowChanged(()) => Ok(Order::WindowChanged),
                Which::Network(network) => Ok(Order::Network(super::network::decode(network?)?)),
            }
        })
    }
}

impl Report {
    /// Reads and checks a message. It comes from a service: a reason is cut to a line of a bounded length.
    pub fn decode(bytes: &[u8]) -> Result<Report, DecodeError> {
        read(bytes, |message| {
            use schema::report::Which;
            Ok(match message.get_root::<schema::report::Reader<'_>>()?.which()? {
                Which::Ready(()) => Report::Ready,
                Which::Failed(why) => Report::Failed(one_line(why?.as_bytes())),
                Which::Connected(()) => Report::Connected,
                Which::Prepared(()) => Report::Prepared,
                Which::Started(()) => Report::Started,
                Which::Exited(status) => Report::Exited(status),
                Which::Execution(report) => {
                    use schema::execution_report::Which;
                    let report = report?;
                    Report::Execution {
                        number: report.get_number(),
                        news: match report.which()? {
                            Which::Started(pid) => ExecutionNews::Started(pid),
                            Which::Failed(why) => ExecutionNews::Failed(one_line(why?.as_bytes())),
                            Which::Ended(status) => ExecutionNews::Ended(status),
                        },
                    }
                }
            })
        })
    }
}

pub(crate) fn signal(from: schema::signal_order::Reader<'_>) -> Result<(i32, bool), DecodeError> {
    Ok((signal_number(from.get_signal())?, from.get_all()))
}

pub(crate) fn task_limit(limit: u64) -> Option<u64> {
    (limit != 0).then_some(limit)
}

pub(crate) fn signal_number(number: i32) -> Result<i32, DecodeError> {
    if (1..=64).contains(&number) { Ok(number) } else { Err(DecodeError::Invalid("signal")) }
}

pub(crate) fn execution(from: schema::execution::Reader<'_>) -> Result<Execution, DecodeError> {
    Ok(Execution { program: program(from.get_program()?)? })
}

/// Text that is fit for a log line or a terminal, whoever wrote it.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(REASON_LIMIT)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn sentry(from: schema::sentry_setup::Reader<'_>) -> Result<SentrySetup, DecodeError> {
    Ok(SentrySetup {
        program: program(from.get_program()?)?,
        hostname: bounded(from.get_hostname()?, HOST_NAME_LIMIT, "host name")?,
        domainname: bounded(from.get_domainname()?, HOST_NAME_LIMIT, "domain name")?,
        cpus: numbers(from.get_cpus()?, "cpus")?,
        memory_limit: from.get_memory_limit(),
        masked_paths: strings(from.get_masked_paths()?, ELEMENTS, PATH_LIMIT, "masked paths")?,
        readonly_paths: strings(from.get_readonly_paths()?, ELEMENTS, PATH_LIMIT, "read-only paths")?,
        task_limit: task_limit(from.get_task_limit()),
        profile: match from.get_profile().which()? {
            schema::sentry_setup::profile::Which::None(()) => None,
            schema::sentry_setup::profile::Which::Given(profile) => Some(super::profile::decode(profile?)?),
        },
        sysctls: list(from.get_sysctls()?, "sysctls", |from| {
            Ok((string(from.get_name()?, NAME_LIMIT, "sysctl")?, string(from.get_value()?, NAME_LIMIT, "sysctl")?))
        })?,
        devpts_options: string(from.get_devpts_options()?, NAME_LIMIT, "devpts options")?,
        keep_call_sites: from.get_keep_call_sites(),
    })
}

fn program(from: schema::program::Reader<'_>) -> Result<Program, DecodeError> {
    use schema::program::umask::Which;
    let sets = from.get_capabilities()?;
    Ok(Program {
        arguments: strings(from.get_arguments()?, STRINGS, STRING_LIMIT, "arguments")?,
        environment: strings(from.get_environment()?, STRINGS, STRING_LIMIT, "environment")?,
        directory: bounded(from.get_directory()?, PATH_LIMIT, "working directory")?,
        uid: from.get_uid(),
        gid: from.get_gid(),
        groups: numbers(from.get_groups()?, "groups")?,
        umask: match from.get_umask().which()? {
            Which::Default(()) => None,
            Which::Given(mask) => Some(mask & 0o777),
        },
        capabilities: CapabilitySets {
            bounding: sets.get_bounding(),
            effective: sets.get_effective(),
            inheritable: sets.get_inheritable(),
            permitted: sets.get_permitted(),
            ambient: sets.get_ambient(),
        },
        limits: list(from.get_limits()?, "limits", |from| {
            let limit = ResourceLimit { resource: from.get_resource(), soft: from.get_soft(), hard: from.get_hard() };
            if limit.soft > limit.hard { Err(DecodeError::Invalid("soft limit")) } else { Ok(limit) }
        })?,
        no_new_privileges: from.get_no_new_privileges(),
        oom_score_adjust: match from.get_oom_score_adjust() {
            value @ -1000..=1000 => value,
            _ => return Err(DecodeError::Invalid("oom_score_adj")),
        },
        personality: from.get_personality(),
        terminal: from.get_terminal(),
    })
}

fn vfs(from: schema::vfs_setup::Reader<'_>) -> Result<VfsSetup, DecodeError> {
    Ok(VfsSetup {
        cpus: numbers(from.get_cpus()?, "cpus")?,
        mounts: list(from.get_mounts()?, "mounts", mount)?,
        nodes: list(from.get_nodes()?, "nodes", |from| {
            Ok(NodeSpec {
                path: absolute(from.get_path()?, "path of a node")?,
                mode: from.get_mode(),
                device: from.get_device(),
                uid: from.get_uid(),
                gid: from.get_gid(),
                target: bounded(from.get_target()?, PATH_LIMIT, "target of a symbolic link")?,
            })
        })?,
    })
}

fn mount(from: schema::mount_spec::Reader<'_>) -> Result<MountSpec, DecodeError> {
    use schema::mount_spec::kind::Which;
    Ok(MountSpec {
        destination: absolute(from.get_destination()?, "destination of a mount")?,
        kind: match from.get_kind().which()? {
            Which::Gofer(root) => MountKind::Gofer { root },
            Which::Overlay(lower) => MountKind::Overlay { lower },
            Which::Tmpfs(()) => MountKind::Tmpfs,
            Which::Foreign(fs) => MountKind::Foreign(match fs? {
                schema::ForeignFs::Proc => ForeignFs::Proc,
                schema::ForeignFs::Sysfs => ForeignFs::Sysfs,
                schema::ForeignFs::Devpts => ForeignFs::Devpts,
                schema::ForeignFs::Mqueue => ForeignFs::Mqueue,
                schema::ForeignFs::Cgroup => ForeignFs::Cgroup,
            }),
        },
        flags: from.get_flags(),
        fstype: string(from.get_fstype()?, NAME_LIMIT, "file-system type")?,
        source: string(from.get_source()?, NAME_LIMIT, "source of a mount")?,
        options: string(from.get_options()?, NAME_LIMIT, "options of a mount")?,
    })
}

fn gofer(from: schema::gofer_setup::Reader<'_>) -> Result<GoferSetup, DecodeError> {
    Ok(GoferSetup {
        cpus: numbers(from.get_cpus()?, "cpus")?,
        roots: list(from.get_roots()?, "roots", |from| {
            Ok(RootSpec { path: bounded(from.get_path()?, PATH_LIMIT, "path of a root")?, readonly: from.get_readonly() })
        })?,
    })
}

/// Lets `take_apart` read `bytes` as one message.
pub(crate) fn read<T>(
    bytes: &[u8],
    take_apart: impl FnOnce(&capnp::message::Reader<serialize::OwnedSegments>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    // Twice the largest message: pointers that share their targets cannot make it look larger than that.
    let options = ReaderOptions { traversal_limit_in_words: Some(2 * MAX_MESSAGE / 8), nesting_limit: 12 };
    // Copies, for the bytes need not be aligned.
    take_apart(&serialize::read_message(bytes, options)?)
}

pub(super) fn string(from: text::Reader<'_>, limit: usize, what: &'static str) -> Result<String, DecodeError> {
    let text = from.to_str()?;
    if text.len() > limit { Err(DecodeError::TooLong(what)) } else { Ok(text.to_owned()) }
}

fn absolute(from: &[u8], what: &'static str) -> Result<Vec<u8>, DecodeError> {
    if from.first() == Some(&b'/') { bounded(from, PATH_LIMIT, what) } else { Err(DecodeError::Invalid(what)) }
}

fn numbers(from: primitive_list::Reader<'_, u32>, what: &'static str) -> Result<Vec<u32>, DecodeError> {
    count(from.len(), ELEMENTS, what)?;
    Ok(from.iter().collect())
}

fn strings(from: data_list::Reader<'_>, elements: u32, limit: usize, what: &'static str) -> Result<Vec<Vec<u8>>, DecodeError> {
    count(from.len(), elements, what)?;
    from.iter().map(|bytes| bounded(bytes?, limit, what)).collect()
}

pub(super) fn list<'a, O, T>(
    from: struct_list::Reader<'a, O>,
    what: &'static str,
    element: impl Fn(O::Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError>
where
    O: capnp::traits::OwnedStruct,
{
    count(from.len(), ELEMENTS, what)?;
    from.iter().map(element).collect()
}
