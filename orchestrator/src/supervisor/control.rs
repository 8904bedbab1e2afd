//! What commands ask of a supervisor ([`bulkhead_ipc::command`]) over `control.sock`, or over the channel that the supervisor was
//! started with.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

pub use bulkhead_ipc::command::{Answer, Request};
use bulkhead_ipc::{
    channel::{Channel, ChannelError, MAX_MESSAGE},
    setup::Execution,
};

use super::listeners;
use crate::error::{Error, Result};

/// Bytes of an answer at most.
const MAX_ANSWER: usize = 32 << 10;
/// Fds that a program can be executed with at most.
pub const MAX_FDS: usize = 1024;

/// Receives a request and the fds that come with it.
pub fn receive(channel: &Channel) -> std::result::Result<(Request, Vec<OwnedFd>), ChannelError> {
    let mut message = Vec::new();
    let fds = channel.receive_bounded(&mut message, MAX_MESSAGE, MAX_FDS)?;
    let request = Request::decode(&message).map_err(|_| ChannelError::Nonsense("not a request"))?;
    Ok((request, fds))
}

/// Tells the command that ordered the container that it is created, and gives it the master of its terminal.
pub fn created(channel: &Channel, master: Option<&OwnedFd>) {
    let mut message = Vec::new();
    Answer::Done.encode(&mut message);
    let fds: Vec<_> = master.iter().map(|master| master.as_fd()).collect();
    let _ = channel.send(&message, &fds);
}

/// Answers; a command that has gone away meanwhile does not mind.
pub fn answer(channel: &Channel, answer: &Answer) {
    let mut message = Vec::new();
    answer.encode(&mut message);
    let _ = channel.send(&message, &[]);
}

/// Answers that it cannot be.
pub fn refuse(channel: &Channel, why: &str) {
    answer(channel, &Answer::Refused(shortened(why)));
}

/// Answers that the sandbox has failed.
pub fn fail(channel: &Channel, why: &str) {
    answer(channel, &Answer::Failed(shortened(why)));
}

fn shortened(why: &str) -> String {
    why.chars().take(MAX_ANSWER / 8).collect()
}

/// A supervisor as a command sees it.
#[derive(Debug)]
pub struct Supervisor {
    channel: Channel,
}

impl Supervisor {
    pub(super) fn new(channel: Channel) -> Supervisor {
        Supervisor { channel }
    }

    /// Connects to the supervisor of the container in that directory.
    pub fn connect(container: &Path) -> Result<Supervisor> {
        let fd = listeners::connect_for_control(container).map_err(|_| Error::SupervisorGone)?;
        let channel = Channel::from_fd(fd).map_err(Error::ipc("connect to the supervisor"))?;
        Ok(Supervisor { channel })
    }

    /// Waits until the container is created; the master of its terminal, if it has one.
    pub(super) fn created(&self) -> Result<Option<OwnedFd>> {
        match self.hear_with(1)? {
            (Answer::Done, mut fds) => Ok(fds.pop()),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Makes the container's process and finds its program.
    pub fn prepare(&self) -> Result<()> {
        self.ask(&Request::Prepare)
    }

    /// Runs the container's program.
    pub fn start(&self) -> Result<()> {
        self.ask(&Request::Start)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32, all: bool) -> Result<()> {
        self.ask(&Request::Signal { signal, all })
    }

    /// Sends a signal and does not wait for the answer: the container may end by it.
    pub fn forward(&self, signal: i32) {
        // A supervisor that has ended is seen by its parent anyway.
        let _ = self.send(&Request::Signal { signal, all: false }, &[]);
    }

    /// Sends a signal and does not wait until it is seen.
    pub fn order(&self, signal: i32, all: bool) -> Result<()> {
        self.send(&Request::Signal { signal, all }, &[])
    }

    /// Runs a further program, with these fds as 0, 1, 2 and so on. Returns its pid in the container.
    pub fn execute(&self, execution: Execution, fds: &[BorrowedFd<'_>]) -> Result<i32> {
        self.send(&Request::Execute(execution), fds)?;
        match self.hear()? {
            Answer::Executing(pid) => Ok(pid),
            other => Err(unexpected(other)),
        }
    }

    /// Sends a signal to the program that this connection has executed.
    pub fn forward_to_execution(&self, signal: i32) {
        // If it has ended, that is heard next.
        let _ = self.send(&Request::Forward(signal), &[]);
    }

    /// Says that a terminal's window may have another size now.
    pub fn window_changed(&self) {
        // As above.
        let _ = self.send(&Request::WindowChanged, &[]);
    }

    /// Waits for the end of that program; its exit status.
    pub fn execution_ended(&self) -> Result<i32> {
        match self.hear()? {
            Answer::Ended(status) => Ok(status),
            other => Err(unexpected(other)),
        }
    }

    /// Lets the container have so many threads at most. `paused`: the supervisor reads it when it goes on.
    pub fn limit_tasks(&self, limit: Option<u64>, paused: bool) -> Result<()> {
        self.send(&Request::LimitTasks(limit), &[])?;
        if paused { Ok(()) } else { self.wait() }
    }

    /// Shows the container so many bytes of memory. `paused`: as above.
    pub fn limit_memory(&self, bytes: u64, paused: bool) -> Result<()> {
        self.send(&Request::LimitMemory(bytes), &[])?;
        if paused { Ok(()) } else { self.wait() }
    }

    fn ask(&self, request: &Request) -> Result<()> {
        self.send(request, &[])?;
        self.wait()
    }

    fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut message = Vec::new();
        request.encode(&mut message);
        self.channel.send(&message, fds).map_err(|e| match e {
            ChannelError::Closed => Error::SupervisorGone,
            other => Error::ipc("ask the supervisor")(other),
        })
    }

    fn wait(&self) -> Result<()> {
        match self.hear()? {
            Answer::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn hear(&self) -> Result<Answer> {
        self.hear_with(0).map(|(answer, _)| answer)
    }

    /// The next answer, and at most so many fds that come with it.
    fn hear_with(&self, max_fds: usize) -> Result<(Answer, Vec<OwnedFd>)> {
        let mut message = Vec::new();
        match self.channel.receive_bounded(&mut message, MAX_ANSWER, max_fds) {
            Ok(fds) => Ok((Answer::decode(&message).map_err(Error::ipc("understand the supervisor"))?, fds)),
            Err(ChannelError::Closed) => Err(Error::SupervisorGone),
            Err(other) => Err(Error::ipc("hear from the supervisor")(other)),
        }
    }
}

impl AsFd for Supervisor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// An answer that is not the one hoped for.
fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Refused(why) => Error::Refused(why),
        Answer::Failed(why) => Error::SandboxFailed(why),
        Answer::Done | Answer::Executing(_) | Answer::Ended(_) => {
            Error::Host { doing: "understand the supervisor", why: "an answer out of turn".into() }
        }
    }
}
