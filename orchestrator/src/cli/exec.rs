//! `exec`: a further program in a running container.
//!
//! The process that waits for the program stands for it on the host: its pid is what the pid file holds, signals that it gets go
//! to the program, its exit status is the program's, and the program does not outlive it. With `--detach` that is a child of
//! this command, which is adopted by whoever adopts orphans (containerd's shim does).

use std::{
    ffi::OsString,
    os::fd::{AsFd, BorrowedFd},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use bulkhead_ipc::setup::{Execution, Program};
use clap::Args;
use nix::sys::{
    signal::{SigSet, SigmaskHow, Signal, sigprocmask},
    signalfd::{SfdFlags, SignalFd},
};

use super::{Context, parse_id};
use crate::{
    cgroup,
    error::{Error, Result},
    host::{Forked, TerminalPair, close_inherited, fork, inherited_fds, make_controlling, open_terminal},
    oci::{CAPABILITY_NAMES, Config, ProcessFile, set_variable},
    state::{State, Status, write_atomically},
    supervisor::{SI_KERNEL, control::Supervisor},
    terminal::{OwnTerminal, Relay, send_master, wait_and_relay},
};

/// What runc exits with when a program cannot be executed.
const EXEC_FAILED: i32 = 255;

/// Arguments of `exec`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Unix socket that the terminal's master is sent to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<OsString>,
    /// Set an environment variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<OsString>,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// User, and group
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Additional groups
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<i64>,
    /// File with an OCI process in JSON, instead of a command and the other options
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return when the program runs
    #[arg(long, short)]
    detach: bool,
    /// File to write the pid to of the process that stands for the program
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Accepted for compatibility: there is no SELinux in the container
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Accepted for compatibility: there is no AppArmor in the container
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// It cannot gain privileges
    #[arg(long)]
    no_new_privs: bool,
    /// Add a capability
    #[arg(long, short, value_name = "CAPABILITY")]
    cap: Vec<String>,
    /// Hand on N more inherited files, after standard error and those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Accepted for compatibility: all programs of a container are in its control group
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,
    /// Execute it in a paused container too, where it waits
    #[arg(long)]
    ignore_paused: bool,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Executes a program. Every failure has runc's words in front and runc's exit status.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    Ok(execute(context, arguments).unwrap_or_else(|error| {
        context.log.error(&format!("exec failed: {error}"));
        EXEC_FAILED
    }))
}

fn execute(context: &Context, arguments: &Arguments) -> Result<i32> {
    let id = parse_id(&arguments.id)?;
    let state = context.store.load(&id)?;
    if arguments.process.is_none() && arguments.command.is_empty() {
        return Err(Error::Usage("process args cannot be empty".into()));
    }
    match state.status() {
        Status::Stopped => return Err(Error::Usage("cannot exec in a stopped container".into())),
        Status::Paused if !arguments.ignore_paused => {
            return Err(Error::Usage("cannot exec in a paused container (use --ignore-paused to override)".into()));
        }
        Status::Created | Status::Running | Status::Paused => {}
    }
    let ProcessFile { mut program, console_size } = program(context, &state, arguments)?;
    check_terminal(&program, arguments)?;
    let inherited = inherited_fds(arguments.preserve_fds)?;
    inherited.environment.into_iter().for_each(|entry| set_variable(&mut program.environment, entry));
    ignored(context, arguments);

    let signals = forwarded();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).map_err(Error::host("block signals"))?;
    let supervisor = Supervisor::connect(&context.store.directory(&id))?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let own = (program.terminal && !arguments.detach).then(OwnTerminal::find).transpose()?;
    let size = console_size.or_else(|| own.as_ref()?.size());
    let terminal = program.terminal.then(|| open_terminal(size)).transpose()?;
    let stdio = match &terminal {
        Some(pair) => [pair.slave.as_fd(); 3],
        None => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
    };
    let fds: Vec<BorrowedFd<'_>> = stdio.into_iter().chain(inherited.fds.iter().map(AsFd::as_fd)).collect();
    let executed = supervisor.execute(Execution { program }, &fds);
    executed.map_err(|error| match error {
        Error::Refused(why) => Error::Start(why),
        other => other,
    })?;
    drop(inherited.fds);
    if arguments.detach {
        return detach(arguments, &state, &supervisor, &signals, terminal);
    }
    // The slave is the sentry's alone from now on.
    let master = terminal.map(|pair| pair.master);
    let relay = own.zip(master).map(|(own, master)| Relay::new(own, master)).transpose()?;
    attend(arguments, &supervisor, &signals, relay)
}

/// Whether there is somebody to show the terminal to, in runc's words.
fn check_terminal(program: &Program, arguments: &Arguments) -> Result<()> {
    match (program.terminal, arguments.detach, arguments.console_socket.is_some()) {
        (true, true, false) => Err("cannot allocate tty if bulkhead will detach without setting console socket"),
        (_, false, true) | (false, _, true) => Err("cannot use console socket if bulkhead will not detach or allocate tty"),
        _ => Ok(()),
    }
    .map_err(|text| Error::Usage(text.to_owned()))
}

/// All but those that cannot be handed on and those that tell of this process itself.
fn forwarded() -> SigSet {
    let mut signals = SigSet::all();
    for own in [Signal::SIGCHLD, Signal::SIGURG, Signal::SIGPIPE, Signal::SIGTTIN, Signal::SIGTTOU] {
        signals.remove(own);
    }
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP, Signal::SIGABRT] {
        signals.remove(fault);
    }
    signals
}

/// What makes no sense here is said.
fn ignored(context: &Context, arguments: &Arguments) {
    let given = [
        ("--process-label", arguments.process_label.is_some()),
        ("--apparmor", arguments.apparmor.is_some()),
        ("--cgroup", !arguments.cgroup.is_empty()),
    ];
    for (flag, _) in given.iter().filter(|(_, given)| *given) {
        context.log.information(&format!("exec {flag}: without effect"));
    }
}

fn program(context: &Context, state: &State, arguments: &Arguments) -> Result<ProcessFile> {
    if let Some(file) = &arguments.process {
        return ProcessFile::load(file, &context.log);
    }
    let config = Config::load(&state.bundle, &context.log)?;
    let ProcessFile { mut program, .. } = ProcessFile::of(&config, &context.log)?;
    program.terminal = arguments.tty;
    program.arguments = arguments.command.iter().map(|argument| argument.as_bytes().to_vec()).collect();
    for entry in &arguments.env {
        if matches!(entry.as_bytes().iter().position(|&byte| byte == b'='), None | Some(0)) {
            return Err(Error::Usage(format!("--env: invalid environment variable {entry:?}: no name or no \"=\"")));
        }
        set_variable(&mut program.environment, entry.clone().into_vec());
    }
    if let Some(directory) = &arguments.cwd {
        if directory.as_bytes().first() != Some(&b'/') {
            return Err(Error::Usage("--cwd: Cwd must be an absolute path".into()));
        }
        program.directory = directory.as_bytes().to_vec();
    }
    if let Some(user) = &arguments.user {
        (program.uid, program.gid) = parse_user(user, program.gid)?;
    }
    for &group in &arguments.additional_gids {
        let group = u32::try_from(group)
            .map_err(|_| Error::Usage(format!("--additional-gids: additional gid cannot be negative: {group}")))?;
        program.groups.push(group);
    }
    program.no_new_privileges |= arguments.no_new_privs;
    for name in &arguments.cap {
        match CAPABILITY_NAMES.iter().position(|known| known == name) {
            Some(number) => {
                let sets = &mut program.capabilities;
                for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                    *set |= 1 << number;
                }
            }
            None => context.log.warning(&format!("ignoring unknown or unavailable capabilities: [{name}]")),
        }
    }
    Ok(ProcessFile { program, console_size: None })
}

/// `UID` or `UID:GID`; without a group it stays what it was.
fn parse_user(text: &str, group: u32) -> Result<(u32, u32)> {
    let number = |what: &str, text: &str| {
        text.parse::<u32>().map_err(|error| Error::Usage(format!("--user: parsing {text} as int for {what} failed: {error}")))
    };
    match text.split_once(':') {
        Some((user, group)) => Ok((number("uid", user)?, number("gid", group)?)),
        None => Ok((number("uid", text)?, group)),
    }
}

/// Stands for the program in the foreground.
fn attend(arguments: &Arguments, supervisor: &Supervisor, signals: &SigSet, relay: Option<Relay>) -> Result<i32> {
    write_pid_file(arguments, std::process::id())?;
    stand_for_program(supervisor, signals, relay)
}

/// Leaves a process that stands for the program.
fn detach(
    arguments: &Arguments,
    state: &State,
    supervisor: &Supervisor,
    signals: &SigSet,
    terminal: Option<TerminalPair>,
) -> Result<i32> {
    let slave = match terminal {
        Some(TerminalPair { master, slave }) => {
            arguments.console_socket.as_deref().map_or(Ok(()), |socket| send_master(socket, master.as_fd()))?;
            Some(slave)
        }
        None => None,
    };
    match fork()? {
        Forked::Parent(pid) => {
            let written = write_pid_file(arguments, pid.as_raw() as u32);
            if written.is_err() {
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
                let _ = nix::sys::wait::waitpid(pid, None);
            }
            written.map(|()| 0)
        }
        Forked::Child => {
            let _ = nix::unistd::setsid();
            // So that the host's kernel tells when the window changes.
            if let Some(slave) = slave {
                let _ = make_controlling(slave.as_fd());
                // It may have changed before.
                supervisor.window_changed();
            }
            close_inherited();
            if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
                let _ = nix::unistd::dup2_stdin(&null);
                let _ = nix::unistd::dup2_stdout(&null);
                let _ = nix::unistd::dup2_stderr(&null);
            }
            cgroup::join_existing(&state.cgroups);
            std::process::exit(stand_for_program(supervisor, signals, None).unwrap_or(EXEC_FAILED))
        }
    }
}

fn write_pid_file(arguments: &Arguments, pid: u32) -> Result<()> {
    match &arguments.pid_file {
        Some(file) => write_atomically(file, pid.to_string().as_bytes(), 0o644),
        None => Ok(()),
    }
}

/// Hands signals on until the program has ended; its exit status.
fn stand_for_program(supervisor: &Supervisor, signals: &SigSet, mut relay: Option<Relay>) -> Result<i32> {
    let doing = "wait for the program";
    let signals = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(Error::host(doing))?;
    loop {
        let [answered, signalled] =
            wait_and_relay([supervisor.as_fd(), signals.as_fd()], relay.as_mut()).map_err(Error::host(doing))?;
        if answered {
            let status = supervisor.execution_ended();
            relay.into_iter().for_each(Relay::finish);
            return status;
        }
        if signalled {
            while let Ok(Some(signal)) = signals.read_signal() {
                let from_kernel = signal.ssi_code == SI_KERNEL;
                match (signal.ssi_signo as i32, &relay) {
                    (libc::SIGWINCH, Some(relay)) => {
                        relay.resize();
                        supervisor.window_changed();
                    }
                    (libc::SIGWINCH, None) if from_kernel => supervisor.window_changed(),
                    // The terminal was hung up, which the sentry sees by itself.
                    (libc::SIGHUP | libc::SIGCONT, None) if from_kernel => {}
                    (signal, _) => supervisor.forward_to_execution(signal),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_user;

    #[test]
    fn a_user_comes_with_or_without_a_group() {
        assert_eq!(parse_user("7", 3).ok(), Some((7, 3)));
        assert_eq!(parse_user("7:8", 3).ok(), Some((7, 8)));
        for text in ["", "x", "7:", "-1", "7:8:9"] {
            let error = parse_user(text, 3).unwrap_err().to_string();
            assert!(error.contains("as int for"), "{error}");
        }
    }
}
