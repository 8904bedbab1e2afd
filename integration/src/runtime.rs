//! OCI runtimes as commands, each with a state directory of its own.

use std::{
    fs,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    bundle::{Bundle, unique},
    workspace,
};

/// A hang is a failure: no call of a runtime takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A runtime with its own `--root`, which goes with it.
#[derive(Debug)]
pub struct Runtime {
    program: PathBuf,
    root: PathBuf,
}

impl Runtime {
    /// The Bulkhead that was built from this tree.
    pub fn bulkhead() -> Runtime {
        let program = std::env::var_os("BULKHEAD_BIN").map_or_else(|| workspace().join("target/release/bulkhead"), PathBuf::from);
        assert!(program.exists(), "{} is not there: run `make build`", program.display());
        Runtime::new(program)
    }

    /// The reference.
    pub fn runc() -> Runtime {
        Runtime::new(PathBuf::from("runc"))
    }

    fn new(program: PathBuf) -> Runtime {
        let root = std::env::temp_dir().join(unique("bulkhead-root"));
        Runtime { program, root }
    }

    /// Its state directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command line up to the arguments given.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn call(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments), b"")
    }

    /// As [`Runtime::call`], from this working directory.
    pub fn call_in(&self, directory: &Path, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.current_dir(directory);
        finish(command, b"")
    }

    /// `run` of a bundle, with `input` on standard input.
    pub fn run(&self, bundle: &Bundle, input: &[u8]) -> Output {
        let mut command = self.command(&["run", "--bundle"]);
        command.arg(bundle.path()).arg(unique("c"));
        finish(command, input)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A test that failed may leave containers.
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let _ = self.command(&["delete", "--force"]).arg(entry.file_name()).stderr(Stdio::null()).status();
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Runs a command to its end and collects what it says; panics when it hangs.
pub fn finish(mut command: Command, input: &[u8]) -> Output {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child =
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the runtime can be started");
    let mut stdin = child.stdin.take();
    let input = input.to_vec();
    // A program that does not read all of its input is no failure of the test.
    let writer = thread::spawn(move || stdin.as_mut().map(|pipe| pipe.write_all(&input)));
    let stdout = collect(child.stdout.take().expect("it is piped"));
    let stderr = collect(child.stderr.take().expect("it is piped"));
    let status = wait(&mut child, &command);
    let _ = writer.join();
    Output {
        status,
        stdout: stdout.join().expect("the reader does not panic"),
        stderr: stderr.join().expect("the reader does not panic"),
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn wait(child: &mut Child, command: &Command) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it hangs: {command:?} killed after {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Output as text, for messages and comparisons.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, or 128 + signal as shells have it.
pub fn code(output: &Output) -> i32 {
    exit_code(output.status)
}

/// As [`code`].
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Waits until `condition` holds; panics with `what` when it does not within ten seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "not within ten seconds: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
