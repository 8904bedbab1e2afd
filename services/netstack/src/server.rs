//! From the set-up to the supervisor's going: what the stack is made with, and the supervisor's orders.

use bulkhead_ipc::{
    channel::ChannelError,
    service::{Control, Result, ServiceError},
    setup::{Order, Report},
};

use crate::{Config, random::Key, service::Driver};

/// Linux's defaults, and a secret of this stack's own.
pub fn config() -> Result<Config> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| format!("no random numbers: {error}"))?;
    let word = |at: usize| secret[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(Config::new(Key([word(0), word(8)])))
}

/// Carries out orders until the supervisor has gone.
pub fn obey(driver: &Driver, control: &Control) -> Result<()> {
    while let Some((order, fds)) = control.next_order()? {
        let Order::Network(network) = order else {
            return Err(Box::new(ServiceError::Control(ChannelError::Nonsense("an order to another service"))));
        };
        if fds.len() != network.interfaces.len() {
            return Err(Box::new(ServiceError::Control(ChannelError::Nonsense("not one socket for each interface"))));
        }
        driver.connect(&network, fds)?;
        control.report(&Report::Connected)?;
    }
    Ok(())
}
