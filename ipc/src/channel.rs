//! The control plane's transport: messages with fds over a Unix SEQPACKET socket.
//!
//! A message may be larger than a packet, and carry more fds than a packet can: it travels as several packets, each of which
//! says how many fds it brings and whether more follow. Everything received is an allegation: a packet that was cut off, that
//! brings other fds than it says, or that makes the message larger than the bounds is an error, and whatever fds came with it
//! are closed. This is the only module that knows `uds`.

use crate::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};
use uds::UnixSeqpacketConn;

/// Bytes of one message at most.
pub const MAX_MESSAGE: usize = 8 << 20;
/// Fds with one message at most.
pub const MAX_FDS: usize = 4096;

/// Bytes of a packet's body at most: a packet has to fit into the socket's buffer (`net.core.wmem_default`, 208 KiB).
const PACKET_BODY: usize = 64 << 10;
/// Fds in a packet at most (the host's SCM_MAX_FD is 253).
const PACKET_FDS: usize = 128;
const HEADER: usize = 8;
/// How long the rest of a message may keep a channel waiting that does not wait for its beginning.
const PATIENCE: Duration = Duration::from_secs(5);
/// First byte of every packet; another one means that the other side is not ours or of another version.
const MAGIC: u8 = 0xb1;
const MORE: u8 = 1;

/// One end of a connection. Dropping it closes it.
#[derive(Debug)]
pub struct Channel {
    socket: UnixSeqpacketConn,
}

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side is gone.
    #[error("the other side has closed the channel")]
    Closed,
    /// Nothing to receive, or no room to send, on a channel that does not wait.
    #[error("the channel is not ready")]
    NotReady,
    /// It sent something that is no message.
    #[error("the other side sent nonsense: {0}")]
    Nonsense(&'static str),
    /// More bytes or fds than a message may have.
    #[error("a message of {bytes} bytes and {fds} fds is too large")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// Its fds.
        fds: usize,
    },
    /// The message is lost, because this process may not have the fds that came with it. The channel is as good as before.
    #[error("this process has too many open files to take those that were sent")]
    OutOfFiles,
    /// A host call failed.
    #[error("cannot {0}: {1}")]
    Host(&'static str, Errno),
}

impl Channel {
    /// Two connected ends.
    pub fn pair() -> Result<(Channel, Channel), ChannelError> {
        let (a, b) = UnixSeqpacketConn::pair().map_err(|e| host("make a socket pair", e))?;
        Ok((Channel { socket: a }, Channel { socket: b }))
    }

    /// Takes over a socket; anything but a connected SEQPACKET socket is refused.
    pub fn from_fd(fd: OwnedFd) -> Result<Channel, ChannelError> {
        use nix::sys::socket::{SockType, getsockopt, sockopt};
        match getsockopt(&fd, sockopt::SockType) {
            Ok(SockType::SeqPacket) => {}
            Ok(_) => return Err(ChannelError::Nonsense("the fd is not a SEQPACKET socket")),
            Err(e) => return Err(ChannelError::Host("tell the type of a socket", e.into())),
        }
        // SAFETY: the number comes straight from an owner that has let go of it.
        Ok(Channel { socket: unsafe { UnixSeqpacketConn::from_raw_fd(fd.into_raw_fd()) } })
    }

    /// The socket itself, to hand it over or to poll it elsewhere.
    pub fn into_fd(self) -> OwnedFd {
        // SAFETY: the number comes straight from an owner that has let go of it.
        unsafe { OwnedFd::from_raw_fd(self.socket.into_raw_fd()) }
    }

    /// Whether `send` and `receive` wait (the default) or answer [`ChannelError::NotReady`]. A message that has begun is
    /// finished in any case, or is an error after five seconds.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), ChannelError> {
        self.socket.set_nonblocking(nonblocking).map_err(|e| host("set up a channel", e))
    }

    /// Sends a message. The other side gets duplicates of `fds`.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        if message.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
            return Err(ChannelError::TooLarge { bytes: message.len(), fds: fds.len() });
        }
        let (mut bytes, mut fds) = (message, fds);
        let mut begun = None;
        let mut packet = Vec::with_capacity(HEADER + bytes.len().min(PACKET_BODY));
        loop {
            let (body, later_bytes) = bytes.split_at(bytes.len().min(PACKET_BODY));
            let (attached, later_fds) = fds.split_at(fds.len().min(PACKET_FDS));
            let more = !later_bytes.is_empty() || !later_fds.is_empty();
            packet.clear();
            packet.extend_from_slice(&[MAGIC, if more { MORE } else { 0 }]);
            packet.extend_from_slice(&(attached.len() as u16).to_le_bytes());
            packet.extend_from_slice(&(body.len() as u32).to_le_bytes());
            packet.extend_from_slice(body);
            let raw: Vec<_> = attached.iter().map(|fd| fd.as_raw_fd()).collect();
            let sent = loop {
                match self.socket.send_fds(&packet, &raw).map_err(|e| host("send a message", e)) {
                    Err(ChannelError::NotReady) => self.go_on(begun, PollFlags::POLLOUT)?,
                    outcome => break outcome?,
                }
            };
            if sent != packet.len() {
                return Err(ChannelError::Nonsense("a packet was sent in part"));
            }
            if !more {
                return Ok(());
            }
            (bytes, fds) = (later_bytes, later_fds);
            begun.get_or_insert_with(Instant::now);
        }
    }

    /// Receives a message, which replaces what is in `message`, and its fds (close-on-exec).
    pub fn receive(&self, message: &mut Vec<u8>) -> Result<Vec<OwnedFd>, ChannelError> {
        self.receive_bounded(message, MAX_MESSAGE, MAX_FDS)
    }

    /// As [`Channel::receive`], with tighter bounds.
    pub fn receive_bounded(&self, message: &mut Vec<u8>, max_bytes: usize, max_fds: usize) -> Result<Vec<OwnedFd>, ChannelError> {
        message.clear();
        let mut fds = Vec::new();
        let mut begun = None;
        let mut packet = vec![0; HEADER + max_bytes.min(PACKET_BODY)];
        loop {
            let more = match self.receive_packet(&mut packet, message, &mut fds) {
                Err(ChannelError::NotReady) => {
                    self.go_on(begun, PollFlags::POLLIN)?;
                    continue;
                }
                outcome => outcome?,
            };
            begun.get_or_insert_with(Instant::now);
            if message.len() > max_bytes || fds.len() > max_fds {
                return Err(ChannelError::TooLarge { bytes: message.len(), fds: fds.len() });
            }
            if !more {
                return Ok(fds);
            }
        }
    }

    /// Waits, on a channel that does not, in the middle of a message that began at `begun`. Before the beginning: NotReady.
    fn go_on(&self, begun: Option<Instant>, events: PollFlags) -> Result<(), ChannelError> {
        let left = begun.ok_or(ChannelError::NotReady)?.elapsed();
        let left = PATIENCE.checked_sub(left).ok_or(ChannelError::Nonsense("the rest of a message did not come or go"))?;
        let mut entry = [PollFd::new(self.as_fd(), events)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut entry, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(ChannelError::Host("wait for a channel", error.into())),
        }
    }

    /// One packet: appends its body and fds, and tells whether more follow. The fds are owned before anything is checked, so
    /// that every way out closes them.
    fn receive_packet(&self, packet: &mut [u8], message: &mut Vec<u8>, fds: &mut Vec<OwnedFd>) -> Result<bool, ChannelError> {
        // One more than may come, so that a surplus is seen instead of cut off.
        let mut received: [RawFd; PACKET_FDS + 1] = [-1; PACKET_FDS + 1];
        let (length, truncated, count) = self.socket.recv_fds(packet, &mut received).map_err(|e| host("receive a message", e))?;
        let before = fds.len();
        // SAFETY: the host has just put these `count` fds into our table, and nobody else knows of them.
        fds.extend(received.iter().take(count).map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        if length == 0 && count == 0 {
            return Err(ChannelError::Closed);
        }
        if truncated || length < HEADER {
            return Err(ChannelError::Nonsense("a packet was cut off"));
        }
        let (header, body) = packet[..length].split_at(HEADER);
        let [magic, flags, fds_low, fds_high, a, b, c, d] = *header else {
            return Err(ChannelError::Nonsense("a packet without a header"));
        };
        if magic != MAGIC || flags & !MORE != 0 {
            return Err(ChannelError::Nonsense("a packet with a strange header"));
        }
        if u32::from_le_bytes([a, b, c, d]) as usize != body.len() {
            return Err(ChannelError::Nonsense("a packet whose length is not what it says"));
        }
        let announced = usize::from(u16::from_le_bytes([fds_low, fds_high]));
        // The host drops those that this process has no room for. (Who announces more than it sends gains nothing by it.)
        if fds.len() - before < announced && announced <= PACKET_FDS {
            return Err(ChannelError::OutOfFiles);
        }
        if announced != fds.len() - before {
            return Err(ChannelError::Nonsense("a packet with other fds than it says"));
        }
        let more = flags & MORE != 0;
        if more && body.is_empty() && fds.len() == before {
            return Err(ChannelError::Nonsense("an empty packet that is to be continued"));
        }
        message.extend_from_slice(body);
        Ok(more)
    }

    /// Whether the other side has closed its end. Does not wait, and leaves what there is to receive.
    pub fn is_closed(&self) -> bool {
        let mut poll_fds = [PollFd::new(self.as_fd(), PollFlags::empty())];
        match poll(&mut poll_fds, PollTimeout::ZERO) {
            Ok(n) if n > 0 => {
                poll_fds[0].revents().is_none_or(|r| r.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL))
            }
            _ => false,
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket stays open as long as `self` lives, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

fn host(doing: &'static str, error: std::io::Error) -> ChannelError {
    match error.raw_os_error() {
        Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN) => ChannelError::Closed,
        Some(libc::EAGAIN) => ChannelError::NotReady,
        _ => ChannelError::Host(doing, error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_large_message_with_many_fds_arrives_whole() {
        let (a, b) = Channel::pair().unwrap();
        let message: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let null = std::fs::File::open("/dev/null").unwrap();
        let expected = message.clone();
        let sender = std::thread::spawn(move || a.send(&message, &vec![null.as_fd(); 300]).map(|()| a));
        let mut received = Vec::new();
        let fds = b.receive(&mut received).unwrap();
        sender.join().unwrap().unwrap();
        assert_eq!((received, fds.len()), (expected, 300));
    }

    #[test]
    fn a_message_that_has_begun_is_finished_on_channels_that_do_not_wait() {
        let (a, b) = Channel::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        assert!(matches!(b.receive(&mut Vec::new()), Err(ChannelError::NotReady)));
        // More than the socket's buffer holds.
        let message = vec![7; 3 << 20];
        let expected = message.clone();
        let sender = std::thread::spawn(move || a.send(&message, &[]).map(|()| a));
        while !matches!(poll(&mut [PollFd::new(b.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE), Ok(1)) {}
        let mut received = Vec::new();
        b.receive(&mut received).unwrap();
        sender.join().unwrap().unwrap();
        assert!(received == expected);
    }

    #[test]
    fn a_received_fd_works_and_is_close_on_exec() {
        let (a, b) = Channel::pair().unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        a.send(b"take this", &[write.as_fd()]).unwrap();
        drop(write);
        let mut message = Vec::new();
        let mut fds = b.receive(&mut message).unwrap();
        let flags = nix::fcntl::fcntl(&fds[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        std::fs::File::from(fds.remove(0)).write_all(b"through").unwrap();
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_peer_that_has_gone_is_reported_as_closed() {
        let (a, b) = Channel::pair().unwrap();
        assert!(!b.is_closed());
        drop(a);
        assert!(b.is_closed());
        assert!(matches!(b.receive(&mut Vec::new()), Err(ChannelError::Closed)));
        assert!(matches!(b.send(b"hello", &[]), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_malformed_packet_is_refused_and_its_fds_are_closed() {
        let packets: [(&[u8], usize); 5] = [
            (b"x", 1),
            (&[0, 0, 0, 0, 0, 0, 0, 0], 2),
            (&[MAGIC, 0, 1, 0, 0, 0, 0, 0], 2),
            (&[MAGIC, 0, 0, 0, 9, 0, 0, 0, 1], 0),
            (&[MAGIC, MORE, 0, 0, 0, 0, 0, 0], 0),
        ];
        for (packet, count) in packets {
            let (a, b) = Channel::pair().unwrap();
            let (read, write) = nix::unistd::pipe().unwrap();
            a.socket.send_fds(packet, &vec![write.as_raw_fd(); count]).unwrap();
            drop(write);
            assert!(matches!(b.receive(&mut Vec::new()), Err(ChannelError::Nonsense(_))), "{packet:?}");
            // It ends only when nobody has the writing end any more.
            assert_eq!(std::fs::File::from(read).read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn fewer_fds_than_announced_mean_that_there_was_no_room_for_them() {
        let (a, b) = Channel::pair().unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        a.socket.send_fds(&[MAGIC, 0, 2, 0, 0, 0, 0, 0], &[write.as_raw_fd()]).unwrap();
        drop(write);
        assert!(matches!(b.receive(&mut Vec::new()), Err(ChannelError::OutOfFiles)));
        assert_eq!(std::fs::File::from(read).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn more_than_the_bound_is_refused() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&[0; 100], &[]).unwrap();
        assert!(b.receive_bounded(&mut Vec::new(), 99, 0).is_err());
    }
}
