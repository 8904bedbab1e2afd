//! What can be asked of interfaces and sockets.

use super::Stack;
use crate::{
    error::Result,
    link::{InterfaceConfig, InterfaceId},
    socket::{Handle, options::Common},
};

impl Stack {
    /// All interfaces: number, what it was made from, and whether it is up.
    pub fn interfaces(&self) -> impl Iterator<Item = (InterfaceId, &InterfaceConfig, bool)> {
        self.network.interfaces.iter().map(|interface| (interface.id, &interface.config, interface.up))
    }

    /// The options that every socket has.
    pub(crate) fn options(&self, socket: Handle) -> Result<&Common> {
        Ok(&self.sockets.user(socket)?.common)
    }
}
