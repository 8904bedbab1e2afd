//! A packet socket of the host (packet(7)), with a virtio-net header in front of each frame.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recvmsg, sendmsg},
};

use crate::{
    Frame,
    link::offload::{HEADER_LENGTH, Received},
};

/// The longest frame: what a segmented packet may have, and Ethernet's header.
const LONGEST: usize = (64 << 10) + 64;

/// Frames of one link at a time.
pub struct Link {
    socket: OwnedFd,
}

/// Where a frame is put that came in.
pub struct Buffer(Box<[u8]>);

impl Default for Buffer {
    fn default() -> Self {
        Buffer(vec![0; HEADER_LENGTH + LONGEST].into())
    }
}

impl Link {
    /// Of a socket that was handed over; it does not block.
    pub fn new(socket: OwnedFd) -> Link {
        Link { socket }
    }

    /// The next frame that came in, and what is known of it; `None` when there is none.
    pub fn receive<'a>(&self, buffer: &'a mut Buffer) -> Option<(&'a [u8], Received)> {
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer.0)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            let length = match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, None, flags) {
                Ok(message) => message.bytes,
                Err(Errno::EINTR) => continue,
                // ENETDOWN is told once and is over when the interface is up.
                Err(_) => return None,
            };
            let whole = length <= buffer.0.len();
            if whole && let Some(received) = Received::decode(&buffer.0[..length]) {
                return Some((&buffer.0[HEADER_LENGTH..length], received));
            }
        }
    }

    /// Sends a frame. One that the link has no room for is lost, as on any link.
    pub fn send(&self, frame: &Frame) -> bool {
        let header = frame.offload.encode();
        let parts = [IoSlice::new(&header), IoSlice::new(frame.packet.as_ref())];
        loop {
            match sendmsg::<()>(self.socket.as_raw_fd(), &parts, &[], MsgFlags::MSG_DONTWAIT, None) {
                Ok(_) => return true,
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::debug!(%error, "a frame that was not sent");
                    return false;
                }
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
