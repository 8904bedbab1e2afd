//! What one client wants, and what was gathered for it and not fetched yet.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{Counts, Filter, Tracer};
use crate::{
    abi::SysResult,
    executor::{self, Readiness, WaitQueue},
};

/// Bytes of text that wait for a client at most, whatever number of events it allows.
const MOST_BYTES: usize = 8 << 20;
/// Bytes of text that are handed over at a time: well below what gRPC clients take as one message.
const BATCH_BYTES: usize = 512 << 10;

/// Something that happened in a thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When it began, executor time.
    pub time: u64,
    /// The process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// The thread's name.
    pub name: Vec<u8>,
    /// What.
    pub what: What,
}

/// See [`Event`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A system call was made and has returned.
    Call {
        /// As in rax.
        number: u64,
        /// Its name; empty if it has none.
        name: &'static str,
        /// As C would have them.
        arguments: Vec<String>,
        /// What it returned, as a person reads it.
        returned: String,
        /// What was in rax.
        result: i64,
        /// How it failed, if it did.
        errno: Option<Errno>,
        /// From the trap to the return, in nanoseconds.
        duration: u64,
    },
    /// A signal was taken.
    Signal {
        /// SIGCHLD.
        name: String,
        /// Where it came from: siginfo as C would have it.
        origin: String,
    },
    /// The thread ended.
    End {
        /// The wait status of its process, if that ended with it.
        status: Option<i32>,
    },
}

impl Event {
    /// Bytes of text in it.
    fn size(&self) -> usize {
        let text = match &self.what {
            What::Call { arguments, returned, .. } => arguments.iter().map(String::len).sum::<usize>() + returned.len(),
            What::Signal { name, origin } => name.len() + origin.len(),
            What::End { .. } => 0,
        };
        size_of::<Event>() + self.name.len() + text
    }
}

/// Events for a client.
#[derive(Default, Debug)]
pub struct Batch {
    /// In the order in which they ended.
    pub events: Vec<Event>,
    /// How many came after these and before the next batch and did not fit.
    pub lost: u64,
}

#[derive(Default)]
struct Buffer {
    events: VecDeque<Event>,
    bytes: usize,
    lost: u64,
}

enum Sink {
    Events { buffer: Mutex<Buffer>, most: usize, text_limit: usize },
    Counts(Mutex<Counts>),
}

/// See the module.
pub struct Session {
    pub(super) filter: Filter,
    sink: Sink,
    /// The container has ended: nothing more will come.
    finished: AtomicBool,
    news: Arc<WaitQueue>,
}

impl Session {
    /// Gathers events: at most `most` of them wait to be fetched, and strings and arrays are cut to `text_limit` bytes.
    pub fn events(filter: Filter, most: usize, text_limit: usize) -> Session {
        Session::new(filter, Sink::Events { buffer: Mutex::default(), most, text_limit })
    }

    /// Counts calls.
    pub fn counts(filter: Filter) -> Session {
        Session::new(filter, Sink::Counts(Mutex::default()))
    }

    fn new(filter: Filter, sink: Sink) -> Session {
        Session { filter, sink, finished: AtomicBool::new(false), news: Arc::new(WaitQueue::new()) }
    }

    /// How long strings are at most, for a session that wants any.
    pub(super) fn text_limit(&self) -> Option<usize> {
        match self.sink {
            Sink::Events { text_limit, .. } => Some(text_limit),
            Sink::Counts(_) => None,
        }
    }

    pub(super) fn push(&self, event: Event) {
        let Sink::Events { buffer, most, .. } = &self.sink else { return };
        let size = event.size();
        let mut buffer = buffer.lock();
        // What is lost is lost until the client fetches, so that there is one gap and not many.
        if buffer.lost > 0 || buffer.events.len() >= *most || buffer.bytes + size > MOST_BYTES {
            buffer.lost += 1;
            return;
        }
        buffer.bytes += size;
        buffer.events.push_back(event);
        drop(buffer);
        self.news.wake(Readiness::IN);
    }

    pub(super) fn count(&self, pid: i32, number: u64, result: SysResult, duration: u64) {
        if let Sink::Counts(counts) = &self.sink {
            counts.lock().add(pid, number, result.is_err(), duration);
        }
    }

    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.news.wake(Readiness::IN);
    }

    /// Whether the container has ended.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Waits until the container has ended.
    pub async fn finished(&self) {
        executor::wait_for(&self.news, Readiness::IN, || self.is_finished().then_some(())).await
    }

    /// What was counted since this was asked last.
    pub fn take_counts(&self) -> Counts {
        match &self.sink {
            Sink::Counts(counts) => std::mem::take(&mut counts.lock()),
            Sink::Events { .. } => Counts::default(),
        }
    }

    /// Waits for events. `None`: the container has ended, and there are none left.
    pub async fn batch(&self) -> Option<Batch> {
        let Sink::Events { buffer, .. } = &self.sink else { return None };
        executor::wait_for(&self.news, Readiness::IN, || {
            // In this order: what came before the end is seen.
            let finished = self.is_finished();
            let batch = take(&mut buffer.lock());
            (batch.is_some() || finished).then_some(batch)
        })
        .await
    }
}

fn take(buffer: &mut Buffer) -> Option<Batch> {
    let mut batch = Batch::default();
    let mut bytes = 0;
    while bytes < BATCH_BYTES
        && let Some(event) = buffer.events.pop_front()
    {
        bytes += event.size();
        batch.events.push(event);
    }
    buffer.bytes = buffer.bytes.saturating_sub(bytes);
    if buffer.events.is_empty() {
        batch.lost = std::mem::take(&mut buffer.lost);
    }
    (!batch.events.is_empty() || batch.lost > 0).then_some(batch)
}

/// Keeps a session; it ends with this.
pub struct Handle {
    tracer: Arc<Tracer>,
    session: Arc<Session>,
}

impl Handle {
    pub(super) fn new(tracer: Arc<Tracer>, session: Arc<Session>) -> Handle {
        Handle { tracer, session }
    }

    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tracer.close(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: u64, text: &str) -> Event {
        let what = What::Signal { name: text.to_owned(), origin: String::new() };
        Event { time, pid: 1, tid: 1, name: Vec::new(), what }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_after_what_did() {
        let session = Session::events(Filter::default(), 3, 32);
        (0..5).for_each(|time| session.push(event(time, "x")));
        let batch = executor::Executor::block_on(session.batch()).expect("there is one");
        assert_eq!(batch.events.iter().map(|event| event.time).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(batch.lost, 2);
        session.push(event(5, "x"));
        let batch = executor::Executor::block_on(session.batch()).expect("there is one");
        assert_eq!((batch.events.len(), batch.lost), (1, 0));
        session.finish();
        assert!(executor::Executor::block_on(session.batch()).is_none());
    }

    #[test]
    fn text_is_bounded_by_its_size_too_and_comes_in_pieces() {
        let session = Session::events(Filter::default(), usize::MAX, 32);
        let long = "x".repeat(BATCH_BYTES / 2);
        (0..100).for_each(|time| session.push(event(time, &long)));
        let (mut got, mut lost) = (0, 0);
        while lost == 0 {
            let batch = executor::Executor::block_on(session.batch()).expect("there is one");
            assert!(batch.events.len() <= 2);
            (got, lost) = (got + batch.events.len() as u64, lost + batch.lost);
        }
        assert!(got <= (MOST_BYTES / long.len()) as u64 && got + lost == 100, "{got} and {lost}");
    }
}
