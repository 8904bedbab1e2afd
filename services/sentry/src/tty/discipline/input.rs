//! Input: characters from the master on their way to readers.

use super::{Cell, Control as C, Discipline, Effects, I, L, Output, SIZE};

fn lower(byte: u8) -> u8 {
    match byte {
        // The kernel's tables are Latin-1's.
        0xc0..=0xde if byte != 0xd7 => byte + 0x20,
        _ => byte.to_ascii_lowercase(),
    }
}

impl Discipline {
    /// Takes what the master wrote, as far as there is room; how many bytes of it.
    pub fn receive(&mut self, bytes: &[u8], output: &mut Output, effects: &mut Effects) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            let free = SIZE - self.cells.len();
            // A marked character takes three places.
            let free = if self.termios.has_input(I::PARMRK) { free.div_ceil(3) } else { free };
            let mut room = free.saturating_sub(1);
            if room == 0 {
                // A line that is too long is cut: its last character is replaced until the line ends.
                if !self.canonical() || self.lines > 0 {
                    break;
                }
                if free == 0 {
                    self.cells.pop_back();
                }
                room = 1;
            }
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.receive_some(now, output, effects);
            rest = later;
        }
        bytes.len() - rest.len()
    }

    fn receive_some(&mut self, bytes: &[u8], output: &mut Output, effects: &mut Effects) {
        let strips = self.termios.has_input(I::ISTRIP) || self.lowers();
        if self.raw || self.external() && !strips {
            bytes.iter().for_each(|byte| self.keep(*byte));
        } else {
            for &byte in bytes {
                self.receive_one(byte, output, effects);
            }
            self.process_echoes(output);
        }
        if !self.canonical() || self.external() {
            effects.readable |= !self.cells.is_empty();
        }
    }

    fn lowers(&self) -> bool {
        self.termios.has_input(I::IUCLC) && self.termios.has_local(L::IEXTEN)
    }

    fn keep(&mut self, byte: u8) {
        if self.cells.len() < SIZE {
            self.cells.push_back(Cell { byte, end: false });
        }
    }

    /// Keeps a character that readers get; 0xff is doubled where it introduces a mark.
    fn keep_marked(&mut self, byte: u8) {
        if byte == 0xff && self.termios.has_input(I::PARMRK) {
            self.keep(byte);
        }
        self.keep(byte);
    }

    fn receive_one(&mut self, byte: u8, output: &mut Output, effects: &mut Effects) {
        let mut byte = byte;
        if self.termios.has_input(I::ISTRIP) {
            byte &= 0x7f;
        }
        if self.lowers() {
            byte = lower(byte);
        }
        if std::mem::replace(&mut self.literal, false) {
            self.receive_plain(byte, output, effects);
        } else if self.external() {
            self.keep(byte);
        } else if self.special[byte as usize] {
            self.receive_special(byte, output, effects);
        } else {
            self.receive_plain(byte, output, effects);
        }
    }

    /// Any character lets output go on (IXANY).
    fn restart(&mut self, output: &mut Output, effects: &mut Effects) {
        if self.stopped && !self.held && self.termios.has_input(I::IXON | I::IXANY) {
            self.start(effects);
            self.process_echoes(output);
        }
    }

    fn receive_plain(&mut self, byte: u8, output: &mut Output, effects: &mut Effects) {
        self.restart(output, effects);
        if self.termios.has_local(L::ECHO) {
            self.finish_erasing();
            self.echo_line_start();
            self.echo_typed(byte);
        }
        self.keep_marked(byte);
    }

    fn receive_special(&mut self, byte: u8, output: &mut Output, effects: &mut Effects) {
        let t = self.termios;
        if t.has_input(I::IXON) {
            if t.is(byte, C::Start) {
                self.start(effects);
                self.process_echoes(output);
                return;
            }
            if t.is(byte, C::Stop) {
                self.stop(effects);
                return;
            }
        }
        if t.has_local(L::ISIG) {
            let signals = [(C::Interrupt, libc::SIGINT), (C::Quit, libc::SIGQUIT), (C::Suspend, libc::SIGTSTP)];
            if let Some((_, signal)) = signals.into_iter().find(|(which, _)| t.is(byte, *which)) {
                self.signal(signal, byte, output, effects);
                return;
            }
        }
        self.restart(output, effects);
        let mut byte = byte;
        match byte {
            b'\r' if t.has_input(I::IGNCR) => return,
            b'\r' if t.has_input(I::ICRNL) => byte = b'\n',
            b'\n' if t.has_input(I::INLCR) => byte = b'\r',
            _ => {}
        }
        if self.canonical() && self.receive_canonical(byte, effects) {
            return;
        }
        if t.has_local(L::ECHO) {
            self.finish_erasing();
            if byte == b'\n' {
                self.echo_plain(b'\n');
            } else {
                self.echo_line_start();
                self.echo_typed(byte);
            }
        }
        self.keep_marked(byte);
    }

    /// A character that sends a signal, and forgets what is under way in both directions.
    fn signal(&mut self, signal: i32, byte: u8, output: &mut Output, effects: &mut Effects) {
        effects.signals.push(signal);
        if !self.termios.has_local(L::NOFLSH) {
            self.echoes.clear();
            self.flush_output(output, effects);
            self.flush_input(effects);
        }
        if self.termios.has_input(I::IXON) {
            self.start(effects);
        }
        // As all echoes it is shown when all that came with it was taken, unless more such characters did.
        if self.termios.has_local(L::ECHO) {
            self.echo_typed(byte);
        } else {
            self.process_echoes(output);
        }
    }

    /// A special character while lines are edited; false when it is none.
    fn receive_canonical(&mut self, byte: u8, effects: &mut Effects) -> bool {
        let t = self.termios;
        let (echo, extended) = (t.has_local(L::ECHO), t.has_local(L::IEXTEN));
        if t.is(byte, C::Erase) || t.is(byte, C::Kill) || extended && t.is(byte, C::WordErase) {
            self.erase(byte);
        } else if extended && t.is(byte, C::LiteralNext) {
            self.literal = true;
            if echo {
                self.finish_erasing();
                if t.has_local(L::ECHOCTL) {
                    self.echo_plain(b'^');
                    self.echo_plain(b'\x08');
                }
            }
        } else if echo && extended && t.is(byte, C::Reprint) {
            self.finish_erasing();
            self.echo_typed(byte);
            self.echo_plain(b'\n');
            for index in self.lines..self.cells.len() {
                self.echo_typed(self.cells[index].byte);
            }
        } else if byte == b'\n' {
            if t.local.intersects(L::ECHO | L::ECHONL) {
                self.echo_plain(b'\n');
            }
            self.end_line(byte, effects);
        } else if t.is(byte, C::EndOfFile) {
            self.end_line(0, effects);
        } else if t.is(byte, C::EndOfLine) || extended && t.is(byte, C::EndOfLine2) {
            if echo {
                self.echo_line_start();
                self.echo_typed(byte);
            }
            if byte == 0xff && t.has_input(I::PARMRK) {
                self.keep(byte);
            }
            self.end_line(byte, effects);
        } else {
            return false;
        }
        true
    }

    fn end_line(&mut self, byte: u8, effects: &mut Effects) {
        if self.cells.len() < SIZE {
            self.cells.push_back(Cell { byte, end: true });
        }
        self.lines = self.cells.len();
        effects.readable = true;
    }
}
