//! The supervisor's loop: reports and deaths of the services, requests of commands (`requests`), and signals. It ends when the
//! sandbox does.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use bulkhead_ipc::{
    channel::Channel,
    setup::{ExecutionNews, Order as SentryOrder, Report},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{signalfd::siginfo, wait::WaitStatus},
};

use super::{
    Order,
    boot::{Booted, receive_report, wait_briefly},
    cause::describe_end,
    control::{self, Answer},
    requests::Connection,
    service::{Kind, Service},
};
use crate::{error::Error, state::Status};

/// si_code of what the host's kernel sends.
pub const SI_KERNEL: i32 = 0x80;

/// How long the sentry may take to end the container after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for the host to show which service died first.
const BLAME_PATIENCE: Duration = Duration::from_millis(20);

/// The supervisor's debug plane is started when there has been nothing to do for so long: not while someone waits for the
/// container to start.
const DEBUG_DELAY: Duration = Duration::from_millis(20);

/// Why a sandbox ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The container's first process ended; the exit status to give.
    Container {
        /// 128 and the signal's number for a death by signal.
        status: i32,
    },
    /// The program could not be run.
    NotStarted {
        /// The sentry's words.
        why: String,
    },
    /// Whoever had ordered it went away before it was created.
    Abandoned,
    /// A service ended or gave up.
    Service {
        /// Which.
        service: &'static str,
        /// Why.
        cause: String,
    },
}

/// What is left when the loop has ended.
#[derive(Debug)]
pub struct Watched {
    /// Why it ended.
    pub end: End,
    /// Whether the command that ordered the sandbox is still there.
    pub owner_waits: bool,
    /// The command that waits for the program to be found or to start.
    waiting: Option<(Step, Channel)>,
    /// Commands that had programs executed which have not ended before.
    executing: Vec<Channel>,
}

impl Watched {
    /// Whether a command waits for the program.
    pub fn is_awaited(&self) -> bool {
        self.waiting.is_some()
    }

    /// Tells the command that waits for the program, if one does, that there will be none; and those that had programs executed
    /// that these were killed.
    pub fn answer(&self) {
        for channel in &self.executing {
            match &self.end {
                End::Service { service, cause } => control::fail(channel, &format!("{service}: {cause}")),
                _ => control::answer(channel, &Answer::Ended(128 + libc::SIGKILL)),
            }
        }
        let Some((step, waiting)) = &self.waiting else { return };
        match (&self.end, step) {
            (End::NotStarted { why }, _) => control::refuse(waiting, why),
            (End::Service { service, cause }, _) => control::fail(waiting, &format!("{service}: {cause}")),
            // It ran and ended before we came to say so.
            (End::Container { .. }, Step::Start) => control::answer(waiting, &Answer::Done),
            (End::Container { .. }, Step::Prepare) => control::refuse(waiting, "the container was killed"),
            (End::Abandoned, _) => {}
        }
    }
}

/// Watches a sandbox; `owner` is the channel of the command that ordered it, which is told first that it is created.
pub fn watch(order: &Order<'_>, booted: &mut Booted, owner: Channel) -> Watched {
    let mut watch =
        Watch { order, booted, connections: Vec::new(), prepared: false, waiting: None, killed_at: None, executed: 0 };
    let end = watch.create(owner).err().unwrap_or_else(|| watch.run());
    let waiting = watch.waiting.take();
    let asking = waiting.iter().map(|(_, connection)| connection);
    let owner_waits = watch.connections.iter().chain(asking).any(|c| c.owner && !c.channel.is_closed());
    let executing = watch.connections.into_iter().filter(|c| c.execution.is_some()).map(|c| c.channel).collect();
    Watched { end, owner_waits, waiting: waiting.map(|(step, connection)| (step, connection.channel)), executing }
}

/// What a command waits for the sentry to do with the container's program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Find it.
    Prepare,
    /// Run it.
    Start,
}

/// What has happened.
struct Ready {
    /// Nothing, for a while.
    idle: bool,
    services: Vec<ServiceReady>,
    signals: bool,
    control: bool,
    connections: Vec<bool>,
}

struct ServiceReady {
    report: bool,
    end: bool,
    log: bool,
}

pub(super) struct Watch<'a, 'o> {
    pub(super) order: &'a Order<'o>,
    pub(super) booted: &'a mut Booted,
    pub(super) connections: Vec<Connection>,
    /// The container's program was found.
    pub(super) prepared: bool,
    /// The command that waits for the program.
    pub(super) waiting: Option<(Step, Connection)>,
    pub(super) killed_at: Option<Instant>,
    /// Programs executed so far.
    pub(super) executed: u32,
}

impl Watch<'_, '_> {
    /// Records that the container is created and tells the owner.
    fn create(&mut self, owner: Channel) -> Result<(), End> {
        if owner.is_closed() {
            return Err(End::Abandoned);
        }
        let failed = |error: String| End::Service { service: "supervisor", cause: error };
        self.order.store.save(self.order.id, &self.booted.state).map_err(|e| failed(e.to_string()))?;
        self.booted.created = true;
        let _ = self.booted.control.set_nonblocking(true);
        owner.set_nonblocking(true).map_err(|e| failed(e.to_string()))?;
        control::created(&owner, self.booted.master.take().as_ref());
        self.connections.push(Connection { owner: true, ..Connection::new(owner) });
        Ok(())
    }

    fn run(&mut self) -> End {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => return End::Service { service: "supervisor", cause: error.to_string() },
            };
            if ready.idle
                && let Err(error) = super::open_debug_plane(self.order, self.booted)
            {
                self.order.log.warning(&error.to_string());
            }
            if let Some(end) = self.handle(&ready) {
                return end;
            }
        }
    }

    fn handle(&mut self, ready: &Ready) -> Option<End> {
        for (service, said) in self.booted.services.iter_mut().zip(&ready.services) {
            if said.log {
                service.journal.pump();
            }
        }
        // What a service reported comes before its end, and ends before new requests.
        for index in 0..ready.services.len() {
            if ready.services[index].report
                && let Some(end) = self.hear(index)
            {
                return Some(end);
            }
        }
        for index in 0..ready.services.len() {
            if ready.services[index].end && self.booted.services[index].ended().is_some() {
                return Some(self.service_ended(index, None));
            }
        }
        if self.killed_at.is_some_and(|at| at.elapsed() >= KILL_PATIENCE) {
            return Some(End::Container { status: 128 + libc::SIGKILL });
        }
        if ready.signals {
            while let Ok(Some(signal)) = self.booted.signals.read_signal() {
                if let Err(end) = self.signalled(&signal) {
                    return Some(end);
                }
            }
        }
        let ended = self.serve(&ready.connections);
        if ended.is_none() && ready.control {
            self.accept();
        }
        ended
    }

    /// A signal to the supervisor is meant for the container; those of the host's kernel are about its terminal.
    fn signalled(&mut self, signal: &siginfo) -> Result<(), End> {
        let number = signal.ssi_signo as i32;
        if signal.ssi_code != SI_KERNEL {
            return self.signal(number, false);
        }
        match number {
            libc::SIGWINCH => self.tell_sentry(&SentryOrder::WindowChanged),
            // The terminal was hung up, which the sentry sees by itself.
            _ => Ok(()),
        }
    }

    /// Waits for something to happen.
    fn wait(&self) -> Result<Ready, Error> {
        let booted = &*self.booted;
        let mut entries: Vec<PollFd<'_>> = Vec::new();
        let mut watch = |fd| entries.push(PollFd::new(fd, PollFlags::POLLIN));
        watch(booted.signals.as_fd());
        watch(booted.control.as_fd());
        for service in &booted.services {
            watch(service.channel.as_fd());
            watch(service.process.pidfd.as_fd());
        }
        self.connections.iter().for_each(|connection| watch(connection.channel.as_fd()));
        booted.services.iter().filter_map(|service| service.journal.fd()).for_each(watch);
        let left = self.killed_at.map(|at| KILL_PATIENCE.saturating_sub(at.elapsed()));
        let timeout = [left, booted.debug.as_ref().map(|_| DEBUG_DELAY)].into_iter().flatten().min();
        let timeout = timeout.map_or(PollTimeout::NONE, |t| PollTimeout::try_from(t).unwrap_or(PollTimeout::ZERO));
        let idle = match poll(&mut entries, timeout) {
            Ok(count) => count == 0,
            Err(nix::errno::Errno::EINTR) => false,
            Err(error) => return Err(Error::host("watch the services")(error)),
        };
        // In the order of above.
        let mut happened = entries.iter().map(|entry| entry.any().unwrap_or(true));
        let mut next = || happened.next().unwrap_or(false);
        let (signals, control) = (next(), next());
        let mut services: Vec<ServiceReady> =
            booted.services.iter().map(|_| ServiceReady { report: next(), end: next(), log: false }).collect();
        let connections = self.connections.iter().map(|_| next()).collect();
        for (service, ready) in booted.services.iter().zip(&mut services) {
            ready.log = service.journal.fd().is_some() && next();
        }
        Ok(Ready { idle, services, signals, control, connections })
    }

    /// A report of a service.
    fn hear(&mut self, index: usize) -> Option<End> {
        let kind = self.booted.services[index].kind;
        match receive_report(&self.booted.services[index].channel) {
            None => Some(self.service_ended(index, None)),
            Some(Err(cause)) | Some(Ok(Report::Failed(cause))) if kind != Kind::Sentry || self.waiting.is_none() => {
                Some(self.service_ended(index, Some(cause)))
            }
            // The answer to the order to find or to run the program.
            Some(Err(why)) | Some(Ok(Report::Failed(why))) => Some(End::NotStarted { why }),
            Some(Ok(Report::Exited(status))) if kind == Kind::Sentry => {
                self.booted.state.status = Status::Running;
                Some(End::Container { status: exit_status(status) })
            }
            Some(Ok(Report::Prepared)) if kind == Kind::Sentry && self.awaits(Step::Prepare) => {
                self.prepared = true;
                self.answer_waiting();
                None
            }
            Some(Ok(Report::Connected)) if kind == Kind::Netstack && self.is_starting() && self.booted.takeover.is_some() => {
                self.tell_sentry(&SentryOrder::Start).err()
            }
            Some(Ok(Report::Started)) if kind == Kind::Sentry && self.is_starting() => self.started(),
            Some(Ok(Report::Execution { number, news })) if kind == Kind::Sentry => {
                self.execution_news(number, news);
                None
            }
            Some(Ok(
                Report::Ready
                | Report::Prepared
                | Report::Connected
                | Report::Started
                | Report::Exited(_)
                | Report::Execution { .. },
            )) => Some(self.service_ended(index, Some("sent a report out of turn".into()))),
        }
    }

    /// What became of a program that a command had executed. The command may have gone.
    fn execution_news(&mut self, number: u32, news: ExecutionNews) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.execution == Some(number)) else { return };
        match news {
            ExecutionNews::Started(pid) => control::answer(&connection.channel, &Answer::Executing(pid)),
            ExecutionNews::Failed(why) => {
                connection.execution = None;
                control::refuse(&connection.channel, &why);
            }
            ExecutionNews::Ended(status) => {
                connection.execution = None;
                control::answer(&connection.channel, &Answer::Ended(exit_status(status)));
            }
        }
    }

    fn started(&mut self) -> Option<End> {
        self.booted.state.status = Status::Running;
        if let Err(error) = self.order.store.save(self.order.id, &self.booted.state) {
            return Some(End::Service { service: "supervisor", cause: error.to_string() });
        }
        self.answer_waiting();
        None
    }

    /// Tells the command that waits for the program that it is done.
    fn answer_waiting(&mut self) {
        if let Some((_, connection)) = self.waiting.take() {
            control::answer(&connection.channel, &Answer::Done);
            self.connections.push(connection);
        }
    }

    fn awaits(&self, step: Step) -> bool {
        self.waiting.as_ref().is_some_and(|(waiting_for, _)| *waiting_for == step)
    }

    /// Whether the sentry was told to run the program and has not answered.
    pub(super) fn is_starting(&self) -> bool {
        self.awaits(Step::Start)
    }

    /// A service ended, or gave up for `cause`. When one dies, others that speak to it notice and may be heard first; the one
    /// that was killed is to blame.
    pub(super) fn service_ended(&mut self, index: usize, cause: Option<String>) -> End {
        let services = &mut self.booted.services;
        if cause.is_none() {
            wait_briefly(&services[index]);
        }
        let is_killed = |service: &Service| matches!(service.ended(), Some(WaitStatus::Signaled(..)));
        if !is_killed(&services[index]) {
            std::thread::sleep(BLAME_PATIENCE);
        }
        let order = std::iter::once(index).chain(0..services.len());
        let to_blame = order.into_iter().find(|&i| is_killed(&services[i])).unwrap_or(index);
        let service = &mut services[to_blame];
        let cause = match (service.ended(), cause) {
            (Some(status @ WaitStatus::Signaled(..)), _) | (Some(status), None) => describe_end(service, status),
            (_, Some(cause)) => cause,
            (None, None) => "closed its control channel".into(),
        };
        End::Service { service: service.kind.name(), cause }
    }
}

/// A wait status (wait(2)) as a shell counts.
fn exit_status(wait_status: i32) -> i32 {
    if libc::WIFEXITED(wait_status) {
        libc::WEXITSTATUS(wait_status)
    } else if libc::WIFSIGNALED(wait_status) {
        128 + libc::WTERMSIG(wait_status)
    } else {
        super::SANDBOX_FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::exit_status;

    #[test]
    fn wait_statuses_become_what_a_shell_shows() {
        assert_eq!(exit_status(3 << 8), 3);
        assert_eq!(exit_status(libc::SIGKILL), 137);
        assert_eq!(exit_status(libc::SIGSEGV | 0x80), 139);
    }
}
