//! A guest that does its worst hurts nobody but itself.
//!
//! The guest is `integration/guests/hostile.c`. `BULKHEAD_SEED` and `BULKHEAD_HOSTILE_SECONDS` let it rage otherwise and longer.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::Leftovers,
    processes::{Holdings, SERVICES, service},
    runtime::{Runtime, code, text},
    tree, workspace,
};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |value| value.parse().expect("it is a number"))
}

/// A running sandbox whose guest talks in lines.
struct Guest {
    runtime: Runtime,
    id: String,
    run: Child,
    lines: Receiver<String>,
    errors: thread::JoinHandle<String>,
    _bundle: Bundle,
}

impl Guest {
    /// A C program of `integration/guests` in the busybox tree.
    fn start(source: &str, arguments: &[&str]) -> Guest {
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
        Guest { runtime, id, run, lines, errors, _bundle: bundle }
    }

    /// It says this next.
    fn says(&mut self, word: &str, within: Duration, about: &str) {
        let line = self.lines.recv_timeout(within);
        if line.as_deref() != Ok(word) {
            let what = line.map_or_else(|error| error.to_string(), |line| format!("{line:?}"));
            let _ = self.run.kill();
            let status = self.run.wait();
            panic!("{about}: not {word:?} but {what}; {status:?}");
        }
    }

    fn go_on(&mut self) {
        self.run.stdin.as_mut().expect("it is piped").write_all(b"\n").expect("it reads");
    }

    fn holdings(&self) -> Vec<(&'static str, Holdings)> {
        SERVICES.iter().map(|name| (*name, Holdings::of(service(self.run.id(), name).expect("it runs")))).collect()
    }

    /// Its exit code and what was said on standard error.
    fn end(mut self, within: Duration) -> (i32, String) {
        let start = Instant::now();
        while start.elapsed() < within && self.run.try_wait().expect("it can be waited for").is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        let late = self.run.try_wait().expect("it can be waited for").is_none();
        if late {
            let _ = self.run.kill();
        }
        let output = self.run.wait_with_output().expect("it ends");
        let errors = self.errors.join().expect("the reader does not panic");
        assert!(!late, "it does not end within {within:?}: {errors}");
        Leftovers::of(&self.runtime).assert_none();
        (code(&output), errors)
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

/// No service holds much more than it did.
fn assert_no_growth(before: &[(&str, Holdings)], after: &[(&str, Holdings)], about: &str) {
    for ((name, before), (_, after)) in before.iter().zip(after) {
        assert!(
            after.private_kilobytes < before.private_kilobytes + 24 * 1024
                && after.shared_kilobytes < before.shared_kilobytes + 16 * 1024
                && after.files < before.files + 32
                && after.threads < before.threads + 8,
            "{about}: {name} held {before:?} and holds {after:?}"
        );
    }
}

#[test]
fn a_guest_that_does_its_worst_hurts_only_itself() {
    let (seed, seconds) = (setting("BULKHEAD_SEED", 1), setting("BULKHEAD_HOSTILE_SECONDS", 20));
    let about = format!("seed {seed}");
    let mut guest = Guest::start("hostile.c", &[&seed.to_string(), &seconds.to_string()]);
    guest.says("ready", Duration::from_secs(20), &about);
    let before = guest.holdings();
    guest.go_on();
    guest.says("quiet", Duration::from_secs(seconds + 30), &about);
    let after = guest.holdings();
    guest.go_on();
    let (code, errors) = guest.end(Duration::from_secs(10));
    assert!(code == 0 && !errors.contains("bulkhead:"), "{about}: {code}, {errors}");
    assert_no_growth(&before, &after, &about);
}

#[test]
fn a_guest_that_does_its_worst_can_be_killed() {
    let seed = setting("BULKHEAD_SEED", 2);
    let about = format!("seed {seed}");
    let mut guest = Guest::start("hostile.c", &[&seed.to_string(), "1000"]);
    guest.says("ready", Duration::from_secs(20), &about);
    guest.go_on();
    thread::sleep(Duration::from_secs(3));
    let killed = guest.runtime.call(&["kill", &guest.id, "KILL"]);
    assert_eq!(code(&killed), 0, "{about}: {}", text(&killed.stderr));
    let (code, errors) = guest.end(Duration::from_secs(3));
    assert!(code == 137 && !errors.contains("bulkhead:"), "{about}: {code}, {errors}");
}
