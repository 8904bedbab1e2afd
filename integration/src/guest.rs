//! Guests written in C that talk with the test in lines.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    bundle::{Bundle, unique},
    leftovers::Leftovers,
    processes::{Holdings, SERVICES, service},
    runtime::{Runtime, exit_code, text},
    tree, workspace,
};

/// A running sandbox whose guest talks in lines.
#[derive(Debug)]
pub struct Guest {
    runtime: Runtime,
    id: String,
    run: Child,
    lines: Receiver<String>,
    errors: Option<thread::JoinHandle<String>>,
    _bundle: Bundle,
}

impl Guest {
    /// A C program of `integration/guests` in the busybox tree.
    pub fn start(source: &str, arguments: &[&str]) -> Guest {
        let mut all = vec!["/guest"];
        all.extend(arguments);
        let bundle = Bundle::new(&tree("busybox"), &all);
        let compiled = Command::new("cc")
            .args(["-O1", "-static", "-pthread", "-w", "-o"])
            .arg(bundle.rootfs().join("guest"))
            .arg(workspace().join("integration/guests").join(source))
            .status();
        assert!(compiled.expect("there is a C compiler").success(), "{source} compiles");
        let (runtime, id) = (Runtime::bulkhead(), unique("hostile"));
        let mut command = runtime.command(&["run", "--bundle"]);
        command.arg(bundle.path()).arg(&id).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = command.spawn().expect("it starts");
        let lines = lines(run.stdout.take().expect("it is piped"));
        let mut stderr = run.stderr.take().expect("it is piped");
        let errors = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            text(&bytes)
        });
        Guest { runtime, id, run, lines, errors: Some(errors), _bundle: bundle }
    }

    /// It says this next.
    pub fn says(&mut self, word: &str, within: Duration, about: &str) {
        let line = self.lines.recv_timeout(within);
        if line.as_deref() != Ok(word) {
            let what = line.map_or_else(|error| error.to_string(), |line| format!("{line:?}"));
            panic!("{about}: not {word:?} but {what}");
        }
    }

    /// Gives it the line that it waits for.
    pub fn go_on(&mut self) {
        self.run.stdin.as_mut().expect("it is piped").write_all(b"\n").expect("it reads");
    }

    /// What the services hold of the host.
    pub fn holdings(&self) -> Vec<(&'static str, Holdings)> {
        SERVICES.iter().map(|name| (*name, Holdings::of(service(self.run.id(), name).expect("it runs")))).collect()
    }

    /// `kill` with SIGKILL.
    pub fn kill(&self) -> Output {
        self.runtime.call(&["kill", &self.id, "KILL"])
    }

    /// Its exit code and what was said on standard error.
    pub fn end(mut self, within: Duration) -> (i32, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.run.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(start.elapsed() < within, "it does not end within {within:?}");
            thread::sleep(Duration::from_millis(5));
        };
        let errors = self.errors.take().map_or_else(String::new, |reader| reader.join().expect("the reader does not panic"));
        Leftovers::of(&self.runtime).assert_none();
        (exit_code(status), errors)
    }
}

impl Drop for Guest {
    /// Also when a test fails, nothing stays behind.
    fn drop(&mut self) {
        if matches!(self.run.try_wait(), Ok(None)) {
            let _ = self.runtime.command(&["delete", "--force", &self.id]).status();
            let _ = self.run.kill();
            let _ = self.run.wait();
        }
    }
}

fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
