//! The table of sockets: who is there, what each waits for, and what has happened to it.

use super::{Event, Handle, Readiness, options::Common};
use crate::{
    error::{Error, Result},
    raw, tcp,
    time::Instant,
    udp,
};
use std::collections::{BTreeSet, VecDeque};

/// What kind of socket it is.
#[derive(Debug)]
pub(crate) enum Body {
    Stream(Box<tcp::Socket>),
    /// A connection that a SYN has asked for.
    Request(Box<tcp::Request>),
    TimeWait(Box<tcp::TimeWait>),
    Datagram(Box<udp::Socket>),
    Raw(Box<raw::Socket>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub common: Common,
    pub body: Body,
    /// Its user has closed it, or never knew it.
    pub orphan: bool,
    deadline: Option<Instant>,
    queued: bool,
    edges: Readiness,
    /// In the list of events.
    listed: bool,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

#[derive(Debug)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    limit: usize,
    count: usize,
    deadlines: BTreeSet<(Instant, Handle)>,
    /// Sockets that may have something to send.
    output: VecDeque<Handle>,
    events: VecDeque<Handle>,
}

impl Table {
    pub(crate) fn new(limit: usize) -> Table {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
            limit,
            count: 0,
            deadlines: BTreeSet::new(),
            output: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn insert(&mut self, common: Common, body: Body, orphan: bool) -> Result<Handle> {
        if self.count >= self.limit {
            return Err(Error::NoBuffers);
        }
        let entry = Entry { common, body, orphan, deadline: None, queued: false, edges: Readiness::empty(), listed: false };
        self.count += 1;
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.entry = Some(entry);
            return Ok(Handle { index, generation: slot.generation });
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, entry: Some(entry) });
        Ok(Handle { index, generation: 0 })
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<Entry> {
        let slot = self.slots.get_mut(handle.index as usize).filter(|slot| slot.generation == handle.generation)?;
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(handle.index);
        self.count -= 1;
        if let Some(at) = entry.deadline {
            self.deadlines.remove(&(at, handle));
        }
        Some(entry)
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&Entry> {
        self.slots.get(handle.index as usize).filter(|slot| slot.generation == handle.generation)?.entry.as_ref()
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut Entry> {
        self.slots.get_mut(handle.index as usize).filter(|slot| slot.generation == handle.generation)?.entry.as_mut()
    }

    /// A user's socket.
    pub(crate) fn user(&self, handle: Handle) -> Result<&Entry> {
        self.get(handle).filter(|entry| !entry.orphan).ok_or(Error::BadHandle)
    }

    pub(crate) fn user_mut(&mut self, handle: Handle) -> Result<&mut Entry> {
        self.get_mut(handle).filter(|entry| !entry.orphan).ok_or(Error::BadHandle)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Handle, &Entry)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let entry = slot.entry.as_ref()?;
            Some((Handle { index: index as u32, generation: slot.generation }, entry))
        })
    }

    /// Sets when a socket wants to be looked at by itself.
    pub(crate) fn set_deadline(&mut self, handle: Handle, deadline: Option<Instant>) {
        let Some(entry) = self.get_mut(handle) else { return };
        let old = std::mem::replace(&mut entry.deadline, deadline);
        if old != deadline {
            if let Some(old) = old {
                self.deadlines.remove(&(old, handle));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, handle));
            }
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// A socket whose time has come.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Handle> {
        let &(at, handle) = self.deadlines.first().filter(|(at, _)| *at <= now)?;
        self.deadlines.remove(&(at, handle));
        if let Some(entry) = self.get_mut(handle) {
            entry.deadline = None;
        }
        Some(handle)
    }

    /// A socket may have something to send.
    pub(crate) fn queue_output(&mut self, handle: Handle) {
        if let Some(entry) = self.get_mut(handle)
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.output.push_back(handle);
        }
    }

    pub(crate) fn next_output(&mut self) -> Option<Handle> {
        while let Some(handle) = self.output.pop_front() {
            if let Some(entry) = self.get_mut(handle) {
                entry.queued = false;
                return Some(handle);
            }
        }
        None
    }

    /// Something came that a waiter may want to know.
    pub(crate) fn notify(&mut self, handle: Handle, edges: Readiness) {
        let Some(entry) = self.get_mut(handle) else { return };
        if entry.orphan || edges.is_empty() {
            return;
        }
        entry.edges |= edges;
        if !std::mem::replace(&mut entry.listed, true) {
            self.events.push_back(handle);
        }
    }

    pub(crate) fn next_event(&mut self, readiness: impl Fn(&Entry) -> Readiness) -> Option<Event> {
        while let Some(socket) = self.events.pop_front() {
            if let Some(entry) = self.get_mut(socket) {
                entry.listed = false;
                let edges = std::mem::take(&mut entry.edges);
                if !entry.orphan {
                    return Some(Event { socket, readiness: readiness(entry), edges });
                }
            }
        }
        None
    }
}
