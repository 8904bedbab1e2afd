//! The command line: runc's commands and flags. Every command returns the exit status; errors are told here.

mod completion;
mod create;
mod debug;
mod delete;
mod discard;
mod do_command;
mod events;
mod exec;
mod features;
mod graph;
mod install;
mod kill;
mod list;
mod metrics;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod top;
mod trace;
mod update;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    error::Result,
    id::ContainerId,
    log::{Log, LogFormat},
    oci::{NetworkMode, Overlay, SPEC_VERSION},
    state::Store,
};

/// An OCI runtime on an application kernel
#[derive(Parser, Debug)]
#[command(
    name = "bulkhead",
    disable_version_flag = true,
    args_override_self = true,
    subcommand_required = false,
    arg_required_else_help = false
)]
struct Command {
    /// Directory of the containers' state
    #[arg(long, value_name = "DIR", default_value = "/run/bulkhead")]
    root: PathBuf,
    /// File to write messages to
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of the messages in that file
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Write debug messages too, also those of the services
    #[arg(long)]
    debug: bool,
    /// Directory in which each service of a sandbox gets a log of its own, ID.SERVICE.log, with debug messages
    #[arg(long, value_name = "DIR")]
    debug_log: Option<PathBuf>,
    /// Understand cgroupsPath in systemd's form (which is understood anyway)
    #[arg(long)]
    systemd_cgroup: bool,
    /// Whether programs' call sites are rewritten so that calls need no signal
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    rewriting: bool,
    /// Where changes to a container's root go: into memory, or (none) into its bundle, where docker cp, commit and diff see them
    #[arg(long, value_name = "WHERE", default_value = "memory")]
    overlay: Overlay,
    /// The container's network: what is in its network namespace, or (none) only a loopback interface
    #[arg(long, value_name = "MODE", default_value = "sandbox")]
    network: NetworkMode,
    /// For compatibility with runc
    #[arg(long, value_name = "VALUE", hide = true)]
    rootless: Option<String>,
    /// For compatibility with runc
    #[arg(long, value_name = "FILE", hide = true)]
    criu: Option<PathBuf>,
    /// Print the version
    #[arg(long, short = 'v')]
    version: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Write a default config.json
    Spec(spec::Arguments),
    /// Create a container and run its program
    Run(run::Arguments),
    /// Create a container
    Create(create::Arguments),
    /// Run the program of a created container
    Start(start::Arguments),
    /// Run a further program in a container
    Exec(Box<exec::Arguments>),
    /// Print a container's state
    State(state::Arguments),
    /// List the containers
    List(list::Arguments),
    /// Send a signal to a container's first process
    Kill(kill::Arguments),
    /// Stop all processes of a container until it is resumed
    Pause(pause::Arguments),
    /// Let a paused container go on
    Resume(pause::Arguments),
    /// Print what a container uses, once or again and again, as JSON
    Events(events::Arguments),
    /// Change a container's limits
    Update(Box<update::Arguments>),
    /// List the host's processes that make up a container
    Ps(ps::Arguments),
    /// Show the system calls of a container's programs
    Trace(trace::Arguments),
    /// Show what a sandbox's services and the container's processes use, again and again
    Top(top::Arguments),
    /// Show the processes of a sandbox, how each is confined, and the channels between them
    Graph(graph::Arguments),
    /// Ask the services of a sandbox what they know
    Debug(debug::Arguments),
    /// Print figures of containers for Prometheus, or serve them
    Metrics(metrics::Arguments),
    /// Remove a container
    Delete(delete::Arguments),
    /// Run a command with the host's files as a read-only lower layer; changes stay in memory
    Do(do_command::Arguments),
    /// Print what this runtime can do, as JSON
    Features,
    /// Register this runtime with Docker and containerd
    Install(install::Arguments),
    /// Take this runtime out of Docker's and containerd's configuration
    Uninstall(install::Arguments),
    /// Print a script that completes this command's arguments in a shell
    Completion(completion::Arguments),
}

/// What `create` and `run` share.
#[derive(Args, Clone, Debug)]
struct CreateFlags {
    /// The bundle's directory
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Unix socket that the terminal's master is sent to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File to write the supervisor's pid to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Accepted for compatibility: the root is never changed by pivot_root
    #[arg(long)]
    no_pivot: bool,
    /// Accepted for compatibility: containers have no host keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Hand on N more inherited files, after standard error and those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Accepted for compatibility: the supervisor's pid is in the pid file
    #[arg(long, value_name = "SOCKET", hide = true)]
    pidfd_socket: Option<PathBuf>,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

impl CreateFlags {
    /// Says which of the given flags mean nothing here.
    fn tell_ignored(&self, log: &Log) {
        let given = [
            ("--no-pivot", self.no_pivot),
            ("--no-new-keyring", self.no_new_keyring),
            ("--pidfd-socket", self.pidfd_socket.is_some()),
        ];
        given.iter().filter(|(_, given)| *given).for_each(|(flag, _)| log.information(&format!("{flag}: without effect")));
    }
}

/// What every command is given.
#[derive(Debug)]
struct Context {
    store: Store,
    log: Log,
    /// `--rewriting`.
    rewriting: bool,
    /// Where changes to the root go, unless an annotation says otherwise.
    overlay: Overlay,
    /// Which network there is, unless an annotation says otherwise.
    network: NetworkMode,
}

/// Runs the command that the arguments name and returns the exit status.
pub fn main() -> i32 {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => return misunderstood(&error),
    };
    if command.version {
        println!("bulkhead version {}\nspec: {SPEC_VERSION}", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    let log = match Log::open(command.log.as_deref(), command.log_format, command.debug, command.debug_log.as_deref()) {
        Ok(log) => log,
        Err(error) => {
            Log::stderr().error(&error.to_string());
            return 1;
        }
    };
    let Some(action) = command.action else {
        use clap::CommandFactory;
        let _ = Command::command().print_help();
        return 0;
    };
    for (flag, given) in [("--rootless", command.rootless.is_some()), ("--criu", command.criu.is_some())] {
        if given {
            log.information(&format!("{flag}: without effect"));
        }
    }
    let done = Store::new(&command.root).and_then(|store| {
        let context = Context { store, log, rewriting: command.rewriting, overlay: command.overlay, network: command.network };
        act(&context, action).inspect_err(|error| context.log.error(&error.to_string()))
    });
    done.unwrap_or_else(|error| error.exit_status())
}

fn act(context: &Context, action: Action) -> Result<i32> {
    match action {
        Action::Spec(arguments) => spec::run(&arguments),
        Action::Run(arguments) => run::run(context, &arguments),
        Action::Create(arguments) => create::run(context, &arguments),
        Action::Start(arguments) => start::run(context, &arguments),
        Action::Exec(arguments) => exec::run(context, &arguments),
        Action::State(arguments) => state::run(context, &arguments),
        Action::List(arguments) => list::run(context, &arguments),
        Action::Kill(arguments) => kill::run(context, &arguments),
        Action::Pause(arguments) => pause::pause(context, &arguments),
        Action::Resume(arguments) => pause::resume(context, &arguments),
        Action::Events(arguments) => events::run(context, &arguments),
        Action::Update(arguments) => update::run(context, &arguments),
        Action::Ps(arguments) => ps::run(context, &arguments),
        Action::Trace(arguments) => trace::run(context, &arguments),
        Action::Top(arguments) => top::run(context, &arguments),
        Action::Graph(arguments) => graph::run(context, &arguments),
        Action::Debug(arguments) => debug::run(context, &arguments),
        Action::Metrics(arguments) => metrics::run(context, &arguments),
        Action::Delete(arguments) => delete::run(context, &arguments),
        Action::Do(arguments) => do_command::run(context, &arguments),
        Action::Features => features::run(),
        Action::Install(arguments) => install::install(context, &arguments),
        Action::Uninstall(arguments) => install::uninstall(context, &arguments),
        Action::Completion(arguments) => completion::run(&arguments),
    }
}

/// Help is no error; anything else is one line and runc's exit status.
fn misunderstood(error: &clap::Error) -> i32 {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return 0;
    }
    let text = error.render().to_string();
    let complaint = text.split("\n\nUsage:").next().unwrap_or_default();
    let complaint = complaint.split("\n\nFor more information").next().unwrap_or_default().trim().trim_start_matches("error: ");
    Log::stderr().error(&complaint.split_whitespace().collect::<Vec<_>>().join(" "));
    1
}

/// An answer as JSON, indented.
fn print_json(answer: &impl serde::Serialize) {
    println!("{}", serde_json::to_string_pretty(answer).unwrap_or_default());
}

/// Ids of existing containers that cannot be ids do not exist, as with runc.
fn parse_id(text: &str) -> Result<ContainerId> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_takes_what_containerd_passes() {
        use clap::CommandFactory;
        Command::command().debug_assert();
        let line = "bulkhead --root /r --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /p \
                    --console-socket /s --no-pivot --no-new-keyring --preserve-fds 0 c1";
        assert!(Command::try_parse_from(line.split_whitespace()).is_ok());
        for line in [
            "bulkhead --rewriting=false do true",
            "bulkhead kill --all c1 9",
            "bulkhead delete --force c1",
            "bulkhead do -- ls -l",
            "bulkhead do ls -l",
            "bulkhead exec --process /p --detach --pid-file /f --console-socket /s c1",
            "bulkhead exec -e A=b -u 1:2 c1 ls -l",
            "bulkhead update --resources - c1",
            "bulkhead ps --format json c1",
            "bulkhead ps c1 -o pid",
            "bulkhead events --stats c1",
            "bulkhead trace -f -p 1,2 -e %file,!stat --errno ENOENT -Z --slower 10ms -s 64 -t -o /x c1",
            "bulkhead trace -c --format json c1",
            "bulkhead top -n 2 -d 500ms c1",
            "bulkhead graph --policy vfs c1",
            "bulkhead debug c1 tasks --format json",
            "bulkhead debug --format json c1 lookup /etc",
            "bulkhead debug c1 log vfs info,bulkhead_vfs=debug",
            "bulkhead metrics --listen :9400",
            "bulkhead update --memory-swap -1 --memory 1g c1",
        ] {
            assert!(Command::try_parse_from(line.split_whitespace()).is_ok(), "{line}");
        }
    }
}
