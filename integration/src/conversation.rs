//! A child process that talks in lines: it says a word and waits for a line before it goes on.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use crate::runtime::text;

/// The child and what it says. It is killed when this is dropped.
#[derive(Debug)]
pub struct Conversation {
    child: Child,
    lines: Receiver<String>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Conversation {
    /// Starts the command.
    pub fn start(mut command: Command) -> std::io::Result<Conversation> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let lines = lines(child.stdout.take().expect("it is piped"));
        let mut stderr = child.stderr.take().expect("it is piped");
        let errors = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            text(&bytes)
        });
        Ok(Conversation { child, lines, errors: Some(errors) })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line it says; an error when it says nothing more, or nothing for so long.
    pub fn hear(&self, within: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.recv_timeout(within)
    }

    /// Gives it the line that it waits for.
    pub fn go_on(&mut self) -> std::io::Result<()> {
        self.child.stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?.write_all(b"\n")
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended and what was said on standard error, after it was given no more lines; `None` when it does not end in time.
    pub fn end(&mut self, within: Duration) -> Option<(ExitStatus, String)> {
        drop(self.child.stdin.take());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if start.elapsed() >= within {
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        };
        Some((status, self.errors.take().map_or_else(String::new, |reader| reader.join().expect("the reader does not panic"))))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
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
