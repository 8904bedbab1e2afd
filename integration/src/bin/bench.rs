//! `make bench`: what Bulkhead costs beside runc, both sides in one run. Absolute figures are noise on a shared machine; the ratios hold.
#![forbid(unsafe_code)]

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    runtime::{Runtime, code, eventually, text},
    tree,
};

/// Pairs of runs; the median of their ratios is quoted.
const PAIRS: usize = 11;
/// How long the idle sandbox is watched.
const IDLE: Duration = Duration::from_secs(5);

fn main() {
    println!("{:<44}{:>12}{:>12}{:>9}{:>9}", "", "runc", "bulkhead", "ratio", "goal");
    start();
    idle();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Wall time of `run` of `/bin/true`.
fn start() {
    let runtimes = [Runtime::runc(), Runtime::bulkhead()];
    let mut times = [Vec::new(), Vec::new()];
    for pair in 0..=PAIRS {
        for (runtime, times) in runtimes.iter().zip(&mut times) {
            let bundle = Bundle::new(&tree("debian"), &["/bin/true"]);
            let start = Instant::now();
            let mut command = runtime.command(&["run", "--bundle"]);
            command.arg(bundle.path()).arg(unique("b"));
            let output = command.output().expect("it starts");
            let elapsed = start.elapsed();
            assert_eq!(code(&output), 0, "{}", text(&output.stderr));
            // The first pair warms the caches.
            if pair > 0 {
                times.push(elapsed.as_secs_f64() * 1e3);
            }
        }
    }
    let ratios = times[0].iter().zip(&times[1]).map(|(runc, bulkhead)| bulkhead / runc).collect();
    let [runc, bulkhead] = times.map(median);
    println!("{:<44}{runc:>12.1}{bulkhead:>12.1}{:>9.2}{:>9}", "run /bin/true, ms", median(ratios), "1.5");
}

/// PSS and CPU time of an idle sandbox's own processes.
fn idle() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("debian"), &["/bin/sleep", "1000"]);
    let id = unique("idle");
    let mut create = runtime.command(&["run", "--detach", "--bundle"]);
    create.arg(bundle.path()).arg(&id).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(create.status().expect("it starts").success());
    let supervisor = fs::read(runtime.root().join(&id).join("state.json"))
        .ok()
        .and_then(|state| serde_json::from_slice::<serde_json::Value>(&state).ok())
        .and_then(|state| state["pid"].as_u64())
        .expect("the state names the supervisor");

    // Let what start-up left over settle.
    std::thread::sleep(Duration::from_secs(1));
    let processes = descendants(supervisor);
    let pss: f64 = processes.iter().map(|&pid| proportional_set(pid)).sum();
    println!("{:<44}{:>12}{pss:>12.1}{:>9}{:>9}", "idle sandbox, PSS of all processes, MB", "-", "-", "24");
    for &pid in &processes {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        println!("    {:<40}{:>12}{:>12.1}", name.trim_end(), "", proportional_set(pid));
    }
    let before: u64 = processes.iter().map(|&pid| cpu_ticks(pid)).sum();
    std::thread::sleep(IDLE);
    let after: u64 = processes.iter().map(|&pid| cpu_ticks(pid)).sum();
    println!("{:<44}{:>12}{:>12}{:>9}{:>9}", "idle sandbox, CPU ticks (10 ms) in 5 s", "-", after - before, "-", "0");

    assert_eq!(code(&runtime.call(&["kill", &id, "KILL"])), 0);
    eventually("it is deleted", || code(&runtime.call(&["delete", "--force", &id])) == 0);
}

/// A process and all below it.
fn descendants(pid: u64) -> Vec<u64> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        for thread in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u64>().ok()));
        }
    }
    found
}

/// PSS in megabytes (10^6 bytes).
fn proportional_set(pid: u64) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kilobytes = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0 / 1e6
}

/// User and system time in clock ticks.
fn cpu_ticks(pid: u64) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    field(11) + field(12)
}
