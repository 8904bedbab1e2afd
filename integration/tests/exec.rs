//! `exec`: further programs in a running container, as runc runs them.

use std::{
    fs,
    io::Write,
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::{Leftovers, cgroups},
    runtime::{Runtime, code, eventually, exit_code, finish, text},
    tree,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A container that sleeps, deleted when dropped.
struct Sleeper {
    runtime: Runtime,
    bundle: Bundle,
    id: String,
}

impl Sleeper {
    fn new(runtime: Runtime) -> Sleeper {
        let mut bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
        bundle.configure(|config| config["process"]["env"].as_array_mut().expect("a list").push("FROM=config".into()));
        let id = unique("exec");
        let mut command = runtime.command(&["run", "--detach", "--bundle"]);
        command.arg(bundle.path()).arg(&id).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().expect("it starts").success());
        Sleeper { runtime, bundle, id }
    }

    fn bulkhead() -> Sleeper {
        Sleeper::new(Runtime::bulkhead())
    }

    /// `exec OPTIONS ID ARGUMENTS`.
    fn command(&self, options: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.runtime.command(&["exec"]);
        command.args(options).arg(&self.id).args(arguments);
        command
    }

    fn exec(&self, options: &[&str], arguments: &[&str]) -> Output {
        finish(self.command(options, arguments), b"")
    }

    fn shell(&self, options: &[&str], script: &str) -> String {
        let output = self.exec(options, &["sh", "-c", script]);
        assert_eq!(code(&output), 0, "{script}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn status(&self) -> String {
        let state = self.runtime.call(&["state", &self.id]);
        let state: serde_json::Value = serde_json::from_slice(&state.stdout).expect("state prints JSON");
        state["status"].as_str().expect("there is one").to_owned()
    }

    fn pid_file(&self) -> PathBuf {
        self.bundle.path().join("exec.pid")
    }

    fn read_pid(&self) -> Pid {
        Pid::from_raw(fs::read_to_string(self.pid_file()).expect("it was written").trim().parse().expect("it is a pid"))
    }

    /// Deletes it and sees nothing left.
    fn end(self) {
        assert_eq!(code(&self.runtime.call(&["delete", "--force", &self.id])), 0);
        Leftovers::of(&self.runtime).assert_none();
        assert_eq!(cgroups(&self.id), Vec::<PathBuf>::new());
    }
}

/// The same under runc and under Bulkhead; returns what Bulkhead gave.
fn same(options: &[&str], arguments: &[&str]) -> Output {
    let run = |runtime| {
        let container = Sleeper::new(runtime);
        let output = container.exec(options, arguments);
        container.end();
        output
    };
    let (expected, got) = (run(Runtime::runc()), run(Runtime::bulkhead()));
    assert_eq!(
        (text(&expected.stdout), code(&expected)),
        (text(&got.stdout), code(&got)),
        "{options:?} {arguments:?}: runc: {} bulkhead: {}",
        text(&expected.stderr),
        text(&got.stderr)
    );
    got
}

#[test]
fn user_groups_directory_environment_and_capabilities_are_those_of_runc() {
    let script =
        "id -u; id -g; id -G; pwd; echo $FROM $EXTRA $HOME $PATH; grep -e Cap -e NoNewPrivs -e Groups /proc/self/status; umask";
    let options: [&[&str]; 6] = [
        &[],
        &["-e", "EXTRA=1", "-e", "FROM=flag", "--cwd", "/etc"],
        &["--user", "1000"],
        &["-u", "1000:2000", "-g", "5", "-g", "6"],
        &["--cap", "CAP_SYS_ADMIN"],
        &["--user", "7:8", "--cap", "CAP_NET_ADMIN", "--no-new-privs"],
    ];
    for options in options {
        let output = same(options, &["sh", "-c", script]);
        assert_eq!(code(&output), 0, "{options:?}: {}", text(&output.stderr));
    }
}

#[test]
fn standard_streams_and_exit_status_are_passed_through() {
    let container = Sleeper::bulkhead();
    let command = container.command(&[], &["sh", "-c", "tr a-z A-Z; echo oops >&2; exit 7"]);
    let input = vec![b'q'; 300_000];
    let output = finish(command, &input);
    assert_eq!((output.stdout.len(), text(&output.stderr), code(&output)), (300_000, "oops\n".into(), 7));
    assert_eq!(code(&container.exec(&[], &["sh", "-c", "kill -TERM $$"])), 143);
    container.end();
}

#[test]
fn a_program_that_cannot_be_executed_is_told_as_runc_tells_it() {
    let trials: [(&[&str], &[&str]); 5] = [
        (&[], &["no-such-program"]),
        (&[], &["/no/such/program"]),
        (&[], &["/etc/passwd"]),
        (&["--cwd", "/no/such/directory"], &["true"]),
        (&[], &[]),
    ];
    for (options, arguments) in trials {
        assert_eq!(code(&same(options, arguments)), 255);
    }
    let container = Sleeper::bulkhead();
    for (arguments, words) in [
        (["no-such-program"], "executable file not found in $PATH"),
        (["/no/such/program"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
    ] {
        let output = container.exec(&[], &arguments);
        let message = text(&output.stderr);
        assert!(message.contains(words) && message.contains(arguments[0]) && message.contains("exec failed"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    container.end();
}

#[test]
fn it_is_in_the_containers_process_tree_with_nobody_above_it() {
    let container = Sleeper::bulkhead();
    let shown = container
        .shell(&[], "cut -d' ' -f4-6 /proc/$$/stat; echo $$; ls /proc | grep -c '^1$'; sleep 100 >/dev/null 2>&1 & echo $!");
    let lines: Vec<&str> = shown.lines().collect();
    // Parent 0; its own group and session.
    assert_eq!(lines[0], format!("0 {0} {0}", lines[1]));
    assert_eq!(lines[2], "1");
    // What it leaves behind is init's.
    assert_eq!(container.shell(&[], &format!("cut -d' ' -f4 /proc/{}/stat", lines[3])).trim(), "1");
    container.end();
}

#[test]
fn the_containers_processes_are_reached_and_its_end_ends_it() {
    let container = Sleeper::bulkhead();
    let child = container
        .command(&[], &["sh", "-c", "echo ready; exec sleep 1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    eventually("it runs", || text(&container.exec(&[], &["ps"]).stdout).matches("sleep 1000").count() == 2);
    assert_eq!(code(&container.runtime.call(&["kill", &container.id, "KILL"])), 0);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((text(&output.stdout), code(&output)), ("ready\n".into(), 137));
    eventually("it has stopped", || container.status() == "stopped");
    let refused = container.exec(&[], &["true"]);
    assert_eq!(code(&refused), 255);
    assert!(text(&refused.stderr).contains("cannot exec in a stopped container"), "{}", text(&refused.stderr));
    container.end();
}

#[test]
fn signals_to_the_command_reach_the_program_and_its_death_ends_it() {
    let container = Sleeper::bulkhead();
    let script = "trap 'echo usr1; exit 9' USR1; echo ready >/tmp/ready; while :; do sleep 0.05; done";
    let mut child =
        container.command(&[], &["sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    eventually("the trap is set", || code(&container.exec(&[], &["test", "-e", "/tmp/ready"])) == 0);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGUSR1).expect("it is there");
    assert_eq!(exit_code(child.wait().expect("it ends")), 9);

    let mut child = container.command(&[], &["sleep", "777"]).stdin(Stdio::null()).spawn().expect("it starts");
    let runs = || text(&container.exec(&[], &["ps"]).stdout).contains("sleep 777");
    eventually("it runs", runs);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).expect("it is there");
    child.wait().expect("it ends");
    eventually("its program is gone", || !runs());
    assert_eq!(container.status(), "running");
    container.end();
}

#[test]
fn a_detached_program_is_stood_for_by_the_process_in_the_pid_file() {
    let container = Sleeper::bulkhead();
    let out = container.bundle.path().join("out");
    let pid_file = container.pid_file();
    let script = "trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let status = container
        .command(&["--detach", "--pid-file", pid_file.to_str().expect("it is text")], &["sh", "-c", script])
        .stdout(fs::File::create(&out).expect("it can be made"))
        .status()
        .expect("it starts");
    assert_eq!(exit_code(status), 0);
    eventually("it is ready", || fs::read_to_string(&out).is_ok_and(|text| text == "ready\n"));
    let stand_in = container.read_pid();
    kill(stand_in, Signal::SIGTERM).expect("it is there");
    eventually("the trap ran", || fs::read_to_string(&out).is_ok_and(|text| text == "ready\nterm\n"));
    eventually("the process is gone", || kill(stand_in, None).is_err());
    container.end();
}

#[test]
fn the_exit_status_of_a_detached_program_is_its_stand_ins() {
    nix::sys::prctl::set_child_subreaper(true).expect("it is allowed");
    let container = Sleeper::bulkhead();
    let pid_file = container.pid_file();
    let status = container
        .command(&["--detach", "--pid-file", pid_file.to_str().expect("it is text")], &["sh", "-c", "exit 42"])
        .status()
        .expect("it starts");
    assert_eq!(exit_code(status), 0);
    let ended = nix::sys::wait::waitpid(container.read_pid(), None).expect("we adopted it");
    assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(container.read_pid(), 42));
    container.end();
}

#[test]
fn a_process_file_says_all() {
    let process = serde_json::json!({
        "args": ["/bin/sh", "-c", "id -u; id -g; id -G; pwd; echo $A; ulimit -n; grep -e CapEff -e NoNewPrivs /proc/self/status"],
        "env": ["A=b", "PATH=/bin"],
        "cwd": "/tmp",
        "user": { "uid": 5, "gid": 6, "additionalGids": [7, 8] },
        "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
                          "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"] },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 100, "soft": 50 }],
        "noNewPrivileges": true,
    });
    let file = std::env::temp_dir().join(unique("process"));
    fs::write(&file, process.to_string()).expect("it can be written");
    let path = file.to_str().expect("it is text").to_owned();
    let output = same(&["--process", &path], &[]);
    assert!(text(&output.stdout).starts_with("5\n6\n6 7 8\n/tmp\nb\n50\n"), "{}{}", text(&output.stdout), text(&output.stderr));
    let container = Sleeper::bulkhead();
    // runc 1.1 does not heed it here.
    fs::write(&file, r#"{"args":["/bin/sh","-c","umask"],"cwd":"/","user":{"umask":23}}"#).expect("it can be written");
    assert_eq!(text(&container.exec(&["-p", &path], &[]).stdout), "0027\n");
    fs::write(&file, r#"{"args":["a"],"cwd":"/","rlimits":7}"#).expect("it can be written");
    let refused = text(&container.exec(&["-p", &path], &[]).stderr);
    assert!(refused.contains(&path) && refused.contains("process.rlimits"), "{refused}");
    container.end();
    fs::remove_file(&file).expect("it is there");
}

#[test]
fn inherited_files_are_handed_on() {
    let container = Sleeper::bulkhead();
    let mut file = fs::File::create(container.bundle.path().join("third")).expect("it can be made");
    file.write_all(b"from the caller\n").expect("it can be written");
    let path = container.bundle.path().join("third");
    let mut command = Command::new("/bin/sh");
    // The shell opens it as 3 for the runtime.
    let exec = container.command(&["--preserve-fds", "1"], &["cat", "/proc/self/fd/3"]);
    let words: Vec<String> = std::iter::once(exec.get_program())
        .chain(exec.get_args())
        .map(|word| format!("'{}'", word.to_str().expect("it is text")))
        .collect();
    command.arg("-c").arg(format!("exec {} 3<{}", words.join(" "), path.display()));
    let output = finish(command, b"");
    assert_eq!(text(&output.stdout), "from the caller\n", "{}", text(&output.stderr));
    assert!(file.as_raw_fd() > 2);
    container.end();
}

#[test]
fn many_run_at_once_and_arguments_may_be_long() {
    let container = Sleeper::bulkhead();
    let children: Vec<_> = (0..40)
        .map(|n| {
            let script = format!("sleep 0.5; echo {n}");
            container.command(&[], &["sh", "-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts")
        })
        .collect();
    for (n, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((text(&output.stdout), code(&output)), (format!("{n}\n"), 0));
    }
    // More than a packet and than a socket's buffer.
    let word = "x".repeat(100_000);
    let arguments = ["sh", "-c", "echo $# ${#6}", "name", &word, &word, &word, &word, &word, &word];
    let output = container.exec(&[], &arguments);
    assert_eq!(text(&output.stdout), "6 100000\n", "{}", text(&output.stderr));
    container.end();
}

#[test]
fn it_works_in_a_container_that_is_only_created() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
    let id = unique("created");
    let mut command = runtime.command(&["create", "--bundle"]);
    command.arg(bundle.path()).arg(&id).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("it starts").success());
    let output = runtime.call(&["exec", &id, "sh", "-c", "(sleep 0.1 &) ; echo $$"]);
    assert_eq!((text(&output.stdout), code(&output)), ("2\n".into(), 0), "{}", text(&output.stderr));
    assert_eq!(code(&runtime.call(&["start", &id])), 0);
    assert_eq!(text(&runtime.call(&["exec", &id, "cat", "/proc/1/comm"]).stdout), "sleep\n");
    assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
    Leftovers::of(&runtime).assert_none();
}
