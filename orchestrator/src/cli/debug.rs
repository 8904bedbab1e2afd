//! `debug`: what the services of a sandbox know.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Context, parse_id, trace::Format};
use crate::{
    error::{Error, Result},
    inspect::{
        Inspection, failure,
        paint::{self, Ink, Paint, Table},
        proto::{
            debug::{GetPolicyRequest, GetStatsRequest, GetVersionRequest, SetLogFilterRequest},
            gofer::{ListHandlesRequest, ListRootsRequest, StatsRequest},
            sentry::{
                GetCallSitesRequest, GetTaskRequest, GetTaskResponse, ListFdsRequest, ListMappingsRequest, ListTasksRequest,
            },
            vfs::{CacheStatsRequest, ListLocksRequest, ListMountsRequest, ListOpenFilesRequest, LookupRequest},
        },
        run as ask, state_name,
    },
};

/// The services, by name.
const SERVICES: [&str; 5] = ["supervisor", "sentry", "vfs", "netstack", "gofer"];

/// Arguments of `debug`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Form of the output
    #[arg(long, short, value_name = "FORMAT", default_value = "text", global = true)]
    format: Format,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
    #[command(subcommand)]
    what: Subject,
}

/// What is asked.
#[derive(Subcommand, Debug)]
enum Subject {
    /// The container's processes and threads, and the calls that they wait in
    Tasks,
    /// A process at length: program, directories, credentials, signals, limits
    Task {
        /// Its number in the container
        #[arg(value_name = "PID")]
        pid: i32,
    },
    /// The open files of a process
    Fds {
        /// Its number in the container
        #[arg(value_name = "PID")]
        pid: i32,
    },
    /// What is mapped in a process
    Mappings {
        /// Its number in the container
        #[arg(value_name = "PID")]
        pid: i32,
    },
    /// From where a process makes system calls, and whether by way of a signal
    Sites {
        /// Its number in the container
        #[arg(value_name = "PID")]
        pid: i32,
    },
    /// The mount table
    Mounts,
    /// What vfs knows of a path, name by name
    Lookup {
        /// From the root
        #[arg(value_name = "PATH")]
        path: String,
    },
    /// The files and directories that the sentry holds
    Files,
    /// Advisory locks that are held
    Locks,
    /// How much vfs keeps in mind
    Cache,
    /// What of the host the gofer can reach
    Roots,
    /// What of the host vfs holds
    Handles,
    /// How often the gofer is asked
    Gofer,
    /// Version, memory, CPU time and threads of all services
    Services,
    /// What a service may ask of the host, in its own words
    Policy {
        /// Its name
        #[arg(value_name = "SERVICE", value_parser = SERVICES)]
        service: String,
    },
    /// Change what a service logs, from now on
    Log {
        /// Its name
        #[arg(value_name = "SERVICE", value_parser = SERVICES)]
        service: String,
        /// Levels and targets, such as debug or info,bulkhead_vfs=debug
        #[arg(value_name = "FILTER")]
        filter: String,
    },
}

/// Asks and prints.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let inspection = Inspection::of(&context.store, &parse_id(&arguments.id)?)?;
    let show = Show { format: arguments.format, paint: Paint::of_stdout() };
    ask(async {
        match &arguments.what {
            Subject::Mounts | Subject::Lookup { .. } | Subject::Files | Subject::Locks | Subject::Cache => {
                ask_vfs(&inspection, &arguments.what, &show).await
            }
            Subject::Roots | Subject::Handles | Subject::Gofer => ask_gofer(&inspection, &arguments.what, &show).await,
            Subject::Services | Subject::Policy { .. } | Subject::Log { .. } => {
                ask_all(&inspection, &arguments.what, &show).await
            }
            what => ask_sentry(&inspection, what, &show).await,
        }
    })?;
    Ok(0)
}

/// How answers are shown.
struct Show {
    format: Format,
    paint: Paint,
}

impl Show {
    /// The answer as JSON, or as the text that is made of it.
    fn answer<T: Serialize>(&self, answer: &T, text: impl FnOnce(&T) -> String) {
        match self.format {
            Format::Json => super::print_json(answer),
            Format::Text => print!("{}", text(answer)),
        }
    }

    /// The same, with a table.
    fn table<T: Serialize>(&self, answer: &T, titles: &[&'static str], fill: impl FnOnce(&T, &mut Table)) {
        self.answer(answer, |answer| {
            let mut table = Table::new(titles);
            fill(answer, &mut table);
            table.render(self.paint)
        });
    }

    /// The same, with a line for each figure.
    fn figures<T: Serialize>(&self, answer: &T, figures: &[(&str, String)]) {
        self.answer(answer, |_| list(figures, self.paint));
    }
}

fn list(figures: &[(&str, String)], paint: Paint) -> String {
    let width = figures.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        format!("{}{}  {}\n", paint.ink(Ink::Name, name), " ".repeat(width - name.len()), paint::clean(value))
    };
    figures.iter().map(line).collect()
}

async fn ask_sentry(inspection: &Inspection, what: &Subject, show: &Show) -> Result<()> {
    let mut sentry = inspection.sentry().await?;
    let failed = failure("sentry");
    match *what {
        Subject::Task { pid } => {
            let task = sentry.get_task(GetTaskRequest { pid }).await.map_err(failed)?.into_inner();
            show.answer(&task, |task| describe(task, show.paint));
        }
        Subject::Fds { pid } => {
            let fds = sentry.list_fds(ListFdsRequest { pid }).await.map_err(failed)?.into_inner();
            show.table(&fds, &[">FD", ">FILE", ">POSITION", "FLAGS", "WHAT"], |fds, table| {
                for fd in &fds.fds {
                    let cloexec = if fd.close_on_exec { "|O_CLOEXEC" } else { "" };
                    let flags = format!("{}{cloexec}", fd.flags);
                    table.row([fd.number.to_string(), fd.open_file.to_string(), fd.position.to_string(), flags, fd.what.clone()]);
                    table.ink(4, Ink::Name);
                }
            });
        }
        Subject::Mappings { pid } => {
            let maps = sentry.list_mappings(ListMappingsRequest { pid }).await.map_err(failed)?.into_inner();
            show.table(&maps, &["ADDRESSES", "ACCESS", ">SIZE", ">MEMORY", ">OFFSET", "NAME"], |maps, table| {
                for map in &maps.mappings {
                    table.row([
                        format!("{:012x}-{:012x}", map.start, map.end),
                        map.access.clone(),
                        paint::bytes(map.end.saturating_sub(map.start)),
                        paint::bytes(map.resident_bytes),
                        format!("{:x}", map.offset),
                        map.name.clone(),
                    ]);
                    table.ink(5, Ink::Name);
                }
            });
        }
        Subject::Sites { pid } => {
            let sites = sentry.get_call_sites(GetCallSitesRequest { pid }).await.map_err(failed)?.into_inner();
            show.table(&sites, &["ADDRESS", ">REWRITTEN", ">TRAPPED", "FILE"], |sites, table| {
                for site in &sites.sites {
                    let file = if site.file.is_empty() { String::new() } else { format!("{}+{:#x}", site.file, site.offset) };
                    table.row([format!("{:#x}", site.address), site.rewritten.to_string(), site.trapped.to_string(), file]);
                }
            });
        }
        _ => {
            let tasks = sentry.list_tasks(ListTasksRequest {}).await.map_err(failed)?.into_inner();
            show.table(&tasks, &[">PID", ">PARENT", ">TID", ">UID", "STATE", "WAITS IN", ">MEMORY", "NAME"], |tasks, table| {
                for process in &tasks.processes {
                    for thread in &process.threads {
                        table.row([
                            process.pid.to_string(),
                            process.parent.to_string(),
                            thread.tid.to_string(),
                            process.uid.to_string(),
                            thread.state.clone(),
                            thread.waits_in.clone(),
                            paint::bytes(process.resident_bytes),
                            thread.name.clone(),
                        ]);
                        table.ink(7, Ink::Name);
                    }
                    if process.threads.is_empty() {
                        let (pid, parent) = (process.pid.to_string(), process.parent.to_string());
                        table.row([pid.as_str(), parent.as_str(), "", "", process.state.as_str(), "", "", process.name.as_str()]);
                        table.ink(4, Ink::Notable);
                    }
                }
            });
        }
    }
    Ok(())
}

fn describe(task: &GetTaskResponse, paint: Paint) -> String {
    let process = task.process.clone().unwrap_or_default();
    let credentials = task.credentials.clone().unwrap_or_default();
    let signals = task.signals.unwrap_or_default();
    let groups = credentials.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let c = &credentials;
    let mut figures = vec![
        ("process", format!("{} ({}), {}", process.pid, process.name, process.state)),
        ("parent, group, session", format!("{}, {}, {}", process.parent, process.group, process.session)),
        ("arguments", process.arguments.join(" ")),
        ("executable", task.executable.clone()),
        ("working directory", task.working_directory.clone()),
        ("root directory", task.root_directory.clone()),
        ("umask", format!("{:04o}", task.umask)),
        ("uid: real, effective, saved, fs", format!("{}, {}, {}, {}", c.uid, c.euid, c.suid, c.fsuid)),
        ("gid: real, effective, saved, fs", format!("{}, {}, {}, {}", c.gid, c.egid, c.sgid, c.fsgid)),
        ("groups", groups),
        ("capabilities: effective", format!("{:016x}", c.effective)),
        ("capabilities: permitted", format!("{:016x}", c.permitted)),
        ("capabilities: bounding", format!("{:016x}", c.bounding)),
        ("no new privileges", c.no_new_privileges.to_string()),
        ("signals: pending", format!("{:016x} {:016x}", signals.pending, signals.pending_for_process)),
        ("signals: blocked", format!("{:016x}", signals.blocked)),
        ("signals: ignored", format!("{:016x}", signals.ignored)),
        ("signals: caught", format!("{:016x}", signals.caught)),
        ("nice", task.nice.to_string()),
        ("open files", task.open_files.to_string()),
        ("memory", format!("{} of {} mapped", paint::bytes(process.resident_bytes), paint::bytes(process.virtual_bytes))),
        ("CPU time: own, system", {
            let time = |microseconds: u64| paint::duration(microseconds.saturating_mul(1000));
            format!("{}, {}", time(process.user_microseconds), time(process.system_microseconds))
        }),
    ];
    let limit = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    for one in task.limits.iter().filter(|one| one.soft != u64::MAX || one.hard != u64::MAX) {
        figures.push((one.name.as_str(), format!("{}, at most {}", limit(one.soft), limit(one.hard))));
    }
    let mut text = list(&figures, paint);
    if !process.threads.is_empty() {
        let mut table = Table::new(&[">TID", "NAME", "STATE", "WAITS IN"]);
        for thread in &process.threads {
            table.row([thread.tid.to_string(), thread.name.clone(), thread.state.clone(), thread.waits_in.clone()]);
        }
        text += "\n";
        text += &table.render(paint);
    }
    text
}

async fn ask_vfs(inspection: &Inspection, what: &Subject, show: &Show) -> Result<()> {
    let mut vfs = inspection.vfs().await?;
    let failed = failure("vfs");
    match what {
        Subject::Lookup { path } => {
            let steps = vfs.lookup(LookupRequest { path: path.clone() }).await.map_err(failed)?.into_inner();
            show.table(&steps, &["STATE", ">MOUNT", ">INODE", "MODE", ">SIZE", "CONTENT", "LAYER", "PATH"], |steps, table| {
                for step in &steps.steps {
                    let inode = step.inode.clone().unwrap_or_default();
                    let known = step.inode.is_some();
                    let or_nothing = |text: String| if known { text } else { String::new() };
                    let layer = if inode.upper { format!("{}, upper", inode.filesystem) } else { inode.filesystem.clone() };
                    let target = if inode.target.is_empty() { String::new() } else { format!(" -> {}", inode.target) };
                    table.row([
                        state_name(step.state).to_owned(),
                        step.mount.to_string(),
                        or_nothing(inode.number.to_string()),
                        or_nothing(format!("{:o}", inode.mode)),
                        or_nothing(inode.size.to_string()),
                        inode.content.clone(),
                        layer,
                        format!("{}{target}", step.path),
                    ]);
                    table.ink(0, if known { Ink::Good } else { Ink::Notable });
                    table.ink(7, Ink::Name);
                }
            });
        }
        Subject::Files => {
            let files = vfs.list_open_files(ListOpenFilesRequest { limit: 0 }).await.map_err(failed)?.into_inner();
            show.table(&files, &[">NODE", ">HELD", ">INODE", ">SIZE", "CONTENT", "PATH"], |files, table| {
                for file in &files.files {
                    let inode = file.inode.clone().unwrap_or_default();
                    table.row([
                        file.node.to_string(),
                        file.references.to_string(),
                        inode.number.to_string(),
                        inode.size.to_string(),
                        inode.content,
                        file.path.clone(),
                    ]);
                    table.ink(5, Ink::Name);
                }
            });
        }
        Subject::Locks => {
            let locks = vfs.list_locks(ListLocksRequest {}).await.map_err(failed)?.into_inner();
            show.table(&locks, &["KIND", "FAMILY", ">PID", ">OWNER", ">DEVICE", ">INODE", ">FIRST", ">LAST"], |locks, table| {
                for lock in &locks.locks {
                    let end = if lock.end == u64::MAX { "end".to_owned() } else { lock.end.to_string() };
                    table.row([
                        lock.kind.clone(),
                        lock.family.clone(),
                        lock.pid.to_string(),
                        lock.owner.to_string(),
                        lock.device.to_string(),
                        lock.inode.to_string(),
                        lock.start.to_string(),
                        end,
                    ]);
                }
            });
        }
        Subject::Cache => {
            let cache = vfs.cache_stats(CacheStatsRequest {}).await.map_err(failed)?.into_inner();
            let figures = [
                ("requests", cache.requests.to_string()),
                ("names", cache.dentries.to_string()),
                ("names that may be forgotten", cache.dentries_cached.to_string()),
                ("files", cache.inodes.to_string()),
                ("held by the sentry", cache.nodes.to_string()),
                ("names published", cache.names_published.to_string()),
                ("memory files", paint::bytes(cache.bytes_in_memory)),
            ];
            show.figures(&cache, &figures);
        }
        _ => {
            let mounts = vfs.list_mounts(ListMountsRequest {}).await.map_err(failed)?.into_inner();
            show.table(&mounts, &[">ID", ">PARENT", "TYPE", "SOURCE", "OPTIONS", "MOUNTPOINT"], |mounts, table| {
                for mount in &mounts.mounts {
                    table.row([
                        mount.id.to_string(),
                        mount.parent.to_string(),
                        mount.fstype.clone(),
                        mount.source.clone(),
                        mount.options.clone(),
                        mount.mountpoint.clone(),
                    ]);
                    table.ink(5, Ink::Name);
                }
            });
        }
    }
    Ok(())
}

async fn ask_gofer(inspection: &Inspection, what: &Subject, show: &Show) -> Result<()> {
    let mut gofer = inspection.gofer().await?;
    let failed = failure("gofer");
    match what {
        Subject::Roots => {
            let roots = gofer.list_roots(ListRootsRequest {}).await.map_err(failed)?.into_inner();
            show.table(&roots, &[">ROOT", "ACCESS", "KIND", "ON THE HOST"], |roots, table| {
                for root in &roots.roots {
                    let access = if root.readonly { "read" } else { "write" };
                    table.row([root.root.to_string().as_str(), access, root.kind.as_str(), root.path.as_str()]);
                    table.ink(1, if root.readonly { Ink::Good } else { Ink::Notable });
                    table.ink(3, Ink::Name);
                }
            });
        }
        Subject::Handles => {
            let handles = gofer.list_handles(ListHandlesRequest { limit: 0 }).await.map_err(failed)?.into_inner();
            show.table(&handles, &[">HANDLE", ">ROOT", "PATH"], |handles, table| {
                for handle in &handles.handles {
                    let path = if handle.path.is_empty() { "." } else { &handle.path };
                    table.row([handle.handle.to_string().as_str(), handle.root.to_string().as_str(), path]);
                    table.ink(2, Ink::Name);
                }
            });
        }
        _ => {
            let stats = gofer.stats(StatsRequest {}).await.map_err(failed)?.into_inner();
            let figures = [
                ("requests", stats.requests.to_string()),
                ("of these refused", stats.refused.to_string()),
                ("fds handed over", stats.donated_fds.to_string()),
                ("handles", format!("{} of {}", stats.handles, stats.handle_limit)),
            ];
            show.figures(&stats, &figures);
        }
    }
    Ok(())
}

/// A service by a name that the command line has let pass.
fn known(name: &str) -> Result<&'static str> {
    let known = SERVICES.into_iter().find(|service| *service == name);
    known.ok_or_else(|| Error::Usage(format!("no service is called {name:?}")))
}

/// What one service of all answers.
#[derive(Serialize)]
struct ServiceFigures {
    service: &'static str,
    version: String,
    #[serde(flatten)]
    stats: crate::inspect::proto::debug::GetStatsResponse,
}

async fn ask_all(inspection: &Inspection, what: &Subject, show: &Show) -> Result<()> {
    match what {
        Subject::Policy { service } => {
            let service = known(service)?;
            let mut client = inspection.common(service).await?;
            let policy = client.get_policy(GetPolicyRequest {}).await.map_err(failure(service))?.into_inner();
            show.table(&policy, &["CALL", "PART", "REASON"], |policy, table| {
                for rule in &policy.rules {
                    let part = if rule.fragment.is_empty() { "its own" } else { &rule.fragment };
                    table.row([rule.call.as_str(), part, rule.reason.as_str()]);
                    table.ink(0, Ink::Name);
                }
            });
        }
        Subject::Log { service, filter } => {
            let service = known(service)?;
            let mut client = inspection.common(service).await?;
            let request = SetLogFilterRequest { filter: filter.clone() };
            let before = client.set_log_filter(request).await.map_err(failure(service))?.into_inner();
            show.answer(&before, |before| format!("{service}: {filter} (before: {})\n", paint::clean(&before.previous)));
        }
        _ => {
            let mut all = Vec::new();
            for service in SERVICES {
                let mut client = inspection.common(service).await?;
                let version = client.get_version(GetVersionRequest {}).await.map_err(failure(service))?.into_inner().version;
                let stats = client.get_stats(GetStatsRequest {}).await.map_err(failure(service))?.into_inner();
                all.push(ServiceFigures { service, version, stats });
            }
            show.table(&all, &["SERVICE", "VERSION", ">MEMORY", ">AT MOST", ">CPU", ">THREADS", ">UP"], |all, table| {
                for ServiceFigures { service, version, stats } in all {
                    let cpu = stats.user_microseconds.saturating_add(stats.system_microseconds).saturating_mul(1000);
                    table.row([
                        (*service).to_owned(),
                        version.clone(),
                        paint::bytes(stats.resident_bytes),
                        paint::bytes(stats.resident_bytes_peak),
                        paint::duration(cpu),
                        stats.threads.to_string(),
                        paint::duration(stats.uptime_microseconds.saturating_mul(1000)),
                    ]);
                    table.ink(0, Ink::Name);
                }
            });
        }
    }
    Ok(())
}
