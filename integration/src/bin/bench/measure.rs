//! One run of one row under one runtime.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    conversation::Conversation,
    runtime::{Runtime, exit_code},
    tree,
};

use super::{
    rows::{Row, Work},
    usage::Group,
};

/// A hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Nanoseconds (an operation) or seconds (a program).
    pub time: f64,
    /// Megabytes that the whole sandbox had at most.
    pub peak: Option<f64>,
    /// CPU seconds of the whole sandbox while it was measured; for [`Work::Start`] from beginning to end.
    pub cpu: Option<f64>,
}

/// Runs a row once. `program` is the compiled micro-benchmark. The error is what went wrong.
pub fn measure(row: &Row, runtime: &Runtime, program: &Path, held_to: Option<usize>) -> Result<Sample, String> {
    let count;
    let script;
    let (tree_name, arguments) = match row.work {
        Work::Start => ("debian", vec!["/bin/true"]),
        Work::Operation(times) => {
            count = times.to_string();
            ("debian", vec!["/bench", row.name, &count])
        }
        Work::Script(text) => {
            script = format!("echo ready; read; {{\n{text}\n}}; echo $?; read");
            ("programs", vec!["/bin/bash", "-c", &script])
        }
    };
    let group = Group::new();
    let mut bundle = Bundle::new(&tree(tree_name), &arguments);
    bundle.configure(|config| config["linux"]["cgroupsPath"] = group.container().into());
    if let Work::Operation(_) = row.work {
        std::fs::copy(program, bundle.rootfs().join("bench")).map_err(|error| format!("cannot copy the benchmark: {error}"))?;
    }
    let id = unique("bench");
    let mut command = group.command(runtime, held_to, &["run", "--bundle"]);
    command.arg(bundle.path()).arg(&id);
    let start = Instant::now();
    let mut run = Conversation::start(command).map_err(|error| format!("cannot start it: {error}"))?;
    let sample = match row.work {
        Work::Start => Ok(None),
        _ => converse(&mut run, row, &group, held_to).map(Some),
    };
    let ended = run.end(PATIENCE);
    let took = start.elapsed();
    if ended.is_none() {
        let _ = runtime.command(&["delete", "--force", &id]).status();
    }
    match (sample, ended) {
        (Ok(sample), Some((status, _))) if status.success() => Ok(sample.unwrap_or_else(|| Sample {
            time: took.as_secs_f64(),
            peak: group.peak_megabytes(),
            cpu: group.cpu_seconds(),
        })),
        (sample, Some((status, errors))) => {
            let last = errors.trim().lines().last().unwrap_or_default();
            Err(format!("{}: exit code {}: {last}", sample.err().unwrap_or_else(|| "it fails".into()), exit_code(status)))
        }
        (sample, None) => Err(sample.err().unwrap_or_else(|| "it does not end".into())),
    }
}

/// The guest says that it is ready, does its work, and says how it went.
fn converse(run: &mut Conversation, row: &Row, group: &Group, held_to: Option<usize>) -> Result<Sample, String> {
    let hear = |run: &mut Conversation| run.hear(PATIENCE).map_err(|error| format!("it says nothing: {error}"));
    let ready = hear(run)?;
    if ready != "ready" {
        return Err(format!("not \"ready\" but {ready:?}"));
    }
    let before = group.cpu_seconds();
    let start = Instant::now();
    run.go_on().map_err(|error| format!("it does not listen: {error}"))?;
    let said = hear(run)?;
    let took = start.elapsed();
    let cpu = before.zip(group.cpu_seconds()).map(|(before, after)| after - before);
    if let Some(cpu) = held_to {
        let astray = group.not_held_to(cpu);
        if !astray.is_empty() {
            return Err(format!("not held to CPU {cpu}: {}", astray.join(", ")));
        }
    }
    let time = match row.work {
        Work::Operation(_) => said.parse().map_err(|_| format!("not a time but {said:?}"))?,
        _ if said == "0" => took.as_secs_f64(),
        _ => return Err(format!("the script failed with {said}")),
    };
    run.go_on().map_err(|error| format!("it does not listen: {error}"))?;
    Ok(Sample { time, peak: group.peak_megabytes(), cpu })
}
