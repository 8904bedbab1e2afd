//! Guests written in C that talk with the test in lines.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;

use crate::{
    bundle::{Bundle, unique},
    conversation::Conversation,
    leftovers::Leftovers,
    processes::{Holdings, SERVICES, cpu_time, service},
    runtime::{Runtime, exit_code},
    tree, workspace,
};

/// Compiles a C program of `integration/guests` (a file, or a folder of files), statically.
pub fn compile(source: &str, program: &Path) {
    let source = workspace().join("integration/guests").join(source);
    let mut command = Command::new("cc");
    command.args(["-O1", "-static", "-pthread", "-w", "-o"]).arg(program);
    if source.is_dir() {
        let files = source.read_dir().expect("the folder can be read").map(|file| file.expect("so can its entries").path());
        command.args(files.filter(|file| file.extension().is_some_and(|extension| extension == "c")));
    } else {
        command.arg(&source);
    }
    assert!(command.status().expect("there is a C compiler").success(), "{} compiles", source.display());
}

/// A running sandbox whose guest talks in lines.
#[derive(Debug)]
pub struct Guest {
    runtime: Runtime,
    id: String,
    run: Conversation,
    _bundle: Bundle,
}

impl Guest {
    /// A C program of `integration/guests` in the busybox tree.
    pub fn start(source: &str, arguments: &[&str]) -> Guest {
        Guest::start_by(&[], source, arguments)
    }

    /// As [`Guest::start`], with the runtime started by a program and its arguments (taskset, say).
    pub fn start_by(prefix: &[&str], source: &str, arguments: &[&str]) -> Guest {
        Guest::launch(prefix, arguments, |_| {}, |rootfs| compile(source, &rootfs.join("guest")))
    }

    /// A program in the busybox tree that `build` puts there, as `guest`.
    pub fn built(arguments: &[&str], build: impl FnOnce(&Path)) -> Guest {
        Guest::launch(&[], arguments, |_| {}, build)
    }

    /// As [`Guest::start`], with another configuration.
    pub fn configured(source: &str, change: impl FnOnce(&mut Value)) -> Guest {
        Guest::launch(&[], &[], change, |rootfs| compile(source, &rootfs.join("guest")))
    }

    fn launch(prefix: &[&str], arguments: &[&str], change: impl FnOnce(&mut Value), build: impl FnOnce(&Path)) -> Guest {
        let mut all = vec!["/guest"];
        all.extend(arguments);
        let mut bundle = Bundle::new(&tree("busybox"), &all);
        bundle.configure(change);
        build(&bundle.rootfs());
        let (runtime, id) = (Runtime::bulkhead(), unique("hostile"));
        let run = runtime.command(&["run", "--bundle"]);
        let mut words = prefix.iter().map(OsStr::new).chain([run.get_program()]).chain(run.get_args());
        let mut command = Command::new(words.next().expect("there is the runtime at least"));
        command.args(words).arg(bundle.path()).arg(&id);
        let run = Conversation::start(command).expect("it starts");
        Guest { runtime, id, run, _bundle: bundle }
    }

    /// What it says next, if it says anything within that time.
    pub fn next_line(&mut self, within: Duration) -> Option<String> {
        self.run.hear(within).ok()
    }

    /// It says this next.
    pub fn says(&mut self, word: &str, within: Duration, about: &str) {
        let line = self.run.hear(within);
        if line.as_deref() != Ok(word) {
            let what = line.map_or_else(|error| error.to_string(), |line| format!("{line:?}"));
            panic!("{about}: not {word:?} but {what}");
        }
    }

    /// Gives it the line that it waits for.
    pub fn go_on(&mut self) {
        self.run.go_on().expect("it reads");
    }

    /// What the services hold of the host.
    pub fn holdings(&self) -> Vec<(&'static str, Holdings)> {
        let pid = self.run.pid();
        SERVICES.iter().map(|name| (*name, Holdings::of(service(pid, name).expect("it runs")))).collect()
    }

    /// CPU time that the sandbox has used so far.
    pub fn cpu_time(&self) -> Duration {
        cpu_time(self.run.pid())
    }

    /// `kill` with SIGKILL.
    pub fn kill(&self) -> Output {
        self.runtime.call(&["kill", &self.id, "KILL"])
    }

    /// Its exit code and what was said on standard error.
    pub fn end(mut self, within: Duration) -> (i32, String) {
        let Some((status, errors)) = self.run.end(within) else { panic!("it does not end within {within:?}") };
        Leftovers::of(&self.runtime).assert_none();
        (exit_code(status), errors)
    }
}

impl Drop for Guest {
    /// Also when a test fails, nothing stays behind.
    fn drop(&mut self) {
        if !self.run.has_ended() {
            let _ = self.runtime.command(&["delete", "--force", &self.id]).status();
        }
    }
}
