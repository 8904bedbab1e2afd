//! What commands ask of a supervisor: one JSON message each way over `control.sock`, or over the channel that the supervisor was
//! started with.

use std::path::Path;

use bulkhead_ipc::channel::{Channel, ChannelError};
use serde::{Deserialize, Serialize};

use super::listeners;
use crate::error::{Error, Result};

/// A request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Run the program.
    Start,
    /// Send a signal to the container's first process, or to all.
    Signal {
        /// Its number.
        signal: i32,
        /// To all processes.
        all: bool,
    },
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is done. The first answer on a supervisor's first channel says that the container is created.
    Done,
    /// It is not, and why.
    Refused(String),
    /// It is not, because a service ended or gave up, and the sandbox with it.
    Failed(String),
}

/// Bytes of a request or answer at most.
const MAX_BYTES: usize = 32 << 10;

/// Receives a request.
pub fn receive(channel: &Channel) -> std::result::Result<Request, ChannelError> {
    let mut message = Vec::new();
    channel.receive_bounded(&mut message, MAX_BYTES, 0)?;
    serde_json::from_slice(&message).map_err(|_| ChannelError::Nonsense("not a request"))
}

/// Answers; a command that has gone away meanwhile does not mind.
pub fn answer(channel: &Channel, answer: &Answer) {
    if let Ok(message) = serde_json::to_vec(answer) {
        let _ = channel.send(&message, &[]);
    }
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
    why.chars().take(MAX_BYTES / 8).collect()
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

    pub(super) fn created(&self) -> Result<()> {
        self.wait()
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
        let _ = self.send(&Request::Signal { signal, all: false });
    }

    fn ask(&self, request: &Request) -> Result<()> {
        self.send(request)?;
        self.wait()
    }

    fn send(&self, request: &Request) -> Result<()> {
        let message = serde_json::to_vec(request).map_err(Error::ipc("ask the supervisor"))?;
        self.channel.send(&message, &[]).map_err(|e| match e {
            ChannelError::Closed => Error::SupervisorGone,
            other => Error::ipc("ask the supervisor")(other),
        })
    }

    fn wait(&self) -> Result<()> {
        let mut message = Vec::new();
        match self.channel.receive_bounded(&mut message, MAX_BYTES, 0) {
            Ok(_) => {}
            Err(ChannelError::Closed) => return Err(Error::SupervisorGone),
            Err(other) => return Err(Error::ipc("hear from the supervisor")(other)),
        }
        match serde_json::from_slice(&message).map_err(Error::ipc("understand the supervisor"))? {
            Answer::Done => Ok(()),
            Answer::Refused(why) => Err(Error::Refused(why)),
            Answer::Failed(why) => Err(Error::SandboxFailed(why)),
        }
    }
}
