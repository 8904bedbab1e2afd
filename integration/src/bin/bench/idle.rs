//! What a sandbox costs that does nothing.

use std::{fs, process::Stdio, time::Duration};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    runtime::{Runtime, code, eventually},
    tree,
};

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// What start-up left over is done by then.
const SETTLED: Duration = Duration::from_secs(1);
/// Megabytes, at most.
const GOAL: f64 = 24.0;

/// Prints PSS and CPU time of an idle sandbox's own processes. Returns whether both goals were reached.
pub fn idle() -> bool {
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

    std::thread::sleep(SETTLED);
    let processes = descendants(supervisor);
    let pss: f64 = processes.iter().map(|&pid| proportional_set(pid)).sum();
    println!("\nAn idle sandbox");
    println!("{:<40}{pss:>8.1}  goal {GOAL}", "PSS of all processes, MB");
    for &pid in &processes {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        println!("    {:<36}{:>8.1}", name.trim_end(), proportional_set(pid));
    }
    let before: u64 = processes.iter().map(|&pid| cpu_ticks(pid)).sum();
    std::thread::sleep(WATCHED);
    let ticks = processes.iter().map(|&pid| cpu_ticks(pid)).sum::<u64>() - before;
    println!("{:<40}{ticks:>8}  goal 0", format!("CPU ticks (10 ms) in {} s", WATCHED.as_secs()));

    assert_eq!(code(&runtime.call(&["kill", &id, "KILL"])), 0);
    eventually("it is deleted", || code(&runtime.call(&["delete", "--force", &id])) == 0);
    pss <= GOAL && ticks == 0
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
