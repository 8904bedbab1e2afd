//! `trace`: the system calls of a container's programs, from outside.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Context, events::parse_duration, parse_id};
use crate::{
    clock,
    error::{Error, Result},
    inspect::{
        Inspection, Interrupt, failure,
        paint::{self, Ink, Paint, Table},
        proto::sentry::{
            CallStats, Event, SyscallStatsRequest, SyscallStatsResponse, TraceSyscallsRequest, TraceSyscallsResponse, event::What,
        },
        run as ask,
    },
};

/// Arguments of `trace`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Only these processes or threads, by their numbers in the container
    #[arg(long = "pid", short, value_name = "PID,...", value_delimiter = ',')]
    pids: Vec<i32>,
    /// With --pid: also the children that they make from now on
    #[arg(long, short)]
    follow: bool,
    /// Only these calls: names, numbers, or %file %desc %memory %process %signal %network %time; with ! before each: all others
    #[arg(long = "calls", short = 'e', value_name = "CALL,...", value_delimiter = ',')]
    calls: Vec<String>,
    /// Only calls that fail with one of these errors, such as ENOENT
    #[arg(long = "errno", value_name = "ERRNO,...", value_delimiter = ',')]
    errnos: Vec<String>,
    /// Only calls that fail
    #[arg(long, short = 'Z')]
    failed: bool,
    /// Only calls that take so long at least, such as 10ms
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    slower: Option<Duration>,
    /// Bytes of strings that are shown (4096 at most); paths are shown whole
    #[arg(long = "string", short, value_name = "BYTES", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    string: u32,
    /// Events that may wait to be shown before some are lost (16384 at most)
    #[arg(long, value_name = "EVENTS", default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..=16384))]
    buffer: u32,
    /// Show when each call began
    #[arg(long, short)]
    time: bool,
    /// Count calls, and print a table at the end
    #[arg(long, short = 'c', conflicts_with_all = ["errnos", "failed", "slower", "time"])]
    summary: bool,
    /// Write to a file instead of the standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Form of the output; json is an object a line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// What output looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Traces until the container ends or the user has had enough.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let id = parse_id(&arguments.id)?;
    let inspection = Inspection::of(&context.store, &id)?;
    let (output, paint): (Box<dyn Write>, Paint) = match &arguments.output {
        Some(path) => (Box::new(File::create(path).map_err(Error::file("open", path))?), Paint::PLAIN),
        None => (Box::new(io::stdout()), Paint::of_stdout()),
    };
    let output = BufWriter::new(output);
    ask(async {
        let interrupt = Interrupt::new()?;
        let stopped = || context.store.load(&id).is_ok_and(|state| state.status() != crate::state::Status::Stopped);
        if arguments.summary {
            summarize(&inspection, arguments, &interrupt, output, paint, stopped).await
        } else {
            follow(&inspection, arguments, &interrupt, output, paint, stopped).await
        }
    })
}

/// Shows calls as they come. `runs` tells whether the container still runs.
async fn follow(
    inspection: &Inspection,
    arguments: &Arguments,
    interrupt: &Interrupt,
    mut output: impl Write,
    paint: Paint,
    runs: impl Fn() -> bool,
) -> Result<i32> {
    let request = TraceSyscallsRequest {
        pids: arguments.pids.clone(),
        follow: arguments.follow,
        calls: arguments.calls.clone(),
        errnos: arguments.errnos.clone(),
        failed: arguments.failed,
        slower_than_microseconds: arguments.slower.map_or(0, |least| least.as_micros() as u64),
        string_bytes: arguments.string,
        buffered_events: arguments.buffer,
    };
    let mut sentry = inspection.sentry().await?;
    let mut stream = sentry.trace_syscalls(request).await.map_err(failure("sentry"))?.into_inner();
    loop {
        let message = tokio::select! {
            () = interrupt.happened() => return Ok(0),
            message = stream.message() => message,
        };
        let written = match message {
            Ok(Some(message)) => show(&message, arguments, &mut output, paint),
            Ok(None) => return Ok(0),
            // The container has ended, and the sentry with it.
            Err(_) if !settled(&runs).await => return Ok(0),
            Err(status) => return Err(failure("sentry")(status)),
        };
        match written {
            Ok(()) => {}
            // Whoever read it has gone.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => return Err(Error::host("write the trace")(error)),
        }
    }
}

/// Whether the container still runs, when its end has had time to be seen.
async fn settled(runs: impl Fn() -> bool) -> bool {
    for _ in 0..20 {
        if !runs() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

fn show(message: &TraceSyscallsResponse, arguments: &Arguments, output: &mut impl Write, paint: Paint) -> io::Result<()> {
    for event in &message.events {
        if arguments.format == Format::Json {
            serde_json::to_writer(&mut *output, event)?;
            writeln!(output)?;
        } else {
            writeln!(output, "{}", line(event, arguments.time, paint))?;
        }
    }
    if message.lost > 0 {
        if arguments.format == Format::Json {
            writeln!(output, "{}", json!({ "lost": message.lost }))?;
        } else {
            let words = format!("+++ {} events lost here: they came faster than they could be shown +++", message.lost);
            writeln!(output, "{}", paint.ink(Ink::Notable, &words))?;
        }
    }
    output.flush()
}

/// `[pid 7 sh] openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3 <0.000123>`
fn line(event: &Event, time: bool, paint: Paint) -> String {
    let name = paint::clean(&event.name);
    let who =
        if event.tid == event.pid { format!("[{} {name}]", event.pid) } else { format!("[{}/{} {name}]", event.pid, event.tid) };
    let mut text = String::new();
    if time {
        text = paint.ink(Ink::Faint, &clock::of_day(event.time)) + " ";
    }
    text += &paint.ink(Ink::Faint, &who);
    text.push(' ');
    match &event.what {
        Some(What::Syscall(call)) => {
            let name = if call.call.is_empty() { format!("syscall_{}", call.number) } else { paint::clean(&call.call) };
            let arguments: Vec<String> = call.arguments.iter().map(|argument| paint::clean(argument)).collect();
            let returned = paint::clean(&call.returned);
            let returned = if call.errno.is_empty() { returned } else { paint.ink(Ink::Bad, &returned) };
            let seconds = call.duration_nanoseconds as f64 / 1e9;
            let duration = paint.ink(Ink::Faint, &format!("<{seconds:.6}>"));
            text + &format!("{}({}) = {returned} {duration}", paint.ink(Ink::Name, &name), arguments.join(", "))
        }
        Some(What::Signal(signal)) => {
            let words = format!("--- {} {} ---", paint::clean(&signal.signal), paint::clean(&signal.origin));
            text + &paint.ink(Ink::Notable, &words)
        }
        Some(What::Ended(ended)) => {
            let words = match (ended.process, ended.signal.as_str()) {
                (false, _) => "+++ thread ended +++".to_owned(),
                (true, "") => format!("+++ exited with {} +++", ended.exit_status),
                (true, signal) => format!("+++ killed by {} +++", paint::clean(signal)),
            };
            text + &paint.ink(Ink::Notable, &words)
        }
        None => text + "(an event of a kind that this version does not know)",
    }
}

/// Counts calls, and shows the counts at the end.
async fn summarize(
    inspection: &Inspection,
    arguments: &Arguments,
    interrupt: &Interrupt,
    mut output: impl Write,
    paint: Paint,
    runs: impl Fn() -> bool,
) -> Result<i32> {
    let request = SyscallStatsRequest {
        pids: arguments.pids.clone(),
        follow: arguments.follow,
        calls: arguments.calls.clone(),
        interval_milliseconds: 100,
        reports: 0,
    };
    let mut sentry = inspection.sentry().await?;
    let mut stream = sentry.syscall_stats(request).await.map_err(failure("sentry"))?.into_inner();
    let mut totals = Totals::default();
    loop {
        let message = tokio::select! {
            () = interrupt.happened() => break,
            message = stream.message() => message,
        };
        match message {
            Ok(Some(report)) => totals.add(report),
            Ok(None) => break,
            Err(_) if !settled(&runs).await => break,
            Err(status) => return Err(failure("sentry")(status)),
        }
    }
    let text = match arguments.format {
        Format::Json => serde_json::to_string(&totals.sorted()).unwrap_or_default() + "\n",
        Format::Text => summary(&totals.sorted(), paint),
    };
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Error::host("write the summary"))?;
    Ok(0)
}

#[derive(Default)]
struct Totals(BTreeMap<String, CallStats>);

impl Totals {
    fn add(&mut self, report: SyscallStatsResponse) {
        for call in report.calls {
            let total = self.0.entry(call.call.clone()).or_insert_with(|| CallStats { call: call.call, ..CallStats::default() });
            total.calls = total.calls.saturating_add(call.calls);
            total.errors = total.errors.saturating_add(call.errors);
            total.total_nanoseconds = total.total_nanoseconds.saturating_add(call.total_nanoseconds);
            total.longest_nanoseconds = total.longest_nanoseconds.max(call.longest_nanoseconds);
        }
    }

    fn sorted(self) -> Vec<CallStats> {
        let mut calls: Vec<_> = self.0.into_values().collect();
        calls.sort_by_key(|call| std::cmp::Reverse(call.total_nanoseconds));
        calls
    }
}

/// The table of counts, those that took most time first.
pub fn summary(calls: &[CallStats], paint: Paint) -> String {
    let all: u64 = calls.iter().fold(0, |sum, call| sum.saturating_add(call.total_nanoseconds));
    let mut table = Table::new(&[">% TIME", ">TIME", ">MEAN", ">LONGEST", ">CALLS", ">ERRORS", "CALL"]);
    for call in calls {
        let share = call.total_nanoseconds as f64 * 100.0 / all.max(1) as f64;
        let mean = call.total_nanoseconds / call.calls.max(1);
        table.row([
            format!("{share:.1}"),
            paint::duration(call.total_nanoseconds),
            paint::duration(mean),
            paint::duration(call.longest_nanoseconds),
            call.calls.to_string(),
            if call.errors == 0 { String::new() } else { call.errors.to_string() },
            if call.call.is_empty() { "(unknown)".to_owned() } else { call.call.clone() },
        ]);
        table.ink(5, Ink::Bad);
        table.ink(6, Ink::Name);
    }
    table.render(paint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::proto::sentry::{Ended, Syscall};

    fn event(what: What) -> Event {
        Event { time: 0, pid: 7, tid: 8, name: "s\x1bh".into(), what: Some(what) }
    }

    #[test]
    fn a_call_is_a_line_that_cannot_drive_a_terminal() {
        let call = Syscall {
            number: 257,
            call: "openat".into(),
            arguments: vec!["AT_FDCWD".into(), "\"/x\x1b[2J\"".into()],
            returned: "-1 ENOENT (No such file or directory)".into(),
            result: -2,
            errno: "ENOENT".into(),
            duration_nanoseconds: 123_400,
        };
        let event = event(What::Syscall(call));
        let expected = "[7/8 s\\u{1b}h] openat(AT_FDCWD, \"/x\\u{1b}[2J\") = -1 ENOENT (No such file or directory) <0.000123>";
        assert_eq!(line(&event, false, Paint::PLAIN), expected);
        let coloured = line(&event, false, Paint::COLOUR);
        assert!(coloured.contains("\x1b[36mopenat\x1b[0m(") && coloured.contains("\x1b[31m-1 ENOENT"), "{coloured}");
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!((&json["pid"], &json["syscall"]["call"]), (&7.into(), &"openat".into()), "{json}");
    }

    #[test]
    fn ends_say_how() {
        let ended = |process, exit_status, signal: &str| {
            line(&event(What::Ended(Ended { process, exit_status, signal: signal.into() })), false, Paint::PLAIN)
        };
        assert!(ended(true, 3, "").ends_with("+++ exited with 3 +++"));
        assert!(ended(true, 0, "SIGKILL").ends_with("+++ killed by SIGKILL +++"));
        assert!(ended(false, 0, "").ends_with("+++ thread ended +++"));
    }
}
