//! The streams of `TraceSyscalls` and `SyscallStats`: from a request to a session of the tracer, and from what it gathers to messages.

use std::{
    cmp::Reverse,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bulkhead_ipc::debug::Keeper;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use super::proto::{
    CallStats, Ended, Event, ProcessStats, SignalTaken, Syscall, SyscallStatsRequest, SyscallStatsResponse, TraceSyscallsRequest,
    TraceSyscallsResponse, event,
};
use crate::{
    executor,
    kernel::Kernel,
    syscalls::table,
    trace::{self, BadFilter, CallSet, Counts, Filter, Handle, Session, What},
};

/// Events that wait for a client, unless it wants fewer.
const BUFFERED: u32 = 16 << 10;
/// Bytes of a string that are shown, unless the client wants another number.
const STRING: u32 = 32;
/// And at most.
const MOST_STRING: u32 = 4096;
/// After a message, how long events gather for the next: so often at most is this thread woken by workers.
const GATHER: Duration = Duration::from_millis(10);
/// Least time between two reports of counts.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// Messages for a client. The session ends with them; when the container has ended, with the connection, for the last of them is still
/// to be written out then.
pub struct Reports<T> {
    receiver: mpsc::Receiver<Result<T, Status>>,
    session: Option<Handle>,
    connection: Keeper,
}

impl<T> Drop for Reports<T> {
    fn drop(&mut self) {
        if let Some(handle) = self.session.take().filter(|handle| handle.session().is_finished()) {
            self.connection.keep(handle);
        }
    }
}

impl<T> Stream for Reports<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

/// Begins to trace.
pub(super) fn trace(
    kernel: &Kernel,
    connection: Keeper,
    request: &TraceSyscallsRequest,
) -> Result<Reports<TraceSyscallsResponse>, Status> {
    let filter = Filter::of(&request.pids, request.follow)
        .with_calls(CallSet::parse(&request.calls).map_err(bad)?)
        .with_errors(&request.errnos, request.failed)
        .map_err(bad)?
        .slower_than(request.slower_than_microseconds.saturating_mul(1000));
    let or = |value: u32, default: u32, most: u32| if value == 0 { default } else { value.min(most) };
    let buffered = or(request.buffered_events, BUFFERED, BUFFERED);
    let string = or(request.string_bytes, STRING, MOST_STRING);
    begin(kernel, connection, Session::events(filter, buffered as usize, string as usize), send_events)
}

/// Begins to count.
pub(super) fn stats(
    kernel: &Kernel,
    connection: Keeper,
    request: &SyscallStatsRequest,
) -> Result<Reports<SyscallStatsResponse>, Status> {
    let filter = Filter::of(&request.pids, request.follow).with_calls(CallSet::parse(&request.calls).map_err(bad)?);
    let interval = match request.interval_milliseconds {
        0 => Duration::from_secs(1),
        milliseconds => Duration::from_millis(milliseconds.into()).max(LEAST_INTERVAL),
    };
    let reports = request.reports;
    begin(kernel, connection, Session::counts(filter), move |session, sender| send_counts(session, sender, interval, reports))
}

fn bad(error: BadFilter) -> Status {
    Status::invalid_argument(error.to_string())
}

fn begin<T, F>(
    kernel: &Kernel,
    connection: Keeper,
    session: Session,
    send: impl FnOnce(Arc<Session>, mpsc::Sender<Result<T, Status>>) -> F,
) -> Result<Reports<T>, Status>
where
    F: Future<Output = ()> + Send + 'static,
{
    let too_many = || Status::resource_exhausted("too many clients trace this sandbox already");
    let handle = kernel.tracer.open(session).ok_or_else(too_many)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(send(handle.session().clone(), sender));
    Ok(Reports { receiver, session: Some(handle), connection })
}

async fn send_events(session: Arc<Session>, sender: mpsc::Sender<Result<TraceSyscallsResponse, Status>>) {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let boot = since_1970.saturating_sub(executor::now());
    let mut response = TraceSyscallsResponse::default();
    while sender.send(Ok(response)).await.is_ok() {
        if !session.is_finished() {
            tokio::time::sleep(GATHER).await;
        }
        let batch = tokio::select! {
            () = sender.closed() => return,
            batch = session.batch() => batch,
        };
        let Some(batch) = batch else { return };
        let events = batch.events.into_iter().map(|event| message(event, boot)).collect();
        response = TraceSyscallsResponse { events, lost: batch.lost };
    }
}

/// `boot` is what executor time counts from.
fn message(event: trace::Event, boot: u64) -> Event {
    let what = match event.what {
        What::Call { number, name, arguments, returned, result, errno, duration } => event::What::Syscall(Syscall {
            number,
            call: name.to_owned(),
            arguments,
            returned,
            result,
            errno: errno.map(trace::errno_name).unwrap_or_default(),
            duration_nanoseconds: duration,
        }),
        What::Signal { name, origin } => event::What::Signal(SignalTaken { signal: name, origin }),
        What::End { status } => event::What::Ended(ended(status)),
    };
    Event {
        time: boot.saturating_add(event.time),
        pid: event.pid,
        tid: event.tid,
        name: String::from_utf8_lossy(&event.name).into_owned(),
        what: Some(what),
    }
}

fn ended(status: Option<i32>) -> Ended {
    let Some(status) = status else { return Ended::default() };
    if libc::WIFSIGNALED(status) {
        return Ended { process: true, exit_status: 0, signal: trace::signal_name(libc::WTERMSIG(status)) };
    }
    Ended { process: true, exit_status: libc::WEXITSTATUS(status), signal: String::new() }
}

async fn send_counts(
    session: Arc<Session>,
    sender: mpsc::Sender<Result<SyscallStatsResponse, Status>>,
    interval: Duration,
    reports: u32,
) {
    let mut began = Instant::now();
    let mut sent = 0;
    while reports == 0 || sent < reports {
        tokio::select! {
            () = sender.closed() => return,
            () = session.finished() => {}
            () = tokio::time::sleep(interval) => {}
        }
        let finished = session.is_finished();
        let report = report(session.take_counts(), began.elapsed());
        began = Instant::now();
        if sender.send(Ok(report)).await.is_err() || finished {
            return;
        }
        sent += 1;
    }
}

fn report(counts: Counts, interval: Duration) -> SyscallStatsResponse {
    let mut calls: Vec<CallStats> = (counts.calls.into_iter())
        .map(|(number, count)| CallStats {
            call: table::name(number).to_owned(),
            calls: count.calls,
            errors: count.errors,
            total_nanoseconds: count.total,
            longest_nanoseconds: count.longest,
        })
        .collect();
    calls.sort_by_key(|call| Reverse(call.total_nanoseconds));
    let processes = counts.processes.into_iter();
    let processes = processes.map(|(pid, count)| ProcessStats { pid, calls: count.calls, errors: count.errors }).collect();
    SyscallStatsResponse { interval_microseconds: interval.as_micros() as u64, calls, processes }
}
