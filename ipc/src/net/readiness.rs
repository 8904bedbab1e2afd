//! What netstack's sockets are ready for, in memory that it shares with the sentry: a word for each socket, a bit for each socket that
//! something happened to, and an eventfd that is written when somebody is to look at the bits.
//!
//! The sentry looks at the bits after each of its own requests as well, so that what a request brings about (on loopback, all) needs no
//! wake-up. Any value of any word is as good as another to it: at worst it asks in vain.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use bitflags::bitflags;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{
    Errno,
    mapping::{self, Access, Memory},
    rpc::RpcError,
};

/// Sockets at most.
pub const SLOTS: u32 = 1 << 16;
/// Words of 64 bits with the bits.
const BIT_WORDS: usize = SLOTS as usize / 64;
/// Words of 64 bits that say which of those are not zero.
const SUMMARY_WORDS: usize = BIT_WORDS / 64;
/// Where the sockets' words begin, in words of 32 bits.
const STATES: usize = 2 * (SUMMARY_WORDS + BIT_WORDS);
/// Where the words begin that say how many bytes each stream would take.
const ROOMS: usize = STATES + SLOTS as usize;
const BYTES: usize = 4 * (ROOMS + SLOTS as usize);
/// Where the edges are in a socket's word.
const EDGES: u32 = 16;

bitflags! {
    /// What a socket is ready for; the bits of poll(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Ready: u32 {
        /// POLLIN.
        const IN = 0x1;
        /// POLLPRI.
        const PRI = 0x2;
        /// POLLOUT.
        const OUT = 0x4;
        /// POLLERR.
        const ERR = 0x8;
        /// POLLHUP.
        const HUP = 0x10;
        /// POLLRDHUP.
        const RDHUP = 0x2000;
    }
}

/// The fds of both ends: the memory, and the eventfd.
#[derive(Debug)]
pub struct Fds {
    /// The memory file.
    pub memory: OwnedFd,
    /// The eventfd.
    pub event: OwnedFd,
}

impl Fds {
    /// Makes them (by the supervisor).
    pub fn new() -> Result<Fds, RpcError> {
        let memory = mapping::create(c"readiness", BYTES).map_err(host)?;
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let event = event.map_err(|errno| host(("make an eventfd", errno.into())))?;
        Ok(Fds { memory, event: event.into() })
    }
}

/// An end in use.
pub struct Board {
    memory: Memory,
    event: OwnedFd,
}

impl Board {
    /// Maps the memory.
    pub fn map(fds: Fds) -> Result<Board, RpcError> {
        let memory = Memory::map(fds.memory.as_fd(), BYTES, Access::ReadWrite).map_err(host)?;
        Ok(Board { memory, event: fds.event })
    }

    fn summary(&self) -> &[AtomicU64] {
        &self.memory.words()[..SUMMARY_WORDS]
    }

    fn bits(&self) -> &[AtomicU64] {
        &self.memory.words()[SUMMARY_WORDS..SUMMARY_WORDS + BIT_WORDS]
    }

    fn state(&self, slot: u32) -> Option<&AtomicU32> {
        self.memory.words32()[STATES..ROOMS].get(slot as usize)
    }

    /// By netstack: how many bytes a stream would take now.
    pub fn set_room(&self, slot: u32, bytes: usize) {
        if let Some(room) = self.memory.words32()[ROOMS..].get(slot as usize) {
            room.store(u32::try_from(bytes).unwrap_or(u32::MAX), Release);
        }
    }

    /// By the sentry: the same.
    pub fn room(&self, slot: u32) -> usize {
        self.memory.words32()[ROOMS..].get(slot as usize).map_or(0, |room| room.load(Acquire) as usize)
    }

    /// By netstack: the state of a new socket, to which nothing has happened yet.
    pub fn reset(&self, slot: u32, ready: Ready) {
        if let Some(state) = self.state(slot) {
            state.store(pack(ready, Ready::empty()), Release);
        }
    }

    /// By netstack: what a request has left a socket ready for, which is no news to the sentry.
    pub fn update(&self, slot: u32, ready: Ready) {
        if let Some(state) = self.state(slot) {
            let _ = state.fetch_update(AcqRel, Relaxed, |word| Some(pack(ready, unpack(word >> EDGES))));
        }
    }

    /// By netstack: what a socket is ready for now, and what came anew.
    pub fn publish(&self, slot: u32, ready: Ready, edges: Ready) {
        let Some(state) = self.state(slot) else { return };
        let _ = state.fetch_update(AcqRel, Relaxed, |word| Some(pack(ready, edges | unpack(word >> EDGES))));
        let index = slot as usize / 64;
        self.bits()[index].fetch_or(1 << (slot % 64), AcqRel);
        self.summary()[index / 64].fetch_or(1 << (index % 64), AcqRel);
    }

    /// By netstack: has the sentry look.
    pub fn ring(&self) {
        // It is non-blocking; when it cannot take more it is readable all the same.
        let _ = nix::unistd::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// By the sentry: what a socket is ready for.
    pub fn ready(&self, slot: u32) -> Ready {
        self.state(slot).map_or(Ready::empty(), |state| unpack(state.load(Acquire)))
    }

    /// By the sentry: whether something has happened.
    pub fn has_news(&self) -> bool {
        self.summary().iter().any(|word| word.load(Relaxed) != 0)
    }

    /// By the sentry: calls `tell` with each socket that something has happened to, and what came anew.
    pub fn take_news(&self, mut tell: impl FnMut(u32, Ready)) {
        for (group, summary) in self.summary().iter().enumerate() {
            for index in ones(take(summary)).map(|bit| group * 64 + bit as usize) {
                for slot in ones(take(&self.bits()[index])).map(|bit| index as u32 * 64 + bit) {
                    let word = self.state(slot).map_or(0, |state| state.fetch_and(u32::MAX >> EDGES, AcqRel));
                    tell(slot, unpack(word >> EDGES));
                }
            }
        }
    }

    /// By the sentry: takes the eventfd's count, so that it is readable again only when netstack rings again.
    pub fn silence(&self) {
        let mut count = [0; 8];
        let _ = nix::unistd::read(&self.event, &mut count);
    }
}

impl AsFd for Board {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

fn take(word: &AtomicU64) -> u64 {
    // Most are zero, and a load leaves the cache line with both.
    if word.load(Relaxed) == 0 { 0 } else { word.swap(0, AcqRel) }
}

fn ones(word: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| word & 1 << bit != 0)
}

/// In a half-word, POLLRDHUP's bit is in its place as the others are.
fn pack(ready: Ready, edges: Ready) -> u32 {
    ready.bits() & (u32::MAX >> EDGES) | edges.bits() << EDGES
}

fn unpack(word: u32) -> Ready {
    Ready::from_bits_truncate(word & (u32::MAX >> EDGES))
}

fn host((doing, errno): (&'static str, Errno)) -> RpcError {
    RpcError::Host(doing, errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (Board, Board) {
        let fds = Fds::new().expect("memory can be made");
        let other = Fds {
            memory: fds.memory.try_clone().expect("an fd can be duplicated"),
            event: fds.event.try_clone().expect("an fd can be duplicated"),
        };
        (Board::map(fds).expect("it can be mapped"), Board::map(other).expect("it can be mapped"))
    }

    fn news(board: &Board) -> Vec<(u32, Ready)> {
        let mut all = Vec::new();
        board.take_news(|slot, edges| all.push((slot, edges)));
        all
    }

    #[test]
    fn what_is_published_is_seen_once() {
        let (netstack, sentry) = ends();
        assert!(!sentry.has_news());
        netstack.publish(70, Ready::IN | Ready::OUT, Ready::IN);
        netstack.publish(70, Ready::OUT, Ready::RDHUP);
        netstack.publish(SLOTS - 1, Ready::ERR, Ready::ERR);
        assert!(sentry.has_news());
        assert_eq!(news(&sentry), [(70, Ready::IN | Ready::RDHUP), (SLOTS - 1, Ready::ERR)]);
        assert_eq!((news(&sentry), sentry.has_news()), (vec![], false));
        assert_eq!((sentry.ready(70), sentry.ready(SLOTS - 1), sentry.ready(1)), (Ready::OUT, Ready::ERR, Ready::empty()));
    }

    #[test]
    fn a_new_socket_has_no_past() {
        let (netstack, sentry) = ends();
        netstack.publish(3, Ready::HUP, Ready::HUP);
        netstack.reset(3, Ready::OUT);
        assert_eq!((sentry.ready(3), news(&sentry)), (Ready::OUT, vec![(3, Ready::empty())]));
    }

    #[test]
    fn slots_that_are_none_do_no_harm() {
        let (netstack, sentry) = ends();
        netstack.publish(SLOTS, Ready::IN, Ready::IN);
        assert_eq!((sentry.ready(u32::MAX), sentry.has_news()), (Ready::empty(), false));
    }

    #[test]
    fn the_bell_is_silent_until_it_is_rung_again() {
        let (netstack, sentry) = ends();
        netstack.ring();
        netstack.ring();
        let mut count = [0; 8];
        assert!(nix::unistd::read(&sentry.event, &mut count).is_ok());
        sentry.silence();
        assert!(nix::unistd::read(&sentry.event, &mut count).is_err());
    }
}
