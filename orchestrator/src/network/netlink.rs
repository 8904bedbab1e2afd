//! Requests to the host's kernel about the network namespace that this process is in (rtnetlink(7)).

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A connection to the kernel's tables.
pub struct Tables {
    socket: Socket,
    sequence: u32,
}

impl Tables {
    /// Of the namespace that the process is in now.
    pub fn open() -> io::Result<Tables> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Tables { socket, sequence: 0 })
    }

    /// Everything that a request for a whole table (`RTM_GET…`) gives.
    pub fn dump(&mut self, request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(request, NLM_F_DUMP)?;
        let mut found = Vec::new();
        loop {
            let (packet, _) = self.socket.recv_from_full()?;
            for message in messages(&packet) {
                match message?.payload {
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(entry) => found.push(entry),
                    _ => {}
                }
            }
        }
    }

    /// Makes a change (`RTM_DEL…`).
    pub fn change(&mut self, request: RouteNetlinkMessage) -> io::Result<()> {
        self.send(request, NLM_F_ACK)?;
        self.acknowledged()
    }

    /// Enters something (`RTM_NEW…`) that may be there.
    pub fn enter(&mut self, request: RouteNetlinkMessage) -> io::Result<()> {
        self.send(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)?;
        self.acknowledged()
    }

    fn acknowledged(&mut self) -> io::Result<()> {
        let (packet, _) = self.socket.recv_from_full()?;
        for message in messages(&packet) {
            if let NetlinkPayload::Error(error) = message?.payload
                && error.code.is_some()
            {
                return Err(error.to_io());
            }
        }
        Ok(())
    }

    fn send(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut packet = vec![0; message.buffer_len()];
        message.serialize(&mut packet);
        self.socket.send(&packet, 0).map(|_| ())
    }
}

/// The messages of a packet.
fn messages(packet: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> {
    const ALIGNMENT: usize = 4;
    let mut rest = packet;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::deserialize(rest).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        let length = message.as_ref().map_or(rest.len(), |message| (message.header.length as usize).max(1));
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some(message)
    })
}
