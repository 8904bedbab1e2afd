//! What can be asked of interfaces and sockets.

use super::Stack;
use crate::{
    error::{Error, Result},
    link::{InterfaceConfig, InterfaceId},
    socket::{Handle, options::Common, table::Body},
    tcp::{Phase, options::StreamOptions},
};

impl Stack {
    /// All interfaces: number, what it was made from, and whether it is up.
    pub fn interfaces(&self) -> impl Iterator<Item = (InterfaceId, &InterfaceConfig, bool)> {
        self.network.interfaces.iter().map(|interface| (interface.id, &interface.config, interface.up))
    }

    /// How many bytes a stream would take now; 0 for every other socket.
    pub fn send_room(&self, socket: Handle) -> usize {
        match self.sockets.user(socket).map(|entry| &entry.body) {
            Ok(Body::Stream(stream)) => match &stream.phase {
                Phase::Open(connection) => connection.write_room(),
                Phase::Idle | Phase::Listening(_) => 0,
            },
            _ => 0,
        }
    }

    /// A stream's own options. ENOPROTOOPT for every other socket.
    pub(crate) fn stream_options(&self, socket: Handle) -> Result<&StreamOptions> {
        match &self.sockets.user(socket)?.body {
            Body::Stream(stream) => Ok(&stream.options),
            _ => Err(Error::NoProtocol),
        }
    }

    /// The options that every socket has.
    pub(crate) fn options(&self, socket: Handle) -> Result<&Common> {
        Ok(&self.sockets.user(socket)?.common)
    }
}
