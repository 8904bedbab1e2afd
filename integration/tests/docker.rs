//! Docker, with a dockerd and the shim that it ships: what a user asks of it, it gets under Bulkhead.

use std::{fs, io::Write, process::Stdio};

use bulkhead_integration::{
    bundle::unique,
    docker::{Docker, IMAGE},
    runtime::{code, eventually, text},
    terminal::Terminal,
};

/// What a container printed; it succeeded.
fn printed(docker: &Docker, options: &[&str], script: &str) -> String {
    let output = docker.run(options, &["sh", "-c", script]);
    assert_eq!(code(&output), 0, "{options:?} {script}: {}{}", text(&output.stderr), docker.log());
    text(&output.stdout)
}

#[test]
fn options_of_docker_run_have_their_effect() {
    let docker = Docker::start();
    let says =
        |options: &[&str], script: &str, expected: &str| assert_eq!(printed(&docker, options, script), expected, "{options:?}");
    says(&[], "uname -r", "6.12.0-bulkhead\n");
    says(&["-e", "A=b"], "echo $A", "b\n");
    says(&["-u", "5:6", "-w", "/tmp"], "id -u; id -g; pwd", "5\n6\n/tmp\n");
    says(&["--hostname", "hull"], "hostname; cat /etc/hostname", "hull\nhull\n");
    says(&["--ulimit", "nofile=77:88"], "ulimit -n; ulimit -Hn", "77\n88\n");
    says(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"], "grep CapEff /proc/self/status", "CapEff:\t0000000000001000\n");
    says(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n");
    says(&["--init"], "cut -d' ' -f2 /proc/1/stat", "(docker-init)\n");
    says(&["--tmpfs", "/t:size=1m", "--read-only"], "echo x >/etc/x || echo y >/t/y && cat /t/y", "y\n");
    says(
        &["--memory", "64m", "--cpus", "0.5", "--pids-limit", "20"],
        "grep MemTotal /proc/meminfo",
        "MemTotal:          65536 kB\n",
    );
    assert_eq!(text(&docker.run(&["--entrypoint", "/bin/echo"], &["hello"]).stdout), "hello\n");
    let file = std::env::temp_dir().join(unique("profile.json"));
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#;
    fs::write(&file, profile).expect("it can be written");
    says(&["--security-opt", &format!("seccomp={}", file.display())], "mkdir /x || echo refused", "refused\n");
    fs::remove_file(&file).expect("it is there");
    assert_eq!(code(&docker.run(&[], &["sh", "-c", "exit 3"])), 3);
    assert_eq!(code(&docker.run(&[], &["no-such-program"])), 127);
    assert_eq!(code(&docker.run(&[], &["/etc/passwd"])), 126);
    docker.leaves_nothing();
}

#[test]
fn volumes_are_shared_with_the_host_and_among_containers() {
    let docker = Docker::start();
    let shared = std::env::temp_dir().join(unique("volume"));
    fs::create_dir_all(&shared).expect("it can be made");
    fs::write(shared.join("in"), "from outside\n").expect("it can be written");
    let (writable, readonly) = (format!("{}:/rw", shared.display()), format!("{}:/ro:ro", shared.display()));
    let said =
        printed(&docker, &["-v", &writable, "-v", &readonly], "cat /rw/in; echo x >/rw/out; echo y >/ro/no || cat /ro/out");
    assert_eq!(said, "from outside\nx\n");
    assert_eq!(fs::read_to_string(shared.join("out")).expect("it was written"), "x\n");
    printed(&docker, &["-v", "named:/n"], "echo kept >/n/file");
    assert_eq!(printed(&docker, &["-v", "named:/n"], "cat /n/file"), "kept\n");
    fs::remove_dir_all(&shared).expect("it is there");
}

#[test]
fn a_detached_container_goes_through_its_life() {
    let docker = Docker::start();
    let script = "trap 'echo term; exit 4' TERM; echo started; while :; do sleep 0.1; done";
    let id = docker.detached(&[], &["sh", "-c", script]);
    eventually("it says so", || docker.done(&["logs", &id]) == "started");
    assert!(docker.done(&["top", &id]).contains("bulkhead"));
    assert!(docker.done(&["stats", "--no-stream", &id]).contains(&id[..12]));
    docker.done(&["pause", &id]);
    assert_eq!(docker.inspect(&id, ".State.Status"), "paused");
    assert_ne!(code(&docker.call(&["exec", &id, "true"])), 0);
    docker.done(&["unpause", &id]);
    assert_eq!(docker.inspect(&id, ".State.Status"), "running");
    docker.done(&["update", "--memory", "100m", "--memory-swap", "200m", "--pids-limit", "50", &id]);
    assert_eq!(docker.done(&["exec", &id, "grep", "MemTotal", "/proc/meminfo"]), "MemTotal:         102400 kB");
    docker.done(&["stop", "-t", "20", &id]);
    assert_eq!((docker.done(&["logs", &id]), docker.inspect(&id, ".State.ExitCode")), ("started\nterm".into(), "4".into()));
    docker.done(&["start", &id]);
    docker.done(&["restart", "-t", "1", &id]);
    assert_eq!(docker.inspect(&id, ".State.Status"), "running");
    let waiting = docker.command(&["wait", &id]).stdout(Stdio::piped()).spawn().expect("it starts");
    docker.done(&["kill", "-s", "KILL", &id]);
    assert_eq!(text(&waiting.wait_with_output().expect("it ends").stdout), "137\n");
    docker.done(&["rm", &id]);
    docker.leaves_nothing();
}

#[test]
fn programs_are_executed_in_a_running_container() {
    let docker = Docker::start();
    let id = docker.detached(&["-e", "FROM=run"], &["sleep", "1000"]);
    let script = "id -u; pwd; echo $FROM $X; exit 9";
    let output = docker.call(&["exec", "-e", "X=exec", "-u", "3", "-w", "/tmp", &id, "sh", "-c", script]);
    assert_eq!((text(&output.stdout), code(&output)), ("3\n/tmp\nrun exec\n".into(), 9), "{}", text(&output.stderr));
    let mut child =
        docker.command(&["exec", "-i", &id, "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("it is piped").write_all(b"through\n").expect("it can be written");
    assert_eq!(text(&child.wait_with_output().expect("it ends").stdout), "through\n");
    docker.done(&["exec", "-d", &id, "sleep", "777"]);
    assert!(docker.done(&["exec", &id, "ps"]).contains("sleep 777"));
    assert_eq!(code(&docker.call(&["exec", &id, "no-such-program"])), 126);
    docker.done(&["rm", "-f", &id]);
    docker.leaves_nothing();
}

/// A shell on the terminal of a docker command that ends with `exit 3`.
fn talk(docker: &Docker, arguments: &[&str]) {
    let mut terminal = Terminal::run(&docker.command(arguments), 25, 90);
    let mut does = |typed: &str, shown: &str| {
        terminal.types(typed);
        terminal.shows(shown);
    };
    does("tty; echo do''ne\n", "/dev/pts/0\r\ndone\r\n");
    // The size, too, takes its way through dockerd, and may come after the shell.
    does("until [ \"$(stty size)\" = '25 90' ]; do sleep 0.05; done; echo si''zed\n", "sized\r\n");
    does("echo re''ady; cat\n", "ready\r\n");
    does("line\n", "line\r\nline\r\n");
    does("\x03", "^C");
    does("echo st''atus $?\n", "status 130\r\n");
    terminal.resize(30, 110);
    // The new size takes its way through dockerd.
    terminal.types("until [ \"$(stty size)\" = '30 110' ]; do sleep 0.05; done; echo res''ized; exit 3\n");
    terminal.shows("resized\r\n");
    assert_eq!(terminal.end(), 3, "{arguments:?}");
}

#[test]
fn containers_and_programs_in_them_have_terminals() {
    let docker = Docker::start();
    talk(&docker, &["run", "--rm", "-it", "--network", "none", "--runtime", "bulkhead", IMAGE, "sh"]);
    let container = docker.detached(&[], &["sleep", "1000"]);
    talk(&docker, &["exec", "-it", &container, "sh"]);
    docker.done(&["rm", "--force", &container]);
    assert_eq!(docker.processes(), Vec::<String>::new());
}

#[test]
fn without_an_overlay_docker_sees_what_a_container_writes() {
    let docker = Docker::start();
    let id = docker.detached(&["--runtime", "bulkhead-direct"], &["sh", "-c", "echo inside >/made; sleep 1000"]);
    eventually("it is written", || code(&docker.call(&["exec", &id, "test", "-s", "/made"])) == 0);
    assert_eq!(docker.done(&["diff", &id]), "A /made");
    let file = std::env::temp_dir().join(unique("copied"));
    let path = file.to_str().expect("it is text");
    docker.done(&["cp", &format!("{id}:/made"), path]);
    assert_eq!(fs::read_to_string(&file).expect("it was copied"), "inside\n");
    fs::write(&file, "outside\n").expect("it can be written");
    docker.done(&["cp", path, &format!("{id}:/from-outside")]);
    assert_eq!(docker.done(&["exec", &id, "cat", "/from-outside"]), "outside");
    docker.done(&["restart", "-t", "0", &id]);
    assert_eq!(docker.done(&["exec", &id, "cat", "/from-outside"]), "outside");
    docker.done(&["commit", &id, "committed"]);
    docker.done(&["rm", "-f", &id]);
    assert_eq!(
        docker.done(&["run", "--rm", "--network", "none", "--runtime", "bulkhead", "committed", "cat", "/made"]),
        "inside"
    );
    fs::remove_file(&file).expect("it is there");
}

#[test]
fn twenty_containers_at_once_come_and_go() {
    let docker = Docker::start();
    let arguments = ["run", "--rm", "--network", "none", "--runtime", "bulkhead", IMAGE, "sh", "-c", "echo here; sleep 1"];
    let children: Vec<_> =
        (0..20).map(|_| docker.command(&arguments).stdout(Stdio::piped()).spawn().expect("it starts")).collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((text(&output.stdout), code(&output)), ("here\n".into(), 0));
    }
    docker.leaves_nothing();
    assert_eq!(docker.done(&["ps", "--all", "--quiet"]), "");
}

#[test]
fn a_service_that_is_killed_ends_the_container_with_an_error() {
    let docker = Docker::start();
    for service in ["sentry", "vfs", "gofer", "netstack"] {
        let id = docker.detached(&[], &["sleep", "1000"]);
        let supervisor = docker.inspect(&id, ".State.Pid");
        let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).expect("it runs");
        let name = format!("bulkhead-{service}");
        let pid = children
            .split_whitespace()
            .find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(name.as_bytes())))
            .expect("the service runs");
        let pid = nix::unistd::Pid::from_raw(pid.parse().expect("it is a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it is there");
        eventually("the container has ended", || docker.inspect(&id, ".State.Status") == "exited");
        assert_eq!(docker.inspect(&id, ".State.ExitCode"), "200", "{service}");
        docker.done(&["rm", &id]);
    }
    docker.leaves_nothing();
}

#[test]
fn a_container_outlives_dockerd_and_is_found_again() {
    let mut docker = Docker::start();
    let script = "trap 'echo term; exit 4' TERM; echo started; while :; do sleep 0.1; done";
    let id = docker.detached(&[], &["sh", "-c", script]);
    eventually("it says so", || docker.done(&["logs", &id]) == "started");
    let supervisor = docker.inspect(&id, ".State.Pid");
    docker.crash();
    assert_eq!((docker.inspect(&id, ".State.Status"), docker.inspect(&id, ".State.Pid")), ("running".into(), supervisor));
    assert_eq!(docker.done(&["exec", &id, "echo", "still here"]), "still here");
    docker.done(&["stop", "-t", "20", &id]);
    assert_eq!((docker.done(&["logs", &id]), docker.inspect(&id, ".State.ExitCode")), ("started\nterm".into(), "4".into()));
    // One that ends while nobody looks is found to have ended.
    docker.done(&["start", &id]);
    let supervisor = docker.inspect(&id, ".State.Pid").parse().expect("it is a pid");
    let started = docker.inspect(&id, ".State.StartedAt");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL).expect("it is there");
    docker.crash();
    eventually("it has ended", || docker.inspect(&id, ".State.Status") == "exited");
    assert_eq!(docker.inspect(&id, ".State.StartedAt"), started);
    docker.done(&["rm", &id]);
    docker.leaves_nothing();
}

/// `make fleet` has a hundred.
#[test]
fn idle_containers_start_answer_exec_and_stop() {
    let count = std::env::var("BULKHEAD_FLEET").map_or(8, |count| count.parse().expect("BULKHEAD_FLEET is a number"));
    let docker = Docker::start();
    let fleet: Vec<String> = (0..count).map(|_| docker.detached(&["--init"], &["sleep", "100000"])).collect();
    for (number, id) in fleet.iter().enumerate() {
        assert_eq!(docker.done(&["exec", id, "echo", &number.to_string()]), number.to_string());
    }
    let stop: Vec<&str> = ["stop", "--time", "60"].into_iter().chain(fleet.iter().map(String::as_str)).collect();
    docker.done(&stop);
    for id in &fleet {
        assert_eq!(docker.inspect(id, ".State.ExitCode"), "143");
    }
    let remove: Vec<&str> = ["rm"].into_iter().chain(fleet.iter().map(String::as_str)).collect();
    docker.done(&remove);
    docker.leaves_nothing();
}
