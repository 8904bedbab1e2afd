//! The commands that look into a sandbox from outside: trace, top, graph, debug, metrics; and the services' logs.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixListener,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::Leftovers,
    runtime::{Runtime, code, finish, text},
    terminal::Terminal,
    tree,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SERVICES: [&str; 5] = ["supervisor", "sentry", "vfs", "netstack", "gofer"];

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running container, which its end takes down.
struct Sandbox {
    runtime: Runtime,
    id: String,
    _bundle: Bundle,
}

impl Sandbox {
    fn start(script: &str) -> Sandbox {
        Sandbox::start_in("busybox", script, &[])
    }

    fn start_in(name: &str, script: &str, flags: &[&str]) -> Sandbox {
        let runtime = Runtime::bulkhead();
        let bundle = Bundle::new(&tree(name), &["/bin/sh", "-c", script]);
        let id = unique("look");
        let mut create = runtime.command(&[flags, &["create", "--bundle"]].concat());
        create.arg(bundle.path()).arg(&id).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(create.status().expect("it starts").success());
        assert_eq!(code(&runtime.call(&["start", &id])), 0);
        Sandbox { runtime, id, _bundle: bundle }
    }

    /// What a command says of this container: `{}` among the arguments is its name.
    fn say(&self, arguments: &[&str]) -> String {
        let output = self.runtime.call(&self.arguments(arguments));
        assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        arguments.iter().map(|argument| if *argument == "{}" { self.id.as_str() } else { argument }).collect()
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let said = self.say(arguments);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
    }

    /// Starts a command that goes on until it is interrupted.
    fn begin(&self, arguments: &[&str]) -> Running {
        Running::new(self.runtime.command(&self.arguments(arguments)))
    }

    fn end(self) {
        assert_eq!(code(&self.runtime.call(&["delete", "--force", &self.id])), 0);
        Leftovers::of(&self.runtime).assert_none();
    }
}

/// A command that runs, and the lines that it writes.
struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn new(mut command: Command) -> Running {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running { child, lines, seen: Vec::new() }
    }

    /// The next line that is wanted.
    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not among {:?}", self.seen));
            self.seen.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("it is there");
    }

    /// Waits for its end; its exit status and all lines.
    fn finish(mut self) -> (Option<i32>, Vec<String>) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        (self.child.wait().expect("it ends").code(), self.seen)
    }
}

#[test]
fn trace_shows_calls_until_it_is_interrupted() {
    let sandbox = Sandbox::start("while :; do cat /etc/no-such-file 2>/dev/null; done");
    let mut trace = sandbox.begin(&["trace", "--time", "-e", "%file", "--errno", "ENOENT,ENOTDIR", "{}"]);
    let line = trace.wait_for(|line| line.contains("no-such-file"));
    assert!(line.contains(r#""/etc/no-such-file", O_RDONLY"#), "{line}");
    assert!(line.contains(" = -1 ENOENT (No such file or directory) <0."), "{line}");
    assert!(!line.contains('\x1b'), "colour without a terminal: {line:?}");
    trace.interrupt();
    let (status, lines) = trace.finish();
    assert_eq!(status, Some(0));
    assert!(lines.iter().all(|line| line.contains("ENOENT") || line.contains("ENOTDIR")), "{lines:?}");

    let mut trace = sandbox.begin(&["trace", "--format", "json", "-f", "-p", "1", "-e", "execve", "{}"]);
    let line = trace.wait_for(|line| line.contains("no-such-file"));
    let event: serde_json::Value = serde_json::from_str(&line).expect("an object a line");
    assert_eq!((&event["syscall"]["call"], &event["syscall"]["errno"]), (&"execve".into(), &"".into()), "{event}");
    trace.interrupt();
    assert_eq!(trace.finish().0, Some(0));

    let mut trace = sandbox.begin(&["trace", "--summary", "{}"]);
    // As long as it takes for some to be counted.
    sandbox.say(&["top", "-n", "2", "-d", "300ms", "{}"]);
    trace.interrupt();
    let (status, lines) = trace.finish();
    assert_eq!(status, Some(0));
    assert!(lines[0].contains("CALLS") && lines.iter().any(|line| line.ends_with("execve")), "{lines:?}");
    trace = sandbox.begin(&["trace", "--output", "/nonexistent/file", "{}"]);
    assert_eq!(trace.finish().0, Some(1));
    sandbox.end();
}

#[test]
fn trace_ends_with_the_container_and_shows_how_that_ended() {
    let sandbox = Sandbox::start("while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 3");
    let mut trace = sandbox.begin(&["trace", "{}"]);
    trace.wait_for(|line| line.contains("/tmp/go"));
    sandbox.say(&["exec", "{}", "touch", "/tmp/go"]);
    let (status, lines) = trace.finish();
    assert_eq!(status, Some(0));
    let of_init: Vec<_> = lines.iter().filter(|line| line.starts_with("[1 ")).collect();
    assert!(of_init.iter().any(|line| line.contains("exit_group(3) = ?")), "{of_init:?}");
    assert!(of_init.last().is_some_and(|line| line.ends_with("+++ exited with 3 +++")), "{of_init:?}");
    assert!(lines.iter().any(|line| line.contains("--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED")), "{lines:?}");
    sandbox.end();
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let sandbox = Sandbox::start("sleep 1000");
    for (arguments, words) in [
        (&["trace", "no-such-container"][..], "container does not exist"),
        (&["top", "no-such-container"], "container does not exist"),
        (&["graph", "no-such-container"], "container does not exist"),
        (&["metrics", "no-such-container"], "container does not exist"),
        (&["debug", "no-such-container", "tasks"], "container does not exist"),
        (&["trace", "-e", "opnat", "{}"], "no system call is called \"opnat\"; is openat meant?"),
        (&["trace", "--errno", "ENOSUCH", "{}"], "no error is called \"ENOSUCH\""),
        (&["trace", "-p", "77", "{}"], "there is no process or thread 77"),
        (&["trace", "-c", "-Z", "{}"], "cannot be used with"),
        (&["top", "-d", "1ms", "{}"], "the interval is from 100ms to 1h"),
        (&["debug", "{}", "task", "77"], "there is no process or thread 77"),
        (&["debug", "{}", "lookup", "tmp"], "is no path from the root"),
        (&["debug", "{}", "log", "vfs", "=,="], "is no log filter"),
        (&["graph", "--policy", "nobody", "{}"], "no service is called \"nobody\"; there are sentry, vfs, gofer, netstack"),
        (&["metrics", "--listen", "nonsense"], "is no address"),
    ] {
        let output = sandbox.runtime.call(&sandbox.arguments(arguments));
        let said = text(&output.stderr);
        assert!(code(&output) == 1 && said.contains(words) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
    assert_eq!(code(&sandbox.runtime.call(&["pause", &sandbox.id])), 0);
    let paused = sandbox.runtime.call(&["trace", &sandbox.id]);
    assert!(code(&paused) == 1 && text(&paused.stderr).contains("is paused"), "{}", text(&paused.stderr));
    assert_eq!(code(&sandbox.runtime.call(&["resume", &sandbox.id])), 0);
    sandbox.end();
}

#[test]
fn a_service_that_talks_nonsense_is_named() {
    let runtime = Runtime::bulkhead();
    let directory = runtime.root().join("fake/debug");
    fs::create_dir_all(&directory).expect("it can be made");
    let mut stand_in = Command::new("sleep").arg("1000").spawn().expect("it starts");
    let pid = stand_in.id();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it can be read");
    let started: u64 =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok()).expect("a number");
    let state = serde_json::json!({
        "id": "fake", "pid": pid, "pidStarted": started, "status": "running", "bundle": "/", "rootfs": "/", "created": "now",
    });
    fs::write(runtime.root().join("fake/state.json"), state.to_string()).expect("it can be written");
    for service in SERVICES {
        let listener = UnixListener::bind(directory.join(format!("{service}.sock"))).expect("it can be made");
        thread::spawn(move || {
            for client in listener.incoming() {
                let _ = client.and_then(|mut client| client.write_all(b"HTTP/1.1 200 OK\r\n\r\n\x1b[2Jnonsense"));
            }
        });
    }
    for (arguments, services) in [
        (&["trace", "fake"][..], &["sentry"][..]),
        // It asks two of them, and either may be the first to be found out.
        (&["top", "fake"], &["supervisor", "sentry"]),
        (&["graph", "fake"], &["supervisor"]),
        (&["metrics", "fake"], &["supervisor"]),
        (&["debug", "fake", "mounts"], &["vfs"]),
        (&["debug", "fake", "roots"], &["gofer"]),
    ] {
        let output = runtime.call(arguments);
        let said = text(&output.stderr);
        let is_named = services.iter().any(|service| said.starts_with(&format!("bulkhead: {service}: ")));
        assert!(code(&output) == 1 && is_named, "{arguments:?}: {said}");
        assert!(!said.contains('\x1b'), "{said:?}");
    }
    // One that cannot be asked is a figure among those of all.
    let all = runtime.call(&["metrics"]);
    assert_eq!(code(&all), 0);
    assert!(text(&all.stdout).contains("bulkhead_sandbox_answers{sandbox=\"fake\"} 0"), "{}", text(&all.stdout));
    stand_in.kill().and_then(|()| stand_in.wait()).expect("it can be ended");
    fs::remove_dir_all(runtime.root().join("fake")).expect("it can be removed");
}

#[test]
fn graph_shows_processes_their_confinement_and_channels() {
    let sandbox = Sandbox::start("sleep 1000 & wait");
    let graph = sandbox.json(&["graph", "--format", "json", "{}"]);
    let processes = graph["processes"].as_array().expect("a list");
    for name in ["sentry", "vfs", "netstack", "gofer"] {
        let service = processes.iter().find(|process| process["name"] == name).unwrap_or_else(|| panic!("no {name} in {graph}"));
        let confinement = &service["confinement"];
        assert_eq!((&confinement["seccomp"], &confinement["no_new_privileges"]), (&"filter".into(), &true.into()), "{service}");
        assert!(service["host_calls"].as_u64().is_some_and(|calls| calls > 10), "{service}");
        let own = confinement["own_namespaces"].as_array().expect("a list");
        assert!(own.contains(&"net".into()) && own.contains(&"pid".into()) && own.contains(&"mnt".into()), "{service}");
        // The gofer serves files of all users; nobody else may do anything.
        let capabilities = confinement["capabilities"].as_array().expect("a list").len();
        assert_eq!(capabilities, if name == "gofer" { 5 } else { 0 }, "{service}");
    }
    assert!(processes.iter().any(|process| process["name"] == "stub"), "{graph}");
    let channels = graph["channels"].as_array().expect("a list");
    assert!(channels.iter().any(|channel| channel["from"] == "sentry" && channel["to"] == "vfs" && channel["kind"] == "ring"));
    let drawn = sandbox.say(&["graph", "{}"]);
    assert!(drawn.contains("├─ sentry  pid ") && drawn.contains("│  └─ stub ×") && drawn.contains("running"), "{drawn}");
    let policy = sandbox.say(&["graph", "--policy", "netstack", "{}"]);
    assert!(
        policy.starts_with("netstack: seccomp filter, no capabilities") && policy.contains("orders and fds over the channels"),
        "{policy}"
    );
    sandbox.end();
}

#[test]
fn debug_asks_every_service_in_both_forms() {
    let sandbox = Sandbox::start_in("debian", "exec 7>/tmp/locked; flock -x 7; sleep 1000 & wait", &[]);
    // Until it has come to its last command.
    while !sandbox.say(&["debug", "{}", "tasks"]).contains("sleep") {}
    for (arguments, words) in [
        (&["tasks"][..], "sleep"),
        (&["task", "1"], "working directory"),
        (&["fds", "1"], "/dev/null"),
        (&["mappings", "1"], "r-xp"),
        (&["sites", "1"], "TRAPPED"),
        (&["mounts"], "overlay"),
        (&["lookup", "/tmp/no-such-file"], "/tmp/no-such-file"),
        (&["files"], "/tmp/locked"),
        (&["locks"], "flock"),
        (&["cache"], "names published"),
        (&["roots"], "rootfs"),
        (&["handles"], "bin"),
        (&["gofer"], "fds handed over"),
        (&["services"], "netstack"),
        (&["policy", "vfs"], "orders and fds over the channels"),
        (&["log", "vfs", "debug"], "vfs: debug"),
    ] {
        let in_text = sandbox.say(&[&["debug", "{}"], arguments].concat());
        assert!(in_text.contains(words) && !in_text.contains('\x1b'), "{arguments:?}: {in_text}");
        let _: serde_json::Value = sandbox.json(&[&["debug", "--format", "json", "{}"], arguments].concat());
    }
    let known = sandbox.json(&["debug", "{}", "lookup", "/tmp/locked", "--format", "json"]);
    assert_eq!(known["steps"][2]["state"], "present", "{known}");
    sandbox.end();
}

#[test]
fn there_is_colour_on_a_terminal_unless_no_color_is_set() {
    let sandbox = Sandbox::start("sleep 1000");
    let on_terminal = |environment: &str| {
        let command = sandbox.runtime.command(&["debug", &sandbox.id, "tasks"]);
        let mut wrapped = Command::new("env");
        wrapped.args(["TERM=xterm", environment]).arg(command.get_program()).args(command.get_args());
        let mut terminal = Terminal::run(&wrapped, 40, 120);
        assert_eq!(terminal.end(), 0);
        terminal.rest()
    };
    assert!(on_terminal("NO_COLOR=").contains("\x1b[36m"));
    assert!(!on_terminal("NO_COLOR=1").contains('\x1b'));
    sandbox.end();
}

#[test]
fn top_tells_what_is_used() {
    let sandbox = Sandbox::start("while :; do cd /; done");
    let reports = sandbox.say(&["top", "--format", "json", "-n", "2", "-d", "500ms", "{}"]);
    let reports: Vec<serde_json::Value> = reports.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(reports.len(), 2);
    let shell = &reports[1]["processes"][0];
    assert_eq!(shell["process"]["pid"], 1, "{}", reports[1]);
    assert!(shell["calls_per_second"].as_f64().is_some_and(|calls| calls > 100.0), "{shell}");
    assert!(shell["cpu_percent"].as_f64().is_some_and(|cpu| cpu > 1.0), "{shell}");
    assert!(
        reports[1]["calls"].as_array().is_some_and(|calls| calls.iter().any(|call| call["call"] == "chdir")),
        "{}",
        reports[1]
    );
    let shown = sandbox.say(&["top", "-n", "1", "{}"]);
    assert!(shown.contains("CALLS/S") && shown.contains("sentry") && shown.contains("while :; do cd /; done"), "{shown}");
    sandbox.end();
}

#[test]
fn metrics_are_printed_once_or_served() {
    let sandbox = Sandbox::start("sleep 1000 & wait");
    let printed = sandbox.say(&["metrics", "{}"]);
    let id = &sandbox.id;
    for sample in [
        format!("bulkhead_service_threads{{sandbox=\"{id}\",service=\"vfs\"}} "),
        format!("bulkhead_guest_processes{{sandbox=\"{id}\"}} 2"),
        format!("bulkhead_sandbox_running{{sandbox=\"{id}\"}} 1"),
        format!("bulkhead_vfs_requests_total{{sandbox=\"{id}\"}} "),
        format!("bulkhead_gofer_handles{{sandbox=\"{id}\"}} "),
        "# TYPE bulkhead_service_cpu_seconds_total counter".to_owned(),
    ] {
        assert!(printed.contains(&sample), "no {sample} in {printed}");
    }
    for line in printed.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        assert!(line.starts_with("bulkhead_") && value.is_some(), "{line}");
    }

    let mut served = sandbox.begin(&["metrics", "--listen", "127.0.0.1:0"]);
    let url = served.wait_for(|line| line.starts_with("http://"));
    let address = url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    let answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("bulkhead_containers{status=\"running\"} 1"), "{answer}");
    assert!(answer.contains(&format!("bulkhead_sandbox_answers{{sandbox=\"{id}\"}} 1")), "{answer}");
    assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    served.interrupt();
    assert_eq!(served.finish().0, Some(0));
    sandbox.end();
}

#[test]
fn every_service_logs_into_its_own_file_in_the_form_that_is_wanted() {
    for form in ["json", "text"] {
        let logs = std::env::temp_dir().join(unique("logs"));
        let directory = logs.to_str().expect("a plain path");
        let sandbox = Sandbox::start_in("busybox", "sleep 1000", &["--debug-log", directory, "--log-format", form]);
        // The supervisor's log begins with its debug plane.
        sandbox.say(&["debug", "{}", "services"]);
        let id = sandbox.id.clone();
        sandbox.end();
        for service in SERVICES {
            let path = logs.join(format!("{id}.{service}.log"));
            let log = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(service == "supervisor" || log.lines().count() > 0, "{service} has logged nothing");
            for line in log.lines() {
                if form == "json" {
                    let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                    assert_eq!((&event["sandbox"], &event["service"]), (&id.as_str().into(), &service.into()), "{line}");
                } else {
                    assert!(line.contains(&format!(" {service}[{id}] ")), "{line}");
                }
            }
        }
        fs::remove_dir_all(&logs).expect("it can be removed");
    }
}

#[test]
fn the_commands_complete_and_explain_themselves() {
    let runtime = Runtime::bulkhead();
    let script = text(&runtime.call(&["completion", "bash"]).stdout);
    for command in ["trace", "top", "graph", "debug", "metrics"] {
        assert!(script.contains(&format!("bulkhead__subcmd__{command}")), "{command} does not complete");
        let help = finish(runtime.command(&[command, "--help"]), b"");
        assert!(code(&help) == 0 && text(&help.stdout).contains("Usage: bulkhead "), "{}", text(&help.stdout));
    }
    assert!(script.contains("--errno") && script.contains("mappings"));
}
