//! Reading: a line at a time in canonical mode, else whatever there is.

use super::{Control, Discipline};
use crate::Errno;

impl Discipline {
    /// Characters that a read would find.
    pub fn available(&self) -> usize {
        match self.canonical() && !self.external() {
            true => self.lines,
            false => self.cells.len(),
        }
    }

    /// Whether poll(2) says that it can be read: in raw mode without a timer, when a read would get all that it wants.
    pub fn can_read(&self) -> bool {
        let control = |which| usize::from(self.termios.control(which));
        let raw = !self.canonical() && control(Control::Time) == 0;
        self.available() >= if raw { control(Control::Minimum).max(1) } else { 1 }
    }

    /// Characters that can be read, without the marks of ends of file (FIONREAD).
    pub fn count(&self) -> usize {
        self.cells.iter().take(self.available()).filter(|cell| !(cell.end && cell.byte == 0)).count()
    }

    /// Gives up to `limit` characters to `sink`, which says how many it took; `None` when there is nothing to read. In canonical
    /// mode no more than one line; an end of file at its beginning is a read of nothing.
    pub fn read(&mut self, limit: usize, sink: impl FnOnce(&[u8]) -> Result<usize, Errno>) -> Option<Result<usize, Errno>> {
        let available = self.available();
        if available == 0 {
            return None;
        }
        let lines = self.canonical() && !self.external();
        let wanted = limit.min(available);
        // Bytes to give, and cells that are gone then.
        let (bytes, mut used) = match lines.then(|| self.cells.iter().take(wanted).position(|cell| cell.end)).flatten() {
            Some(end) if self.cells[end].byte == 0 => (end, end + 1),
            Some(end) => (end + 1, end + 1),
            None => (wanted, wanted),
        };
        let text: Vec<u8> = self.cells.iter().take(bytes).map(|cell| cell.byte).collect();
        match sink(&text) {
            Ok(taken) => {
                if taken < bytes {
                    used = taken;
                }
                self.consume(used, lines);
                Some(Ok(taken))
            }
            Err(errno) => Some(Err(errno)),
        }
    }

    fn consume(&mut self, used: usize, lines: bool) {
        let mut ended = self.cells.drain(..used).any(|cell| cell.end);
        self.lines -= used.min(self.lines);
        // A line that fitted exactly is at its end: the end-of-file mark behind it is not a line of its own.
        if lines && !ended && self.lines > 0 && self.cells.front().is_some_and(|cell| cell.end && cell.byte == 0) {
            self.cells.pop_front();
            self.lines -= 1;
            ended = true;
        }
        if ended {
            self.pushed = false;
        }
    }
}
