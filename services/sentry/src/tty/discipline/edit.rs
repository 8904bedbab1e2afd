//! Erasing within the line that is being typed.

use super::{
    Control as C, Discipline, L,
    echo::{Echo, is_control},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Character,
    Word,
    Line,
}

/// Letters and digits of Latin-1, as the kernel counts.
fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0xc0 && byte != 0xd7 && byte != 0xf7
}

impl Discipline {
    /// The erase, word-erase and kill characters.
    pub(super) fn erase(&mut self, byte: u8) {
        let t = self.termios;
        if self.cells.len() == self.lines {
            return;
        }
        let kind = if t.is(byte, C::Erase) {
            Kind::Character
        } else if t.is(byte, C::WordErase) {
            Kind::Word
        } else {
            Kind::Line
        };
        if kind == Kind::Line && !t.has_local(L::ECHO | L::ECHOK | L::ECHOKE | L::ECHOE) {
            self.cells.truncate(self.lines);
            if t.has_local(L::ECHO) {
                self.finish_erasing();
                self.echo_control(C::Kill);
                if t.has_local(L::ECHOK) {
                    self.echo_plain(b'\n');
                }
            }
            return;
        }
        let mut in_word = false;
        while self.cells.len() > self.lines {
            // One character, of possibly several bytes.
            let mut head = self.cells.len() - 1;
            while self.continues(self.cells[head].byte) && head > self.lines {
                head -= 1;
            }
            let byte = self.cells[head].byte;
            if self.continues(byte) {
                break;
            }
            if kind == Kind::Word {
                if is_alphanumeric(byte) || byte == b'_' {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            let erased: Vec<u8> = self.cells.drain(head..).map(|cell| cell.byte).collect();
            if t.has_local(L::ECHO) {
                self.echo_erased(&erased, kind);
            }
            if kind == Kind::Character {
                break;
            }
        }
        if self.cells.len() == self.lines && t.has_local(L::ECHO) {
            self.finish_erasing();
        }
    }

    /// Shows that a character was erased, which is no longer among the cells.
    fn echo_erased(&mut self, erased: &[u8], kind: Kind) {
        let t = self.termios;
        let Some((&byte, rest)) = erased.split_first() else { return };
        if t.has_local(L::ECHOPRT) {
            if !std::mem::replace(&mut self.erasing, true) {
                self.echo_plain(b'\\');
            }
            self.echo_typed(byte);
            for &byte in rest {
                self.echo_plain(byte);
                self.echo(Echo::Back);
            }
        } else if kind == Kind::Character && !t.has_local(L::ECHOE) {
            self.echo_control(C::Erase);
        } else if byte == b'\t' {
            self.echo_erased_tab();
        } else {
            let caret = is_control(byte) && t.has_local(L::ECHOCTL);
            let columns = if caret { 2 } else { usize::from(!is_control(byte)) };
            for _ in 0..columns {
                b"\x08 \x08".iter().for_each(|byte| self.echo_plain(*byte));
            }
        }
    }

    /// How far to go back depends on the columns before the tab, up to the line's start or an earlier tab.
    fn echo_erased_tab(&mut self) {
        let mut columns = 0;
        let mut after_tab = false;
        for index in (self.lines..self.cells.len()).rev() {
            let byte = self.cells[index].byte;
            if byte == b'\t' {
                after_tab = true;
                break;
            }
            if is_control(byte) {
                columns += if self.termios.has_local(L::ECHOCTL) { 2 } else { 0 };
            } else if !self.continues(byte) {
                columns += 1;
            }
        }
        self.echo(Echo::EraseTab { columns: columns % 8, after_tab });
    }
}
