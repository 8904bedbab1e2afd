//! The control channel of a service that runs.
#![forbid(unsafe_code)]

use super::ServiceError;
use crate::{
    channel::{Channel, ChannelError},
    setup::{Order, Report},
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

/// Bytes of an order at most: one to execute a program has its arguments and environment.
const MAX_BYTES: usize = crate::channel::MAX_MESSAGE;
/// Fds with an order at most: those of a program to execute.
const MAX_FDS: usize = 1024;

/// The channel to the supervisor. Clones are the same channel; several threads may report, one receives.
#[derive(Clone, Debug)]
pub struct Control {
    channel: Arc<Channel>,
}

impl Control {
    pub(super) fn new(channel: Arc<Channel>) -> Control {
        Control { channel }
    }

    /// Waits for the supervisor's next order and the fds that come with it. `None` when the supervisor has gone, which ends the
    /// service.
    pub fn next_order(&self) -> Result<Option<(Order, Vec<OwnedFd>)>, ServiceError> {
        let mut message = Vec::new();
        match self.channel.receive_bounded(&mut message, MAX_BYTES, MAX_FDS) {
            Ok(fds) => Ok(Some((Order::decode(&message)?, fds))),
            Err(ChannelError::Closed) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the supervisor has gone. For services that take no orders: one that comes is an error.
    pub fn wait_until_closed(&self) -> super::Result<()> {
        match self.next_order()? {
            None => Ok(()),
            Some(_) => Err(Box::new(ServiceError::Control(ChannelError::Nonsense("an order to a service that takes none")))),
        }
    }

    /// Tells the supervisor something.
    pub fn report(&self, report: &Report) -> Result<(), ServiceError> {
        report_on(&self.channel, report)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

pub(super) fn report_on(channel: &Channel, report: &Report) -> Result<(), ServiceError> {
    let mut message = Vec::new();
    report.encode(&mut message);
    Ok(channel.send(&message, &[])?)
}
