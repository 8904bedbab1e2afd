//! From the supervisor's set-up to a running container: starts the parts in the order that they need, locks the process down,
//! and carries out the supervisor's orders.

use std::{os::fd::OwnedFd, sync::Arc};

use bulkhead_ipc::{
    confine::Restrictions,
    service::{Control, Fds, Result, Service},
    setup::{Order, Report, SentrySetup},
};
use parking_lot::{Mutex, RwLock};

use crate::{
    debug::Debugger,
    executions::Executions,
    executor::{self, Executor},
    fs::vfs::VfsClient,
    futex::FutexTable,
    kernel::{Kernel, Uts},
    memory::MemoryFile,
    platform::Platform,
    procfs::ProcState,
    signal::{self, SignalInfo},
    socket::{Sockets, inet::client::NetClient},
    syscalls::filter::Filter,
    task::{self, CpuWatch, INIT, PidTable, Prepared},
    tty::{Pty, Terminals, console, job},
};

/// What the sentry may ask of the host once it serves.
const POLICY: &str = include_str!("policy.seccomp");
/// Files that all guests together may have open, as far as the host allows.
const OPEN_FILES: u64 = 1 << 20;

/// Runs the sentry until the supervisor goes.
pub fn serve(setup: SentrySetup, mut fds: Fds, service: Service) -> Result<()> {
    let clients = fds.clients(setup.cpus.len())?;
    let netstack = NetClient::new(fds.clients(setup.cpus.len())?, fds.readiness()?);
    let files = fds.rest();

    // These need what the lock-down takes: the host's /proc, and stubs that the one thread that there is now makes.
    let proc = ProcState::new(executor::now());
    let platform = Platform::start(&setup.cpus)?;
    platform.set_rewriting(!setup.keep_call_sites);
    let prepared =
        service.prepare(&Restrictions { open_files: OPEN_FILES, signals: true, threads: true, ..Default::default() })?;
    let memory = MemoryFile::new(setup.memory_limit)?;
    // Starts the workers, which pin themselves.
    Executor::spawn(0, std::future::ready(()));
    let debugger = Debugger::default();
    let control = prepared.seal(POLICY, debugger.plane())?;

    let reporter = control.clone();
    let kernel = Arc::new(Kernel {
        platform,
        memory,
        vfs: VfsClient::new(clients),
        pids: PidTable::default(),
        futexes: FutexTable::default(),
        cpu_watch: CpuWatch::default(),
        tracer: Arc::default(),
        proc,
        terminals: Terminals::default(),
        sockets: Sockets::new(netstack.clone()),
        uts: RwLock::new(Uts { hostname: setup.hostname.clone(), domainname: setup.domainname.clone() }),
        filter: setup.profile.as_ref().map(Filter::new),
        settings: setup,
        on_exit: Box::new(move |status| tell(&reporter, &Report::Exited(status))),
        boot: executor::now(),
    });
    debugger.attach(&kernel);
    kernel.pids.set_limit(kernel.settings.task_limit);
    netstack.start();
    obey(&kernel, &control, files)
}

/// Carries out orders until the supervisor has gone. `files` are the first program's.
fn obey(kernel: &Arc<Kernel>, control: &Control, files: Vec<OwnedFd>) -> Result<()> {
    let mut files = Some(files);
    let first = FirstProgram::new();
    let executions = Executions::default();
    while let Some((order, fds)) = control.next_order()? {
        match order {
            Order::Prepare => match files.take() {
                Some(files) => first.prepare(kernel, control, files),
                None => tell(control, &Report::Failed("the container's process was made before".into())),
            },
            Order::Start => first.run(control),
            Order::Signal { signal, all } => send(kernel, signal, all),
            Order::Execute { number, execution } => executions.execute(kernel, control, number, execution, fds),
            Order::LimitTasks(limit) => kernel.pids.set_limit(limit),
            Order::LimitMemory(bytes) => kernel.memory.set_limit(bytes),
            Order::SignalExecution { number, signal } => executions.signal(number, signal),
            Order::Network(_) => return Err("an order to another service".into()),
            Order::WindowChanged => console::windows_changed(kernel),
        }
    }
    Ok(())
}

/// The container's first program on its way: found, and later run. Both on one worker: only those may call vfs and make guest
/// threads, and a guest thread that was made on one begins there.
struct FirstProgram {
    home: usize,
    prepared: Arc<Mutex<Option<Found>>>,
}

struct Found {
    program: Prepared,
    terminal: Option<Arc<Pty>>,
}

impl FirstProgram {
    fn new() -> FirstProgram {
        FirstProgram { home: Executor::choose_home(), prepared: Arc::default() }
    }

    fn prepare(&self, kernel: &Arc<Kernel>, control: &Control, files: Vec<OwnedFd>) {
        let (kernel, control, slot) = (kernel.clone(), control.clone(), self.prepared.clone());
        Executor::spawn(self.home, async move {
            let (files, terminal) = match console::standard_files(&kernel, &kernel.settings.program, files) {
                Ok(files) => files,
                Err(errno) => return tell(&control, &Report::Failed(format!("cannot use an inherited file: {errno}"))),
            };
            match task::prepare(&kernel, files) {
                Ok(program) => {
                    *slot.lock() = Some(Found { program, terminal });
                    tell(&control, &Report::Prepared);
                }
                Err(error) => tell(&control, &Report::Failed(error.to_string())),
            }
        });
    }

    fn run(&self, control: &Control) {
        let Some(Found { program, terminal }) = self.prepared.lock().take() else {
            return tell(control, &Report::Failed("the container's process is not there, or runs already".into()));
        };
        let control = control.clone();
        Executor::spawn(self.home, async move {
            if let Some(terminal) = terminal {
                job::give(program.process(), &terminal, INIT, INIT);
            }
            let thread = program.load();
            tell(&control, &Report::Started);
            thread.run().await;
        });
    }
}

fn send(kernel: &Kernel, signal: i32, all: bool) {
    let Ok(signal) = signal::checked(signal) else {
        tracing::warn!(signal, "the supervisor's order names no signal");
        return;
    };
    let processes = if all { kernel.pids.processes() } else { kernel.pids.process(INIT).into_iter().collect() };
    for process in processes {
        signal::send_from_outside(&process, SignalInfo::user(signal, 0, 0));
    }
}

/// Reports; when the supervisor has gone there is nobody to tell, and the order loop ends as well.
pub(crate) fn tell(control: &Control, report: &Report) {
    if let Err(error) = control.report(report) {
        tracing::warn!(%error, ?report, "cannot report to the supervisor");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_policy_is_well_formed() {
        let policy = bulkhead_ipc::confine::Policy::parse(super::POLICY).map_err(|error| error.to_string());
        assert_eq!(policy.map(|policy| policy.compile().is_ok()), Ok(true));
    }
}
