//! What a service writes to its log (and to stderr before it has one): handed on line by line, and the last line kept, because
//! it often says why the service ended.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};

use crate::error::{Error, Result};

/// Longer lines are cut in two.
const MAX_LINE: usize = 8 << 10;

/// Reads in one go at most, so that a service that writes without end does not have the supervisor to itself.
const MAX_READS: usize = 16;

/// The reading end of a service's log.
#[derive(Debug)]
pub struct Journal {
    pipe: Option<File>,
    unfinished: Vec<u8>,
    last: Option<String>,
    sink: Option<File>,
}

impl Journal {
    /// A journal that hands on what is written to `sink`, and the end that the service writes to.
    pub fn new(sink: Option<File>) -> Result<(Journal, OwnedFd)> {
        let doing = "make a log pipe";
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(Error::host(doing))?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Error::host(doing))?;
        Ok((Journal { pipe: Some(ours.into()), unfinished: Vec::new(), last: None, sink }, theirs))
    }

    /// What to poll, while the service can write.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Hands on what there is.
    pub fn pump(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..MAX_READS {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(length) => self.take(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, text: &[u8]) {
        for part in text.split_inclusive(|&byte| byte == b'\n') {
            self.unfinished.extend_from_slice(part);
            if !part.ends_with(b"\n") && self.unfinished.len() < MAX_LINE {
                continue;
            }
            if let Some(sink) = &mut self.sink {
                // A log that cannot be written must not end the sandbox.
                let _ = sink.write_all(&self.unfinished);
            }
            let line = String::from_utf8_lossy(&self.unfinished);
            let line = line.trim();
            if !line.is_empty() {
                self.last = Some(message_of(line));
            }
            self.unfinished.clear();
        }
    }

    /// The last message.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }
}

/// The message in a line of the services' log, JSON or text (`time LEVEL service[sandbox] message`), or the line itself.
fn message_of(line: &str) -> String {
    if let Ok(serde_json::Value::Object(event)) = serde_json::from_str(line)
        && let Some(message) = event.get("message").and_then(|m| m.as_str())
    {
        return one_line(message);
    }
    let is_event = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].iter().any(|level| line.split_whitespace().nth(1) == Some(level));
    match line.split_once("] ") {
        Some((_, message)) if is_event => one_line(message),
        _ => one_line(line),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_is_kept_in_whatever_pieces_it_came() {
        let (mut journal, _theirs) = Journal::new(None).unwrap();
        journal.take(b"2026-11-26T16:00:00Z  WARN vfs[c1] one\n2026-11-26T16:00:01Z ERROR vfs[c1] pani");
        assert_eq!(journal.last(), Some("one"));
        journal.take(b"cked: at x\n");
        assert_eq!(journal.last(), Some("panicked: at x"));
        journal.take(b"{\"level\":\"ERROR\",\"message\":\"two\\nlines\"}\nplain words\n");
        assert_eq!(journal.last(), Some("plain words"));
    }
}
