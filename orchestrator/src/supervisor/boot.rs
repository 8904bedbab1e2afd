//! From a plan to four services that are ready. Whatever fails, everything that was started is ended and reaped here.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixListener},
    },
    path::Path,
    time::{Duration, Instant},
};

use bulkhead_ipc::{
    channel::{Channel, ChannelError},
    setup::{Report, Setup},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::SigSet,
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    Order,
    cause::describe_end,
    journal::Journal,
    listeners,
    service::{Kind, Service},
    wiring::{Link, Wiring, send_setup},
};
use crate::{
    cgroup::{self, Membership},
    clock,
    error::{Error, Result},
    host::{Launch, TerminalPair, make_controlling, open_terminal},
    network::Takeover,
    oci::{Plan, ids::IdMappings},
    state::{State, Status, process_started},
};

/// How long the services have to get ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a report at most.
const MAX_REPORT: usize = 16 << 10;

/// A sandbox whose services are ready.
#[derive(Debug)]
pub struct Booted {
    /// The services.
    pub services: Vec<Service>,
    /// Where commands connect.
    pub control: UnixListener,
    /// Where the supervisor's own debug plane is to listen.
    pub debug: Option<UnixListener>,
    /// Signals sent to the supervisor.
    pub signals: SignalFd,
    /// /dev/null.
    pub null: File,
    /// The channels between the services.
    pub links: Vec<Link>,
    /// The sandbox's cgroup.
    pub cgroup: Membership,
    /// Where the supervisor's own log goes, if anywhere.
    pub sink: Option<File>,
    /// What is on disk.
    pub state: State,
    /// Whether it is on disk.
    pub created: bool,
    /// The network that netstack has got.
    pub takeover: Option<Takeover>,
    /// The master of the container's terminal, for the command that ordered the container.
    pub master: Option<OwnedFd>,
}

/// See the module. `signals` are blocked in this process.
pub fn boot(order: &Order<'_>, signals: &SigSet) -> Result<Booted> {
    let (plan, log) = (order.plan, order.log);
    let directory = order.store.directory(order.id);
    let doing = "start the supervisor";
    let signals = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(Error::host(doing))?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(Error::host(doing))?;
    let control = listeners::listen_for_control(&directory)?;
    let [first, second, third, fourth] = Kind::ALL.map(Kind::name);
    let [debug, service_debug @ ..] = listeners::listen_for_debug(&directory, ["supervisor", first, second, third, fourth])?;
    let sink = log.service_sink(order.id.as_str(), "supervisor")?;
    let mut launched = Launched { services: Vec::new(), cgroup: Membership::default(), keep: false };
    let mut logs = Vec::new();
    for kind in Kind::ALL {
        let (journal, writing_end) = Journal::new(log.service_sink(order.id.as_str(), kind.name())?)?;
        launched.services.push(launch(kind, plan.ids.as_ref(), &null, journal, writing_end.as_fd())?);
        logs.push(writing_end);
    }
    // The rest is done while they start.
    plan.network.enter()?;
    launched.enter_cgroup(order)?;
    let terminal = plan.program.terminal.then(|| terminal(plan)).transpose()?;
    let links = launched.tell(order, &logs, &service_debug, terminal.as_ref().map(|pair| pair.slave.as_fd()))?;
    drop(logs);
    // The slave is the sentry's alone, so that the master sees when it is closed.
    let master = terminal.map(|pair| pair.master);
    launched.wait_until_ready()?;
    let state = State {
        id: order.id.to_string(),
        pid: std::process::id() as i32,
        pid_started: process_started(std::process::id() as i32).unwrap_or_default(),
        status: Status::Created,
        bundle: plan.bundle.clone(),
        rootfs: plan.rootfs.clone(),
        created: clock::now_nanoseconds(),
        annotations: plan.annotations.clone(),
        cgroups: launched.cgroup.directories.clone(),
        hooks: plan.hooks.clone(),
    };
    let (services, cgroup) = launched.into_parts();
    Ok(Booted {
        services,
        control,
        debug: Some(debug),
        signals,
        null,
        links,
        cgroup,
        sink,
        state,
        created: false,
        takeover: None,
        master,
    })
}

/// The terminal of the host for the container's. This process, which leads a session, hears when its window changes.
fn terminal(plan: &Plan) -> Result<TerminalPair> {
    let pair = open_terminal(plan.console_size)?;
    make_controlling(pair.slave.as_fd()).map_err(Error::host("set up the container's terminal"))?;
    Ok(pair)
}

/// Services that end with this value, unless they are taken out of it.
struct Launched {
    services: Vec<Service>,
    cgroup: Membership,
    keep: bool,
}

impl Drop for Launched {
    fn drop(&mut self) {
        if !self.keep {
            self.services.iter().for_each(|service| service.process.kill());
            self.services.iter().for_each(Service::reap);
            self.cgroup.leave();
            self.cgroup.remove();
        }
    }
}

impl Launched {
    fn into_parts(mut self) -> (Vec<Service>, Membership) {
        self.keep = true;
        (std::mem::take(&mut self.services), std::mem::take(&mut self.cgroup))
    }

    fn enter_cgroup(&mut self, order: &Order<'_>) -> Result<()> {
        let plan = order.plan;
        let required = plan.cgroups_path.is_some() || plan.resources.is_limited();
        let location = cgroup::location(plan.cgroups_path.as_deref(), order.id);
        let pids: Vec<_> = self.services.iter().map(|service| service.process.pid).collect();
        self.cgroup.enter(&location, &plan.resources, required, &pids, order.log)
    }

    /// Sends the services their set-up; what connects them.
    fn tell(
        &self,
        order: &Order<'_>,
        logs: &[OwnedFd],
        debug: &[UnixListener; 4],
        terminal: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<Link>> {
        let (plan, log) = (order.plan, order.log);
        let wiring = Wiring::lay(plan)?;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let stdio = terminal.map_or([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], |terminal| [terminal; 3]);
        let files: Vec<_> = stdio.into_iter().chain(order.inherited.iter().map(AsFd::as_fd)).collect();
        for ((service, log_end), listener) in self.services.iter().zip(logs).zip(debug) {
            let setup = Setup {
                sandbox: order.id.to_string(),
                log_filter: log.service_filter().to_owned(),
                log_json: log.json(),
                role: wiring.role(service.kind, plan),
            };
            let mut fds = vec![log_end.as_fd(), listener.as_fd()];
            fds.extend(wiring.fds(service.kind, &files));
            match send_setup(&service.channel, &setup, &fds) {
                // Closed: it has ended already; why is found out when it is waited for.
                Ok(()) | Err(ChannelError::Closed) => {}
                Err(error) => return Err(failed(service, error.to_string())),
            }
        }
        Ok(wiring.links())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        wait_until_ready(&mut self.services)
    }
}

fn launch(kind: Kind, ids: Option<&IdMappings>, null: &File, journal: Journal, stderr: BorrowedFd<'_>) -> Result<Service> {
    let binary = kind.find()?;
    let binary = c_string(&binary)?;
    let (ours, theirs) = Channel::pair().map_err(Error::ipc("make a control channel"))?;
    let process = Launch {
        service: kind.name(),
        name: kind.binary(),
        binary: &binary,
        control: theirs.as_fd(),
        null: null.as_fd(),
        stderr,
        ids: kind.ids(ids),
        open_files: kind.open_files(),
    }
    .spawn()?;
    Ok(Service { kind, process, channel: ours, journal, ready: false })
}

fn c_string(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::File {
        doing: "run",
        path: path.to_owned(),
        why: "a NUL byte".into(),
    })
}

fn failed(service: &Service, cause: String) -> Error {
    Error::Service { service: service.kind.name(), cause }
}

fn wait_until_ready(services: &mut [Service]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for service in services.iter() {
        service.channel.set_nonblocking(true).map_err(Error::ipc("set up a control channel"))?;
    }
    while let Some(waiting) = services.iter().find(|service| !service.ready) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failed(waiting, format!("not ready after {} s", PATIENCE.as_secs())));
        }
        let mut entries: Vec<PollFd<'_>> = services
            .iter()
            .flat_map(|service| [service.channel.as_fd(), service.process.pidfd.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut entries, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Error::host("wait for the services")(error)),
        }
        let happened: Vec<bool> = entries.iter().map(|entry| entry.any().unwrap_or(true)).collect();
        for (index, service) in services.iter_mut().enumerate() {
            service.journal.pump();
            // What it said comes before its end.
            let mut said = None;
            if happened[2 * index] {
                said = receive_report(&service.channel);
            }
            match said {
                Some(Ok(Report::Ready)) if !service.ready => service.ready = true,
                Some(Ok(Report::Failed(cause))) => return Err(failed(service, cause)),
                Some(Ok(_)) => return Err(failed(service, "sent a report out of turn".into())),
                Some(Err(cause)) => return Err(failed(service, cause)),
                None if happened[2 * index + 1] || happened[2 * index] => {
                    // Its channel may close a little before the process is gone.
                    if let Some(status) = wait_briefly(service) {
                        let cause = describe_end(service, status);
                        return Err(failed(service, cause));
                    }
                    if happened[2 * index] {
                        return Err(failed(service, "closed its control channel".into()));
                    }
                }
                None => {}
            }
        }
    }
    Ok(())
}

/// How a service ended that seems to have; gives the host a moment to say so.
pub fn wait_briefly(service: &Service) -> Option<nix::sys::wait::WaitStatus> {
    let mut entry = [PollFd::new(service.process.pidfd.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut entry, PollTimeout::from(200_u8));
    service.ended()
}

/// The next report on a channel that does not wait, or what is wrong with it; `None` when the service has closed the channel.
pub fn receive_report(channel: &Channel) -> Option<std::result::Result<Report, String>> {
    let mut message = Vec::new();
    match channel.receive_bounded(&mut message, MAX_REPORT, 0) {
        Ok(_) => Some(Report::decode(&message).map_err(|error| format!("sent nonsense: {error}"))),
        Err(ChannelError::Closed) => None,
        Err(ChannelError::NotReady) => Some(Err("sent nonsense: half a report".into())),
        Err(error) => Some(Err(error.to_string())),
    }
}
