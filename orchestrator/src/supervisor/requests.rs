//! What commands ask while the supervisor watches: their connections, and how each request is carried out.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use bulkhead_ipc::{
    channel::{Channel, ChannelError},
    setup::{Execution, Order as SentryOrder},
};

use super::{
    control::{self, Answer, Request},
    service::Kind,
    watch::{End, Step, Watch},
};
use crate::{network::Takeover, oci::NetworkMode, state::Status};

/// Commands connected at a time. Each may have a program executed.
const MAX_CONNECTIONS: usize = 4096;

/// A command.
pub(super) struct Connection {
    pub channel: Channel,
    /// Ordered the sandbox.
    pub owner: bool,
    /// The number of the program that it had executed and that has not ended.
    pub execution: Option<u32>,
}

impl Connection {
    /// Of a command that has not asked anything yet.
    pub fn new(channel: Channel) -> Connection {
        Connection { channel, owner: false, execution: None }
    }
}

impl Watch<'_, '_> {
    pub(super) fn accept(&mut self) {
        while let Ok((socket, _)) = self.booted.control.accept() {
            if self.connections.len() >= MAX_CONNECTIONS {
                continue;
            }
            if let Ok(channel) = Channel::from_fd(socket.into())
                && channel.set_nonblocking(true).is_ok()
            {
                self.connections.push(Connection::new(channel));
            }
        }
    }

    /// Requests of the connections that are ready.
    pub(super) fn serve(&mut self, ready: &[bool]) -> Option<End> {
        // From the end, so that removing one moves none that is still to be looked at.
        for index in (0..ready.len().min(self.connections.len())).rev().filter(|&i| ready[i]) {
            let served = match control::receive(&self.connections[index].channel) {
                Ok((request, fds)) => self.carry_out(index, request, fds),
                Err(ChannelError::NotReady) => Ok(()),
                Err(_) => self.disconnect(index),
            };
            if let Err(end) = served {
                return Some(end);
            }
        }
        None
    }

    fn carry_out(&mut self, index: usize, request: Request, fds: Vec<OwnedFd>) -> Result<(), End> {
        let channel = &self.connections[index].channel;
        match request {
            Request::Prepare => {
                if self.prepared || self.waiting.is_some() {
                    control::refuse(channel, "the container's process was made before");
                    return Ok(());
                }
                self.tell_sentry(&SentryOrder::Prepare)?;
                self.waiting = Some((Step::Prepare, self.connections.swap_remove(index)));
                Ok(())
            }
            Request::Start => {
                if self.booted.state.status != Status::Created || !self.prepared || self.waiting.is_some() {
                    control::refuse(channel, "cannot start a container that is not created");
                    return Ok(());
                }
                self.waiting = Some((Step::Start, self.connections.swap_remove(index)));
                self.connect_and_start()
            }
            Request::Signal { signal, all } => {
                let done = self.signal(signal, all);
                control::answer(&self.connections[index].channel, &Answer::Done);
                done
            }
            Request::Execute(execution) => self.execute(index, execution, fds),
            Request::LimitTasks(limit) => {
                self.tell_sentry(&SentryOrder::LimitTasks(limit))?;
                control::answer(&self.connections[index].channel, &Answer::Done);
                Ok(())
            }
            Request::LimitMemory(bytes) => {
                self.tell_sentry(&SentryOrder::LimitMemory(bytes))?;
                control::answer(&self.connections[index].channel, &Answer::Done);
                Ok(())
            }
            Request::Forward(signal) => match self.connections[index].execution {
                Some(number) => self.tell_sentry(&SentryOrder::SignalExecution { number, signal }),
                None => Ok(()),
            },
            Request::WindowChanged => self.tell_sentry(&SentryOrder::WindowChanged),
        }
    }

    /// Gives netstack what is in the network namespace by now, if anything is; the program runs when it has got it.
    fn connect_and_start(&mut self) -> Result<(), End> {
        let plan = self.order.plan;
        let taken = match plan.network_mode {
            NetworkMode::Sandbox => Takeover::take(&plan.network, self.order.log),
            NetworkMode::None => Ok(None),
        };
        match taken.map_err(|error| End::NotStarted { why: error.to_string() })? {
            None => self.tell_sentry(&SentryOrder::Start),
            Some(takeover) => {
                let fds: Vec<_> = takeover.sockets.iter().map(AsFd::as_fd).collect();
                let told = self.order_service(Kind::Netstack, &SentryOrder::Network(takeover.network.clone()), &fds);
                self.booted.takeover = Some(takeover);
                told.map(|_| ())
            }
        }
    }

    fn execute(&mut self, index: usize, execution: Execution, fds: Vec<OwnedFd>) -> Result<(), End> {
        let connection = &self.connections[index];
        if connection.execution.is_some() {
            control::refuse(&connection.channel, "this connection has a program already");
            return Ok(());
        }
        if fds.len() < 3 {
            control::refuse(&connection.channel, "standard input, output and error did not come with the request");
            return Ok(());
        }
        self.executed = self.executed.wrapping_add(1);
        let number = self.executed;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let ordered = self.order_sentry(&SentryOrder::Execute { number, execution }, &fds)?;
        let connection = &mut self.connections[index];
        if ordered {
            connection.execution = Some(number);
        } else {
            control::refuse(&connection.channel, "the sentry does not take orders at the moment");
        }
        Ok(())
    }

    /// A command has gone, or sends nonsense; the program that it stands for goes with it.
    fn disconnect(&mut self, index: usize) -> Result<(), End> {
        match self.connections.swap_remove(index).execution {
            Some(number) => self.tell_sentry(&SentryOrder::SignalExecution { number, signal: libc::SIGKILL }),
            None => Ok(()),
        }
    }

    /// Hands a signal to the container; before its program runs there is none to handle it, so it ends.
    pub(super) fn signal(&mut self, signal: i32, all: bool) -> Result<(), End> {
        let harmless = matches!(signal, 0 | libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH);
        if self.booted.state.status == Status::Created && !self.is_starting() {
            return if harmless { Ok(()) } else { Err(End::Container { status: 128 + signal }) };
        }
        if signal == 0 {
            return Ok(());
        }
        if signal == libc::SIGKILL {
            self.killed_at.get_or_insert_with(Instant::now);
        }
        self.tell_sentry(&SentryOrder::Signal { signal, all })
    }

    pub(super) fn tell_sentry(&self, order: &SentryOrder) -> Result<(), End> {
        // If it is so far behind that it cannot be told, a signal more makes no difference.
        self.order_sentry(order, &[]).map(|_| ())
    }

    /// Whether the sentry can take the order now.
    fn order_sentry(&self, order: &SentryOrder, fds: &[BorrowedFd<'_>]) -> Result<bool, End> {
        self.order_service(Kind::Sentry, order, fds)
    }

    /// Whether this service can take the order now.
    fn order_service(&self, kind: Kind, order: &SentryOrder, fds: &[BorrowedFd<'_>]) -> Result<bool, End> {
        let mut message = Vec::new();
        order.encode(&mut message);
        let Some(service) = self.booted.services.iter().find(|service| service.kind == kind) else { return Ok(false) };
        match service.channel.send(&message, fds) {
            // Closed: its end is about to be seen.
            Ok(()) | Err(ChannelError::Closed) => Ok(true),
            Err(ChannelError::NotReady) => Ok(false),
            Err(error) => Err(End::Service { service: kind.name(), cause: error.to_string() }),
        }
    }
}
