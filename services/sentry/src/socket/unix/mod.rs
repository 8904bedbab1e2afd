//! AF_UNIX (unix(7)).
//!
//! A socket owns the queue of what it is to receive ([`inbox`]); who sends puts messages there and is charged for them
//! ([`account`]) until they are received. Names are found in [`names`], files on their way in [`rights`], where those are collected
//! that nobody can receive any more.
//!
//! Lock order: what is on its way ([`rights`]), a socket's link, an inbox. Two sockets' links, or two inboxes, are never locked at
//! once. Sockets that are connected hold each other, and [`UnixSocket::close`] lets go.

mod account;
mod connection;
mod inbox;
mod names;
mod receive;
mod rights;
mod send;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bulkhead_ipc::Errno;

use super::{Family, Socket};
use crate::task::Thread;
use names::World;
use socket::UnixSocket;

/// The family.
#[derive(Default)]
pub struct UnixFamily {
    world: Arc<World>,
}

/// The socket type that is made for the one asked for, of those there are.
fn checked(kind: i32, protocol: i32) -> Result<i32, Errno> {
    if protocol != 0 && protocol != libc::AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        libc::SOCK_STREAM | libc::SOCK_DGRAM | libc::SOCK_SEQPACKET => Ok(kind),
        // As BSD has it.
        libc::SOCK_RAW => Ok(libc::SOCK_DGRAM),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

impl Family for UnixFamily {
    fn domains(&self) -> &'static [i32] {
        &[libc::AF_UNIX]
    }

    fn socket(&self, thread: &Thread, _: i32, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>, Errno> {
        Ok(UnixSocket::new(&self.world, checked(kind, protocol)?, &thread.credentials()))
    }

    fn pair(&self, thread: &Thread, _: i32, kind: i32, protocol: i32) -> Result<[Arc<dyn Socket>; 2], Errno> {
        let [a, b] = UnixSocket::pair(&self.world, checked(kind, protocol)?, thread);
        Ok([a, b])
    }

    fn proc_files(&self) -> &'static [&'static str] {
        &["unix"]
    }

    fn proc_file(&self, _: &str) -> Vec<u8> {
        self.world.table()
    }
}
