//! Tracing of system calls, as the debug plane asks for it.
//!
//! A [`Session`] is what one client wants: a filter, and either a bounded buffer of events or counters. While there is no session a
//! system call costs one relaxed load ([`Tracer::is_on`]). With one, calls that pass the filter are decoded where they are made: what
//! the guest hands in when the call begins, what it gets when the call returns.
//!
//! - `session`: one client's wish and what has been gathered for it
//! - `filter`: which calls it is about
//! - `counts`: counters by call and by process
//! - `signatures`: what the arguments of each call are (`signatures.txt`, a page to read)
//! - `decode`, `structures`, `names`: from registers and guest memory to text
//!
//! **Invariants.** Nothing here changes the guest, but that its memory is read as a handler would. What is gathered for a client that does
//! not fetch it is bounded; what does not fit is counted. No lock of a session is held while guest memory is read.

mod counts;
mod decode;
mod filter;
mod names;
mod session;
mod signatures;
mod structures;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bulkhead_ipc::Errno;
use parking_lot::RwLock;

pub use counts::{CallCount, Counts, ProcessCount};
pub(crate) use decode::errno_name;
pub use filter::{BadFilter, CallSet, Filter};
pub(crate) use names::{resources, signal_name};
pub use session::{Batch, Event, Handle, Session, What};
pub(crate) use structures::open_flags;

use crate::{
    abi::{Arguments, SysResult},
    executor,
    memory::AddressSpace,
    signal::SignalInfo,
    syscalls::table,
    task::Thread,
};
use decode::Decoder;

/// Sessions at a time.
const MOST_SESSIONS: usize = 16;
/// How long the end of the container waits until clients have what was gathered for them.
const LAST_WORDS: u64 = 1_000_000_000;
/// How often it looks meanwhile.
const LOOK: u64 = 5_000_000;

/// All sessions.
#[derive(Default)]
pub struct Tracer {
    on: AtomicBool,
    sessions: RwLock<Vec<Arc<Session>>>,
}

/// A call that has begun and that somebody wants to hear of.
pub(crate) struct Begun {
    number: u64,
    arguments: Arguments,
    /// Who wants it, with what the guest handed in.
    wanted: Vec<(Arc<Session>, Vec<Option<String>>)>,
}

impl Tracer {
    /// Whether anybody traces. To be asked before anything else here: the one thing that is done for every call.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Begins a session, which ends with the handle. `None`: there are too many.
    pub fn open(self: &Arc<Self>, session: Session) -> Option<Handle> {
        let session = Arc::new(session);
        let mut sessions = self.sessions.write();
        if sessions.len() >= MOST_SESSIONS {
            return None;
        }
        sessions.push(session.clone());
        self.on.store(true, Ordering::Relaxed);
        drop(sessions);
        Some(Handle::new(self.clone(), session))
    }

    fn close(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions.write();
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        self.on.store(!sessions.is_empty(), Ordering::Relaxed);
    }

    /// A system call begins.
    #[cold]
    pub(crate) fn begin(&self, thread: &Thread, number: u64, arguments: &Arguments) -> Option<Box<Begun>> {
        let (pid, tid) = (thread.process.pid, thread.tid());
        let wants = |session: &&Arc<Session>| session.filter.begins(pid, tid, number);
        let sessions: Vec<Arc<Session>> = self.sessions.read().iter().filter(wants).cloned().collect();
        if sessions.is_empty() {
            return None;
        }
        let memory = thread.memory();
        let wanted = sessions.into_iter().map(|session| {
            let handed_in = session.text_limit().map(|limit| Decoder::new(&memory, limit).handed_in(number, arguments));
            (session, handed_in.unwrap_or_default())
        });
        Some(Box::new(Begun { number, arguments: *arguments, wanted: wanted.collect() }))
    }

    /// It returned. `start` and `end` are executor time.
    #[cold]
    pub(crate) fn returned(&self, thread: &Thread, begun: Begun, result: SysResult, start: u64, end: u64) {
        let Begun { number, arguments, wanted } = begun;
        let (pid, tid, duration) = (thread.process.pid, thread.tid(), end.saturating_sub(start));
        for (session, handed_in) in wanted {
            if !session.filter.ends(result.err(), duration) {
                continue;
            }
            let describe = |limit| call(&thread.memory(), limit, number, &arguments, handed_in, result, duration);
            let what = session.text_limit().map(describe);
            match what {
                Some(what) => session.push(Event { time: start, pid, tid, name: name(thread), what }),
                None => session.count(pid, number, result, duration),
            }
        }
    }

    /// A thread takes a signal that does something.
    #[cold]
    pub(crate) fn signalled(&self, thread: &Thread, info: &SignalInfo) {
        let origin = structures::siginfo(info);
        self.tell(thread, || What::Signal { name: signal_name(info.signal), origin: origin.clone() });
    }

    /// A thread ends; `status` is its process's wait status if that ends too.
    #[cold]
    pub(crate) fn ended(&self, thread: &Thread, status: Option<i32>) {
        self.tell(thread, || What::End { status });
    }

    fn tell(&self, thread: &Thread, what: impl Fn() -> What) {
        let (pid, tid) = (thread.process.pid, thread.tid());
        for session in self.sessions.read().iter().filter(|session| session.filter.is_about_other_events(pid, tid)) {
            session.push(Event { time: executor::now(), pid, tid, name: name(thread), what: what() });
        }
    }

    /// A process has a child: whoever follows the one follows the other.
    #[cold]
    pub(crate) fn forked(&self, parent: i32, child: i32) {
        for session in self.sessions.read().iter() {
            session.filter.follow(parent, child);
        }
    }

    /// The container ends: lets clients have the rest.
    pub(crate) async fn finish(&self) {
        if !self.is_on() {
            return;
        }
        self.sessions.read().iter().for_each(|session| session.finish());
        let deadline = executor::now().saturating_add(LAST_WORDS);
        while self.is_on() && executor::now() < deadline {
            executor::sleep_until(executor::now().saturating_add(LOOK)).await;
        }
    }
}

fn name(thread: &Thread) -> Vec<u8> {
    thread.name.lock().clone()
}

fn call(
    memory: &AddressSpace,
    limit: usize,
    number: u64,
    arguments: &Arguments,
    handed_in: Vec<Option<String>>,
    result: SysResult,
    duration: u64,
) -> What {
    let decoder = Decoder::new(memory, limit);
    What::Call {
        number,
        name: table::name(number),
        arguments: decoder.complete(number, arguments, handed_in, result),
        returned: decode::returned(number, result),
        result: result.unwrap_or_else(Errno::to_return) as i64,
        errno: result.err(),
        duration,
    }
}
