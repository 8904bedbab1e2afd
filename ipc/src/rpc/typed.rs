//! Requests and replies as types: what both ends of a connection do with the bytes.
#![forbid(unsafe_code)]

use super::{Client, RpcError, Server};
use crate::{DecodeError, Errno, affinity};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

/// A request of a protocol.
pub trait Question: Sized {
    /// What it is answered by.
    type Answer: Answer;
    /// Replaces `into` by its bytes.
    fn encode(&self, into: &mut Vec<u8>);
    /// Reads and checks it.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// A reply of a protocol.
pub trait Answer: Sized {
    /// The one that says that it cannot be.
    fn refusal(errno: Errno) -> Self;
    /// Replaces `into` by its bytes.
    fn encode(&self, into: &mut Vec<u8>);
    /// Reads and checks it.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// The caller's end of a connection, with what its messages are put into.
pub struct Asker {
    client: Client,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Answered<A> {
    /// The reply.
    pub reply: A,
    /// The fds that came with it.
    pub fds: Vec<OwnedFd>,
    /// There were some, but this process may not have them.
    pub fds_lost: bool,
}

impl Asker {
    /// Of a connection.
    pub fn new(client: Client) -> Asker {
        Asker { client, request: Vec::new(), reply: Vec::new() }
    }

    /// Sends a request and waits for the reply.
    pub fn ask<Q: Question>(&mut self, question: &Q) -> Result<Answered<Q::Answer>, RpcError> {
        question.encode(&mut self.request);
        let (fds, fds_lost) = match self.client.call(&self.request, &[], &mut self.reply) {
            Ok(fds) => (fds, false),
            Err(RpcError::OutOfFiles) => (Vec::new(), true),
            Err(error) => return Err(error),
        };
        Ok(Answered { reply: Q::Answer::decode(&self.reply)?, fds, fds_lost })
    }
}

impl Server {
    /// Answers until the other side is gone. What is no request is refused by its error. A reply may have an fd.
    pub fn serve<Q: Question, F: AsFd>(mut self, mut answer: impl FnMut(Q) -> (Q::Answer, Option<F>)) -> Result<(), RpcError> {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        loop {
            match self.receive(&mut request) {
                // No request carries an fd; one that comes all the same is closed here.
                Ok(_) => {}
                Err(RpcError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
            let (answered, fd) = match Q::decode(&request) {
                Ok(question) => answer(question),
                Err(error) => {
                    tracing::warn!(%error, "dropped a request");
                    (Q::Answer::refusal(error.errno()), None)
                }
            };
            answered.encode(&mut reply);
            let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
            self.reply(&reply, &fds)?;
        }
    }

    /// Starts a thread that stays on `cpu` and [serves](Server::serve). `service` and `asker` are names of the two ends.
    pub fn serve_on<Q: Question, F: AsFd>(
        self,
        cpu: u32,
        service: &str,
        asker: &'static str,
        answer: impl FnMut(Q) -> (Q::Answer, Option<F>) + Send + 'static,
    ) -> io::Result<()> {
        affinity::spawn_on(cpu, &format!("{service}/{cpu}"), move || {
            if let Err(error) = self.serve(answer) {
                tracing::error!(cpu, %error, "a connection to {asker} ended");
            }
        })
    }
}
