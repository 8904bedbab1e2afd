//! `top`: what a sandbox's services and the container's processes use, again and again.

use std::{
    collections::HashMap,
    io::{IsTerminal, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;

use super::{
    Context,
    events::parse_duration,
    parse_id,
    trace::{Format, summary},
};
use crate::{
    error::{Error, Result},
    inspect::{
        Inspection, Interrupt, failure,
        paint::{self, Ink, Paint, Table},
        proto::{
            sentry::{ListTasksRequest, Process as Task, SyscallStatsRequest, SyscallStatsResponse},
            supervisor::{GetGraphRequest, GetGraphResponse},
        },
        run as ask,
    },
    state::Status,
};

/// Processes and calls that are shown where it is not said how many.
const ROWS: usize = 20;
const CALLS: usize = 8;

/// Arguments of `top`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Time from one look to the next, such as 500ms (100ms at least)
    #[arg(long, short = 'd', value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// Look so often and end; otherwise until Ctrl-C, or the container's end
    #[arg(long = "reports", short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    reports: Option<u32>,
    /// Form of the output; json is an object a line
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Shows it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    if arguments.interval < Duration::from_millis(100) || arguments.interval > Duration::from_secs(3600) {
        return Err(Error::Usage("the interval is from 100ms to 1h".into()));
    }
    let id = parse_id(&arguments.id)?;
    let inspection = Inspection::of(&context.store, &id)?;
    let runs = || context.store.load(&id).is_ok_and(|state| state.status() != Status::Stopped);
    ask(async {
        match watch(&inspection, arguments).await {
            // It ended while it was looked at.
            Err(Error::Plane { .. }) if !runs() => Ok(0),
            other => other,
        }
    })
}

async fn watch(inspection: &Inspection, arguments: &Arguments) -> Result<i32> {
    let interrupt = Interrupt::new()?;
    let (mut supervisor, mut sentry) = (inspection.supervisor().await?, inspection.sentry().await?);
    let mut before = Look {
        at: Instant::now(),
        graph: supervisor.get_graph(GetGraphRequest {}).await.map_err(failure("supervisor"))?.into_inner(),
        tasks: sentry.list_tasks(ListTasksRequest {}).await.map_err(failure("sentry"))?.into_inner().processes,
        calls: SyscallStatsResponse::default(),
    };
    let request = SyscallStatsRequest {
        interval_milliseconds: arguments.interval.as_millis() as u32,
        reports: arguments.reports.unwrap_or(0),
        ..SyscallStatsRequest::default()
    };
    let mut stream = sentry.syscall_stats(request).await.map_err(failure("sentry"))?.into_inner();
    let screen = arguments.format == Format::Text && std::io::stdout().is_terminal() && arguments.reports != Some(1);
    let paint = Paint::of_stdout();
    loop {
        let message = tokio::select! {
            () = interrupt.happened() => return Ok(0),
            message = stream.message() => message,
        };
        let Some(calls) = message.map_err(failure("sentry"))? else { return Ok(0) };
        let graph = supervisor.get_graph(GetGraphRequest {}).await.map_err(failure("supervisor"))?.into_inner();
        let tasks = sentry.list_tasks(ListTasksRequest {}).await.map_err(failure("sentry"))?.into_inner().processes;
        let now = Look { at: Instant::now(), graph, tasks, calls };
        let text = match arguments.format {
            Format::Json => now.json(&before).to_string() + "\n",
            Format::Text => now.text(&before, paint, screen.then(lines)),
        };
        let mut output = std::io::stdout().lock();
        // From the top, each line to its end, and nothing below: a screen that is cleared first flickers.
        let text = if screen { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
        match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => return Err(Error::host("write")(error)),
        }
        before = now;
    }
}

/// Lines of the terminal.
fn lines() -> usize {
    crate::host::window_size(std::io::stdout().as_fd()).map_or(50, |size| usize::from(size.ws_row.max(10)))
}

/// What there was at one time.
struct Look {
    at: Instant,
    graph: GetGraphResponse,
    tasks: Vec<Task>,
    /// Of the interval before.
    calls: SyscallStatsResponse,
}

/// Part of a CPU, in percent.
fn share(now: u64, before: u64, passed: Duration) -> f64 {
    now.saturating_sub(before) as f64 * 100.0 / (passed.as_micros() as f64).max(1.0)
}

fn cpu(task: &Task) -> u64 {
    task.user_microseconds.saturating_add(task.system_microseconds)
}

impl Look {
    /// Of each service, and of the stubs together: name, processes, share of a CPU, bytes, threads.
    fn services(&self, before: &Look) -> Vec<(String, usize, f64, u64, u32)> {
        let passed = self.at - before.at;
        let earlier: HashMap<i32, u64> = before.graph.processes.iter().map(|p| (p.pid, p.cpu_microseconds)).collect();
        let mut services: Vec<(String, usize, f64, u64, u32)> = Vec::new();
        for process in &self.graph.processes {
            let used = share(process.cpu_microseconds, earlier.get(&process.pid).copied().unwrap_or(0), passed);
            let known = services.iter().position(|(name, ..)| *name == process.name);
            let index = known.unwrap_or_else(|| {
                services.push((process.name.clone(), 0, 0.0, 0, 0));
                services.len() - 1
            });
            let (_, count, cpu, bytes, threads) = &mut services[index];
            *count += 1;
            *cpu += used;
            *bytes = bytes.saturating_add(process.resident_bytes);
            *threads = threads.saturating_add(process.threads);
        }
        services
    }

    /// The container's processes with their shares of a CPU and calls a second, the busiest first.
    fn tasks(&self, before: &Look) -> Vec<(&Task, f64, f64)> {
        let passed = self.at - before.at;
        let earlier: HashMap<i32, u64> = before.tasks.iter().map(|task| (task.pid, cpu(task))).collect();
        let seconds = (self.calls.interval_microseconds as f64 / 1e6).max(1e-6);
        let calls: HashMap<i32, u64> = self.calls.processes.iter().map(|process| (process.pid, process.calls)).collect();
        let mut tasks: Vec<_> = (self.tasks.iter())
            .map(|task| {
                let used = share(cpu(task), earlier.get(&task.pid).copied().unwrap_or(0), passed);
                (task, used, calls.get(&task.pid).copied().unwrap_or(0) as f64 / seconds)
            })
            .collect();
        tasks.sort_by(|(a, a_cpu, a_calls), (b, b_cpu, b_calls)| {
            b_cpu.total_cmp(a_cpu).then(b_calls.total_cmp(a_calls)).then(a.pid.cmp(&b.pid))
        });
        tasks
    }

    fn json(&self, before: &Look) -> serde_json::Value {
        let services = self.services(before).into_iter().map(|(name, processes, cpu, bytes, threads)| {
            json!({ "name": name, "processes": processes, "cpu_percent": cpu, "resident_bytes": bytes, "threads": threads })
        });
        let tasks = self
            .tasks(before)
            .into_iter()
            .map(|(task, cpu, calls)| json!({ "cpu_percent": cpu, "calls_per_second": calls, "process": task }));
        json!({
            "sandbox": self.graph.sandbox,
            "status": self.graph.status,
            "services": services.collect::<Vec<_>>(),
            "processes": tasks.collect::<Vec<_>>(),
            "calls": self.calls.calls,
            "interval_microseconds": self.calls.interval_microseconds,
        })
    }

    /// As text, in so many lines at most.
    fn text(&self, before: &Look, paint: Paint, lines: Option<usize>) -> String {
        let seconds = (self.calls.interval_microseconds as f64 / 1e6).max(1e-6);
        let calls: u64 = self.calls.calls.iter().fold(0, |sum, call| sum.saturating_add(call.calls));
        let threads: usize = self.tasks.iter().map(|task| task.threads.len()).sum();
        let mut text = format!(
            "{}  {}  {} processes, {threads} threads, {:.0} system calls a second\n\n",
            paint.ink(Ink::Title, &paint::clean(&self.graph.sandbox)),
            paint::clean(&self.graph.status),
            self.tasks.len(),
            calls as f64 / seconds,
        );
        let mut table = Table::new(&["SERVICE", ">%CPU", ">MEMORY", ">THREADS"]);
        for (name, count, cpu, bytes, threads) in self.services(before) {
            let name = if count > 1 { format!("{name} ×{count}") } else { name };
            table.row([name, format!("{cpu:.1}"), paint::bytes(bytes), threads.to_string()]);
            table.ink(0, Ink::Name);
        }
        text += &table.render(paint);
        let calls = &self.calls.calls[..self.calls.calls.len().min(CALLS)];
        // Titles and blank lines between take five.
        let used = text.lines().count() + calls.len() + 5;
        let rows =
            lines.map_or(usize::MAX, |lines| lines.saturating_sub(used)).min(if lines.is_some() { usize::MAX } else { ROWS });
        let mut table = Table::new(&[">PID", ">UID", "STATE", ">%CPU", ">CALLS/S", ">MEMORY", ">TIME", "COMMAND"]);
        let tasks = self.tasks(before);
        for (task, cpu, calls) in tasks.iter().take(rows.max(1)) {
            let command = if task.arguments.is_empty() { format!("({})", task.name) } else { task.arguments.join(" ") };
            let command: String = command.chars().take(80).collect();
            let waits = task.threads.first().map(|thread| thread.waits_in.as_str()).unwrap_or_default();
            table.row([
                task.pid.to_string(),
                task.uid.to_string(),
                if waits.is_empty() { task.state.clone() } else { waits.to_owned() },
                format!("{cpu:.1}"),
                format!("{calls:.0}"),
                paint::bytes(task.resident_bytes),
                paint::duration(self::cpu(task).saturating_mul(1000)),
                command,
            ]);
            table.ink(2, if task.state == "running" { Ink::Good } else { Ink::Faint });
            table.ink(7, Ink::Name);
        }
        text += "\n";
        text += &table.render(paint);
        if !calls.is_empty() {
            text += "\n";
            text += &summary(calls, paint);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::proto::{sentry::ProcessStats, supervisor::Process};

    fn look(at: Instant, cpu: u64, calls: u64) -> Look {
        let service = |name: &str, pid| Process { name: name.into(), pid, cpu_microseconds: cpu, ..Process::default() };
        let task = |pid, name: &str, user| Task { pid, name: name.into(), user_microseconds: user, ..Task::default() };
        Look {
            at,
            graph: GetGraphResponse {
                sandbox: "c1".into(),
                processes: vec![service("sentry", 2), service("stub", 3), service("stub", 4)],
                ..GetGraphResponse::default()
            },
            tasks: vec![task(1, "idle", 0), task(7, "bu\x1bsy", cpu)],
            calls: SyscallStatsResponse {
                interval_microseconds: 2_000_000,
                calls: Vec::new(),
                processes: vec![ProcessStats { pid: 7, calls, errors: 0 }],
            },
        }
    }

    #[test]
    fn shares_are_of_the_time_between_two_looks() {
        let start = Instant::now();
        let (before, now) = (look(start, 0, 0), look(start + Duration::from_secs(2), 1_000_000, 10));
        let services = now.services(&before);
        assert_eq!(services[0].0, "sentry");
        assert!((services[0].2 - 50.0).abs() < 0.01 && (services[1].2 - 100.0).abs() < 0.01 && services[1].1 == 2);
        let tasks = now.tasks(&before);
        assert_eq!((tasks[0].0.pid, tasks[0].2), (7, 5.0));
        let text = now.text(&before, Paint::PLAIN, None);
        assert!(text.contains("stub ×2") && text.contains("(bu\\u{1b}sy)") && !text.contains('\x1b'), "{text}");
    }
}
