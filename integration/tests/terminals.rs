//! Terminals within a container and the container's own, as Linux has them.

use std::{
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
    process::{Command, Stdio},
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::Leftovers,
    runtime::{Runtime, code, eventually, text},
    scene::Scene,
    terminal::Terminal,
    tree, workspace,
};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// What the guest `integration/guests/terminals.c` sees under a runtime.
fn guest_under(runtime: &Runtime) -> String {
    let bundle = Bundle::new(&tree("busybox"), &["/guest"]);
    let compiled = Command::new("cc")
        .args(["-O1", "-static", "-w", "-o"])
        .arg(bundle.rootfs().join("guest"))
        .arg(workspace().join("integration/guests/terminals.c"))
        .status();
    assert!(compiled.expect("there is a C compiler").success(), "the guest compiles");
    let output = runtime.run(&bundle, b"");
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn pseudo_terminals_and_job_control_are_those_of_linux() {
    let expected = guest_under(&Runtime::runc());
    let runtime = Runtime::bulkhead();
    let got = guest_under(&runtime);
    for (number, (got, expected)) in got.lines().zip(expected.lines()).enumerate() {
        assert_eq!(got, expected, "line {}", number + 1);
    }
    assert_eq!(got.lines().count(), expected.lines().count());
    assert!(expected.lines().count() > 100, "it saw little:\n{expected}");
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn script_runs_a_shell_on_a_terminal() {
    Scene::bash(
        r#"
        script -qec 'tty; stty -a; echo $-; ps -o tty,stat,comm' /dev/null </dev/null
        script -qec 'stty rows 12 cols 34; stty size; exit 3' /dev/null </dev/null; echo "status $?"
        ls -l /dev/ptmx /dev/pts | tr -s ' ' | cut -d ' ' -f 1,3-6,10-
        tty; echo "$?"; stty size; echo >/dev/tty
        "#,
    )
    .same();
}

/// A bundle whose program has a terminal.
fn bundle(name: &str, arguments: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(&tree(name), arguments);
    bundle.configure(|config| {
        config["process"]["terminal"] = true.into();
        config["process"]["env"].as_array_mut().expect("a list").push("PS1=prompt: ".into());
    });
    bundle
}

const SHELL: [&str; 4] = ["/bin/bash", "--norc", "--noprofile", "--noediting"];

/// A job that says when it runs and when it goes on: a shell gives it the terminal before it lets it go on. What it says is not how it
/// is typed. It starts nothing while it may be stopped: a child that is stopped between vfork(2) and execve(2) would hold it up.
const JOB: &str = "sh -c 'trap \"echo con\"\"tinued\" CONT; sleep 1000 & echo run\"\"ning; while :; do wait; done'\n";

/// What a person does at a shell's terminal; the shell has been started, and is left running.
fn work_at(terminal: &mut Terminal, rows: u16, columns: u16) {
    let mut does = |typed: &str, shown: &str| {
        terminal.types(typed);
        terminal.shows(shown)
    };
    does("", "prompt: ");
    does("stty size\n", &format!("{rows} {columns}\r\nprompt: "));
    does("echo $-\n", "m");
    does(JOB, "running\r\n");
    does("\x1a", "Stopped");
    does("", "prompt: ");
    does("jobs; echo do''ne\n", "[1]+  Stopped");
    does("", "done\r\nprompt: ");
    does("fg\n", "continued\r\n");
    does("\x1a", "Stopped");
    does("", "prompt: ");
    does("bg\n", "continued\r\n");
    does("jobs; echo do''ne\n", "[1]+  Running");
    does("", "done\r\nprompt: ");
    does("kill %1; wait %1; echo st''atus $?\n", "status 143\r\nprompt: ");
    does(JOB, "running\r\n");
    does("\x03", "prompt: ");
    does("echo st''atus $?\n", "status 130\r\nprompt: ");
    does("cat\n", "cat\r\n");
    does("line\n", "line\r\nline\r\n");
    does("\x04", "prompt: ");
    does("(trap 'echo res''ized; stty size; exit' WINCH; echo re''ady; while :; do sleep 0.05; done)\n", "ready\r\n");
    terminal.resize(30, 110);
    terminal.shows("resized\r\n30 110\r\nprompt: ");
}

#[test]
fn a_shell_in_the_foreground_has_the_callers_terminal() {
    for runtime in [Runtime::runc(), Runtime::bulkhead()] {
        let bundle = bundle("debian", &SHELL);
        let mut command = runtime.command(&["run", "--bundle"]);
        command.arg(bundle.path()).arg(unique("terminal"));
        let mut terminal = Terminal::run(&command, 25, 90);
        let before = terminal.settings();
        work_at(&mut terminal, 25, 90);
        terminal.types("tty; ls -l /dev/pts/0 /dev/console | cut -c 1-10; ps -o tty,args -p $$; exit 7\n");
        terminal.shows("/dev/pts/0\r\ncrw--w----\r\ncrw--w----\r\n");
        terminal.shows("pts/0    /bin/bash");
        assert_eq!(terminal.end(), 7, "under {runtime:?}");
        let settings = terminal.settings();
        assert_eq!(settings.lines().skip(1).collect::<Vec<_>>(), before.lines().skip(1).collect::<Vec<_>>());
    }
}

#[test]
fn smaller_shells_have_jobs_too() {
    let runtime = Runtime::bulkhead();
    for (name, shell) in [("debian", "/bin/dash"), ("busybox", "/bin/ash")] {
        let bundle = bundle(name, &[shell, "-i"]);
        let mut command = runtime.command(&["run", "--bundle"]);
        command.arg(bundle.path()).arg(unique("terminal"));
        let mut terminal = Terminal::run(&command, 25, 90);
        let mut does = |typed: &str, shown: &str| {
            terminal.types(typed);
            terminal.shows(shown)
        };
        does("", "prompt: ");
        does(JOB, "running\r\n");
        does("\x1a", "prompt: ");
        does("jobs; echo do''ne\n", "Stopped");
        does("", "done\r\nprompt: ");
        does("fg %1\n", "continued\r\n");
        does("\x03", "prompt: ");
        does("echo st''atus $?; exit 4\n", "status 130\r\n");
        assert_eq!(terminal.end(), 4, "{shell}");
    }
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn last_words_are_shown_and_the_size_may_be_configured() {
    let runtime = Runtime::bulkhead();
    let mut bundle = bundle("debian", &["/bin/bash", "-c", "stty size; seq 20000; exit 3"]);
    bundle.configure(|config| config["process"]["consoleSize"] = serde_json::json!({ "height": 11, "width": 22 }));
    let mut command = runtime.command(&["run", "--bundle"]);
    command.arg(bundle.path()).arg(unique("terminal"));
    let mut terminal = Terminal::run(&command, 25, 90);
    terminal.shows("11 22\r\n1\r\n2\r\n");
    terminal.shows("\r\n19999\r\n20000\r\n");
    assert_eq!(terminal.end(), 3);
    Leftovers::of(&runtime).assert_none();
}

/// A console socket, as containerd's shim has one.
struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    fn new(bundle: &Bundle) -> ConsoleSocket {
        let path = bundle.path().join(unique("console"));
        let listener = UnixListener::bind(&path).expect("a socket");
        ConsoleSocket { path, listener }
    }

    /// The master that was sent.
    fn receive(&self) -> OwnedFd {
        let (stream, _) = self.listener.accept().expect("somebody connects");
        let mut name = [0; 64];
        let mut parts = [IoSliceMut::new(&mut name)];
        let mut space = nix::cmsg_space!([i32; 1]);
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).expect("a message");
        let mut sent = message.cmsgs().expect("it was not cut").filter_map(|part| match part {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let fd = sent.next().expect("an fd came with it");
        // SAFETY: the host has just made this fd for us, and nobody else owns it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }
}

fn status(runtime: &Runtime, id: &str) -> String {
    let state: serde_json::Value = serde_json::from_slice(&runtime.call(&["state", id]).stdout).expect("JSON");
    state["status"].as_str().expect("a status").to_owned()
}

/// A command that must not keep the test's pipes open.
fn succeeds(mut command: Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("it starts").success(), "{command:?}");
}

#[test]
fn a_console_socket_gets_the_master() {
    let runtime = Runtime::bulkhead();
    let bundle = bundle("debian", &SHELL);
    let (socket, id) = (ConsoleSocket::new(&bundle), unique("terminal"));
    let mut command = runtime.command(&["create", "--console-socket"]);
    command.arg(&socket.path).arg("--bundle").arg(bundle.path()).arg(&id);
    succeeds(command);
    let mut terminal = Terminal::of(socket.receive());
    terminal.resize(40, 120);
    succeeds(runtime.command(&["start", &id]));
    work_at(&mut terminal, 40, 120);
    terminal.types("exit 5\n");
    assert!(terminal.rest().contains("exit"));
    eventually("it has stopped", || status(&runtime, &id) == "stopped");
    assert_eq!(code(&runtime.call(&["delete", &id])), 0);
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn who_closes_the_master_hangs_up() {
    let runtime = Runtime::bulkhead();
    let mut bundle = bundle(
        "debian",
        &["/bin/bash", "-c", "trap 'echo hung up >/shared/word; exit' HUP; echo re''ady; while :; do sleep 0.1; done"],
    );
    let shared = bundle.path().join("shared");
    fs::create_dir_all(&shared).expect("a directory can be made");
    let mount = serde_json::json!({ "destination": "/shared", "type": "bind", "source": shared, "options": ["rbind"] });
    bundle.configure(|config| config["mounts"].as_array_mut().expect("there are mounts").push(mount));
    let (socket, id) = (ConsoleSocket::new(&bundle), unique("terminal"));
    let mut command = runtime.command(&["run", "--detach", "--console-socket"]);
    command.arg(&socket.path).arg("--bundle").arg(bundle.path()).arg(&id);
    succeeds(command);
    let mut terminal = Terminal::of(socket.receive());
    terminal.shows("ready\r\n");
    terminal.close();
    eventually("it has heard", || fs::read_to_string(shared.join("word")).is_ok_and(|word| word == "hung up\n"));
    eventually("it has stopped", || status(&runtime, &id) == "stopped");
    assert_eq!(code(&runtime.call(&["delete", &id])), 0);
}

/// A container without a terminal that sleeps.
fn sleeper(runtime: &Runtime, id: &str) -> Bundle {
    let bundle = Bundle::new(&tree("debian"), &["/bin/sleep", "1000"]);
    let mut command = runtime.command(&["run", "--detach", "--bundle"]);
    command.arg(bundle.path()).arg(id);
    succeeds(command);
    bundle
}

#[test]
fn exec_with_a_terminal_in_the_foreground() {
    for runtime in [Runtime::runc(), Runtime::bulkhead()] {
        let id = unique("terminal");
        let _bundle = sleeper(&runtime, &id);
        let mut command = runtime.command(&["exec", "--tty", "--env", "PS1=prompt: ", &id]);
        command.args(SHELL);
        let mut terminal = Terminal::run(&command, 25, 90);
        work_at(&mut terminal, 25, 90);
        terminal.types("tty; ps -o tty,args -p $$; exit 7\n");
        terminal.shows("/dev/pts/0\r\n");
        terminal.shows("pts/0    /bin/bash");
        assert_eq!(terminal.end(), 7, "under {runtime:?}");
        assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
    }
}

#[test]
fn exec_with_a_console_socket() {
    let runtime = Runtime::bulkhead();
    let id = unique("terminal");
    let bundle = sleeper(&runtime, &id);
    let socket = ConsoleSocket::new(&bundle);
    let pid_file = bundle.path().join("exec-pid");
    let mut command = runtime.command(&["exec", "--detach", "--tty", "--env", "PS1=prompt: ", "--console-socket"]);
    command.arg(&socket.path).arg("--pid-file").arg(&pid_file).arg(&id).args(SHELL);
    succeeds(command);
    let mut terminal = Terminal::of(socket.receive());
    terminal.resize(40, 120);
    work_at(&mut terminal, 40, 120);
    let pid = fs::read_to_string(&pid_file).expect("the pid file is there");
    assert!(PathBuf::from(format!("/proc/{}", pid.trim())).exists(), "a process stands for the program");
    // It ends with the shell, though a job that was left behind has the terminal open.
    terminal.types("exit\n");
    terminal.shows("exit\r\n");
    eventually("nothing stands for it", || !PathBuf::from(format!("/proc/{}/ns/pid", pid.trim())).exists());
    assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
    Leftovers::of(&runtime).assert_none();
}
