//! Messages in, messages out.

use bulkhead_ipc::{
    channel::ChannelError,
    service::{Control, Result, ServiceError},
    setup::{NetstackSetup, Order, Report},
};

/// The running service.
#[derive(Debug)]
pub struct Server {
    _setup: NetstackSetup,
}

impl Server {
    /// Takes its set-up.
    pub fn new(setup: NetstackSetup) -> Server {
        Server { _setup: setup }
    }

    /// Serves until the supervisor has gone.
    pub fn run(self, control: &Control) -> Result<()> {
        while let Some((order, _fds)) = control.next_order()? {
            match order {
                Order::Network(network) => {
                    tracing::info!(?network, "the network");
                    control.report(&Report::Connected)?;
                }
                _ => return Err(Box::new(ServiceError::Control(ChannelError::Nonsense("an order to another service")))),
            }
        }
        Ok(())
    }
}
