//! What is done to a running container: pause, resume, events, update, ps; and what there is beside containers: features, completion,
//! install. Compared with runc where that says something.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::{Leftovers, cgroups},
    runtime::{Runtime, code, eventually, finish, text},
    tree,
};
use serde_json::{Value, json};

/// A running container.
struct Container {
    runtime: Runtime,
    _bundle: Bundle,
    id: String,
}

impl Container {
    fn start(runtime: Runtime, arguments: &[&str], change: impl FnOnce(&mut Value)) -> Container {
        let mut bundle = Bundle::new(&tree("busybox"), arguments);
        let id = unique("control");
        bundle.configure(|config| {
            config["linux"]["cgroupsPath"] = format!("/bulkhead-test/{id}").into();
            change(config);
        });
        let mut command = runtime.command(&["run", "--detach", "--bundle"]);
        command.arg(bundle.path()).arg(&id).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().expect("it starts").success());
        Container { runtime, _bundle: bundle, id }
    }

    fn sleep(runtime: Runtime) -> Container {
        Container::start(runtime, &["/bin/sleep", "1000"], |_| ())
    }

    /// `COMMAND … ID`: output and exit code.
    fn call(&self, words: &[&str]) -> (String, String, i32) {
        let output = self.runtime.call(&[words, &[self.id.as_str()]].concat());
        (text(&output.stdout), text(&output.stderr), code(&output))
    }

    fn exec(&self, script: &str) -> String {
        text(&self.runtime.call(&["exec", &self.id, "sh", "-c", script]).stdout)
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.call(&["state"]).0).expect("state prints JSON");
        state["status"].as_str().expect("there is one").to_owned()
    }

    fn directory(&self, controller: &str) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(controller).join("bulkhead-test").join(&self.id)
    }

    fn end(self) {
        assert_eq!(self.call(&["delete", "--force"]).2, 0);
        Leftovers::of(&self.runtime).assert_none();
        assert_eq!(cgroups(&self.id), Vec::<PathBuf>::new());
    }
}

/// A message without what each runtime puts around it.
fn message(stderr: &str) -> String {
    match stderr.split_once("msg=\"") {
        Some((_, rest)) => rest.trim_end().trim_end_matches('"').replace("\\\"", "\""),
        None => stderr.trim_end().trim_start_matches("bulkhead: ").to_owned(),
    }
}

#[test]
fn a_paused_container_stands_still_and_commands_treat_it_as_runc_does() {
    let story = |runtime: Runtime| {
        let container = Container::sleep(runtime);
        let mut told = Vec::new();
        // `COMMAND … ID …`: what was said, and the exit code.
        let tell = |before: &[&str], after: &[&str]| {
            let output = container.runtime.call(&[before, &[container.id.as_str()], after].concat());
            (before.join(" "), message(&text(&output.stderr)).replace(&container.id, "ID"), code(&output))
        };
        told.push(tell(&["resume"], &[]));
        told.push(tell(&["pause"], &[]));
        assert_eq!(container.status(), "paused");
        told.push(tell(&["pause"], &[]));
        told.push(tell(&["delete"], &[]));
        told.push(tell(&["exec"], &["true"]));
        told.push(tell(&["resume"], &[]));
        assert_eq!(container.status(), "running");
        told.push(tell(&["pause"], &[]));
        // SIGKILL reaches also what is paused.
        told.push(tell(&["kill"], &["KILL"]));
        eventually("it has stopped", || container.status() == "stopped");
        told.push(tell(&["pause"], &[]));
        told.push(tell(&["resume"], &[]));
        told.push(tell(&["events", "--stats"], &[]));
        told.push(tell(&["update", "--pids-limit", "7"], &[]));
        told.push(tell(&["delete"], &[]));
        told
    };
    assert_eq!(story(Runtime::runc()), story(Runtime::bulkhead()));
}

#[test]
fn nothing_runs_while_a_container_is_paused() {
    let script = "trap 'exit 5' USR1; i=0; while :; do i=$((i+1)); echo $i >/tmp/count; done";
    let container = Container::start(Runtime::bulkhead(), &["/bin/sh", "-c", script], |_| ());
    eventually("it counts", || !container.exec("cat /tmp/count").is_empty());
    let used = || fs::read_to_string(container.directory("cpuacct").join("cpuacct.usage")).expect("version 1 counts");
    assert_eq!(container.call(&["pause"]).2, 0);
    let before = used();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(used(), before);
    // A signal waits for it to go on; so does an exec that insists.
    assert_eq!(code(&container.runtime.call(&["kill", &container.id, "USR1"])), 0);
    assert_eq!(container.call(&["resume"]).2, 0);
    eventually("the signal has ended it", || container.status() == "stopped");
    container.end();
}

#[test]
fn a_paused_container_can_be_deleted_by_force() {
    let container = Container::sleep(Runtime::bulkhead());
    assert_eq!(container.call(&["pause"]).2, 0);
    container.end();
}

/// The names of all values, in order.
fn shape(value: &Value, path: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| shape(value, &format!("{path}.{name}"), into)),
        Value::Array(_) => into.push(format!("{path}[]")),
        _ => into.push(path.to_owned()),
    }
}

#[test]
fn events_have_the_shape_of_runcs() {
    let stats = |runtime: Runtime| {
        let container = Container::start(runtime, &["/bin/sleep", "1000"], |config| {
            config["linux"]["resources"] = json!({ "memory": { "limit": 256 << 20 }, "pids": { "limit": 30 } });
        });
        let (stdout, stderr, code) = container.call(&["events", "--stats"]);
        assert_eq!(code, 0, "{stderr}");
        container.end();
        serde_json::from_str::<Value>(&stdout).expect("events prints JSON")
    };
    let (expected, got) = (stats(Runtime::runc()), stats(Runtime::bulkhead()));
    let mut shapes = [Vec::new(), Vec::new()];
    for (value, into) in [&expected, &got].into_iter().zip(&mut shapes) {
        shape(value, "", into);
        // Left out when they are zero, which is chance.
        into.retain(|name| !["cache", "max", "usage"].iter().any(|end| name.ends_with(end)) && !name.contains("blkio"));
    }
    assert_eq!(shapes[0], shapes[1]);
    let data = &got["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 256 << 20);
    assert!(data["memory"]["usage"]["usage"].as_u64().expect("a number") > 1 << 20, "{data}");
    assert!(data["cpu"]["usage"]["total"].as_u64().expect("a number") > 0 && data["pids"]["current"].as_u64() > Some(4));
}

#[test]
fn events_come_at_the_interval_until_the_container_stops() {
    let container = Container::sleep(Runtime::bulkhead());
    let child = container
        .runtime
        .command(&["events", "--interval", "100ms", &container.id])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(code(&container.runtime.call(&["kill", &container.id, "KILL"])), 0);
    let output = child.wait_with_output().expect("it ends");
    let lines = text(&output.stdout).lines().filter(|line| line.starts_with(r#"{"type":"stats","id":"#)).count();
    assert!(lines >= 3 && code(&output) == 0, "{lines} lines");
    container.end();
}

#[test]
fn limits_can_be_changed_and_hold() {
    let container = Container::sleep(Runtime::bulkhead());
    let flags = [
        "update",
        "--memory",
        "128m",
        "--memory-swap",
        "192M",
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "100000",
        "--cpu-share",
        "512",
    ];
    let (_, stderr, status) = container.call(&flags);
    assert_eq!(status, 0, "{stderr}");
    let read = |controller: &str, file: &str| {
        fs::read_to_string(container.directory(controller).join(file)).expect("version 1 is there").trim().to_owned()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes"), (128 << 20).to_string());
    assert_eq!(read("memory", "memory.memsw.limit_in_bytes"), (192 << 20).to_string());
    assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(read("cpu", "cpu.shares"), "512");
    // Larger, by a file on standard input: memory and swap grow in the other order.
    let mut command = container.runtime.command(&["update", "--resources", "-"]);
    command.arg(&container.id);
    let resources = json!({ "memory": { "limit": 512 << 20, "swap": 1 << 30 }, "cpu": { "quota": -1 } }).to_string();
    let output = finish(command, resources.as_bytes());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(read("memory", "memory.limit_in_bytes"), (512 << 20).to_string());
    assert_eq!(read("cpu", "cpu.cfs_quota_us"), "-1");
    let (_, stderr, status) = container.call(&["update", "--memory", "lots"]);
    assert!(status == 1 && stderr.contains("lots"), "{stderr}");
    container.end();
}

#[test]
fn a_limit_of_processes_counts_the_containers_own() {
    let limited = |config: &mut Value| config["linux"]["resources"] = json!({ "pids": { "limit": 10 } });
    let container = Container::start(Runtime::bulkhead(), &["/bin/sleep", "1000"], limited);
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 >/dev/null 2>&1 & done; ls -d /proc/[0-9]* | wc -l";
    let try_it = || {
        let output = container.runtime.call(&["exec", &container.id, "sh", "-c", script]);
        (text(&output.stdout), text(&output.stderr))
    };
    let (stdout, stderr) = try_it();
    assert!(stdout.is_empty() && stderr.contains("can't fork: Resource temporarily unavailable"), "{stdout}{stderr}");
    assert_eq!(container.call(&["update", "--pids-limit", "100"]).2, 0);
    let (stdout, stderr) = try_it();
    assert!(stdout.trim().parse::<u32>().is_ok_and(|count| count >= 14), "{stdout}{stderr}");
    container.end();
}

#[test]
fn ps_lists_the_processes_of_the_container() {
    let container = Container::sleep(Runtime::bulkhead());
    let (stdout, _, code) = container.call(&["ps", "--format", "json"]);
    let pids: Vec<i32> = serde_json::from_str(&stdout).expect("ps prints JSON");
    let state: Value = serde_json::from_str(&container.call(&["state"]).0).expect("state prints JSON");
    assert!(code == 0 && pids.contains(&(state["pid"].as_i64().expect("a pid") as i32)) && pids.len() >= 5, "{stdout}");
    let (stdout, _, code) = container.call(&["ps"]);
    assert!(code == 0 && stdout.starts_with("UID") && stdout.contains("sentry"), "{stdout}");
    container.end();
}

#[test]
fn features_and_completion_are_told() {
    let runtime = Runtime::bulkhead();
    let features: Value = serde_json::from_slice(&runtime.call(&["features"]).stdout).expect("features prints JSON");
    let expected: Value = serde_json::from_slice(&Runtime::runc().call(&["features"]).stdout).expect("features prints JSON");
    assert_eq!(features["hooks"], expected["hooks"]);
    for name in ["ociVersionMin", "ociVersionMax", "mountOptions", "linux"] {
        assert!(!features[name].is_null(), "{name}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&runtime.call(&["completion", shell]).stdout).contains("exec"), "{shell}");
    }
    let (help, version) = (runtime.call(&["--help"]), runtime.call(&["-v"]));
    assert!(text(&help.stdout).contains("pause") && text(&version.stdout).contains("spec: 1."));
}

#[test]
fn install_registers_the_runtime_and_uninstall_takes_it_out() {
    let runtime = Runtime::bulkhead();
    let directory = std::env::temp_dir().join(unique("install"));
    fs::create_dir_all(&directory).expect("it can be made");
    let (docker, containerd) = (directory.join("daemon.json"), directory.join("config.toml"));
    let (before_docker, before_containerd) = ("{\n  \"debug\": true\n}\n", "# a comment\nversion = 2\n");
    fs::write(&docker, before_docker).expect("it can be written");
    fs::write(&containerd, before_containerd).expect("it can be written");
    let paths = [docker.to_str().expect("it is text"), containerd.to_str().expect("it is text")];
    let call = |command: &str| {
        let output = runtime.call(&[command, "--docker", paths[0], "--containerd", paths[1]]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        text(&output.stdout)
    };
    call("install");
    let config: Value = serde_json::from_slice(&fs::read(&docker).expect("it is there")).expect("it is JSON");
    assert!(config["runtimes"]["bulkhead"]["path"].as_str().expect("a path").ends_with("/bulkhead") && config["debug"] == true);
    let toml = fs::read_to_string(&containerd).expect("it is there");
    assert!(toml.starts_with(before_containerd) && toml.contains("BinaryName"), "{toml}");
    assert!(call("install").contains("nothing to change"));
    call("uninstall");
    assert_eq!(fs::read_to_string(&docker).expect("it is there"), before_docker);
    assert_eq!(fs::read_to_string(&containerd).expect("it is there"), before_containerd);
    fs::write(&docker, "{").expect("it can be written");
    let refused = runtime.call(&["install", "--docker", paths[0], "--no-containerd"]);
    assert!(code(&refused) == 1 && text(&refused.stderr).contains("daemon.json: not JSON"), "{}", text(&refused.stderr));
    fs::remove_dir_all(&directory).expect("it is there");
}
