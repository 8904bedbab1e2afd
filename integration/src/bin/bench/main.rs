//! `make bench`: what Bulkhead costs beside runc.
//!
//! Each row is a run of its own under runc and one under Bulkhead, in turn, so many times; printed are the medians, the median of the
//! pairs' ratios, and what the whole sandbox (runtime, supervisor, services, container) used: memory at most, and CPU seconds while the
//! work was done. Then everything once more with all processes held to one CPU. Absolute figures are noise on a shared machine; the
//! ratios hold.
#![forbid(unsafe_code)]

mod arguments;
mod idle;
mod measure;
mod rows;
mod table;
mod usage;
mod workloads;

use std::{path::Path, process::ExitCode};

use arguments::Arguments;
use bulkhead_integration::{bundle::unique, guest::compile, runtime::Runtime};
use rows::{ROWS, Row, Work};

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::from(2);
        }
    };
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).chain(["idle"]).collect();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| arguments.want(row.name, &names)).collect();
    let program = std::env::temp_dir().join(unique("bulkhead-bench-program"));
    compile("bench", &program);

    let cpus = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("the host tells");
    let cpus: Vec<usize> = (0..nix::sched::CpuSet::count()).filter(|cpu| cpus.is_set(*cpu).unwrap_or(false)).collect();
    let title = format!("{} CPUs, medians of {} pairs", cpus.len(), arguments.pairs);
    let mut outcome = all(&title, &rows, &program, arguments.pairs, None);
    if arguments.want("idle", &names) {
        outcome.missed |= !idle::idle();
    }
    if !rows.is_empty() {
        let title = format!("All processes held to one CPU, medians of {} pairs", arguments.pairs);
        outcome.failed |= all(&title, &rows, &program, arguments.pairs, cpus.last().copied()).failed;
    }
    let _ = std::fs::remove_file(&program);
    ExitCode::from(u8::from(outcome.failed || arguments.check && outcome.missed))
}

#[derive(Clone, Copy, Default)]
struct Outcome {
    failed: bool,
    missed: bool,
}

fn all(title: &str, rows: &[&Row], program: &Path, pairs: usize, held_to: Option<usize>) -> Outcome {
    let mut outcome = Outcome::default();
    if rows.is_empty() {
        return outcome;
    }
    table::header(title);
    for row in rows {
        match run(row, program, pairs, held_to) {
            Ok(pairs) => outcome.missed |= !table::row(row, &pairs, held_to.is_none()),
            Err(what) => {
                println!("{:<20}failed: {what}", row.name);
                outcome.failed = true;
            }
        }
    }
    outcome
}

fn run(row: &Row, program: &Path, pairs: usize, held_to: Option<usize>) -> Result<table::Pairs, String> {
    let runtimes = [("runc", Runtime::runc()), ("bulkhead", Runtime::bulkhead())];
    let mut found = Vec::new();
    // An operation warms up by itself; whatever starts programs finds their files in the cache only the second time.
    let warm_up = usize::from(!matches!(row.work, Work::Operation(_)));
    for pair in 0..pairs + warm_up {
        let mut samples = Vec::new();
        for (name, runtime) in &runtimes {
            samples.push(measure::measure(row, runtime, program, held_to).map_err(|what| format!("under {name}: {what}"))?);
        }
        if pair >= warm_up {
            found.push((samples[0], samples[1]));
        }
    }
    Ok(found)
}
