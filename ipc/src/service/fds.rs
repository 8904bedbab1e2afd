//! The fds that came with a set-up, taken in order.
#![forbid(unsafe_code)]

use super::ServiceError;
use crate::net::readiness::{self, Board};
use crate::rpc::{Client, ClientEnd, Server, ServerEnd};
use std::{collections::VecDeque, os::fd::OwnedFd};

/// The fds of a role that were not taken yet. What is left when it is dropped is closed.
#[derive(Debug, Default)]
pub struct Fds(VecDeque<OwnedFd>);

impl Fds {
    pub(super) fn new(fds: Vec<OwnedFd>) -> Fds {
        Fds(fds.into())
    }

    /// The next fd, which is to be `what`.
    pub fn take(&mut self, what: &'static str) -> Result<OwnedFd, ServiceError> {
        self.0.pop_front().ok_or(ServiceError::MissingFd(what))
    }

    /// The next `count` connections on which this service calls another, mapped.
    pub fn clients(&mut self, count: usize) -> Result<Vec<Client>, ServiceError> {
        let mut next = || self.take("a connection");
        (0..count).map(|_| Ok(Client::new(ClientEnd { socket: next()?, ring: next()? })?)).collect()
    }

    /// The next `count` connections on which this service is called, mapped.
    pub fn servers(&mut self, count: usize) -> Result<Vec<Server>, ServiceError> {
        let mut next = || self.take("a connection");
        (0..count).map(|_| Ok(Server::new(ServerEnd { socket: next()?, ring: next()? })?)).collect()
    }

    /// The memory and the eventfd in which netstack says what its sockets are ready for, mapped.
    pub fn readiness(&mut self) -> Result<Board, ServiceError> {
        let mut next = || self.take("what sockets are ready for");
        Ok(Board::map(readiness::Fds { memory: next()?, event: next()? })?)
    }

    /// All that are left.
    pub fn rest(self) -> Vec<OwnedFd> {
        self.0.into()
    }

    /// There must be none left.
    pub fn finish(self) -> Result<(), ServiceError> {
        if self.0.is_empty() { Ok(()) } else { Err(ServiceError::SurplusFds(self.0.len())) }
    }
}
