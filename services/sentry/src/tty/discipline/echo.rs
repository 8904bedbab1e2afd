//! Echo: what is typed, shown. An echo waits while output is held or has no room, and then takes its effect on the column
//! with it, so that a tab is erased from where it really ended.

use super::{Control, Discipline, L, Output};

/// Echoes that wait at most.
pub(super) const MOST: usize = 4096;

/// One step of echoing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Echo {
    /// A character, as output processing has it.
    Plain(u8),
    /// `^X` for a control character.
    Caret(u8),
    /// Moves back over a tab that follows this many columns, counted from the line's start or from an earlier tab.
    EraseTab { columns: usize, after_tab: bool },
    /// The line that is being typed begins here.
    LineStart,
    /// One column back without a character.
    Back,
}

/// Control characters of ASCII.
pub(super) fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

impl Discipline {
    pub(super) fn echo(&mut self, echo: Echo) {
        if self.echoes.len() < MOST {
            self.echoes.push_back(echo);
        }
    }

    pub(super) fn echo_plain(&mut self, byte: u8) {
        self.echo(Echo::Plain(byte));
    }

    /// A character as it is shown while it is typed.
    pub(super) fn echo_typed(&mut self, byte: u8) {
        let caret = self.termios.has_local(L::ECHOCTL) && is_control(byte) && byte != b'\t';
        self.echo(if caret { Echo::Caret(byte) } else { Echo::Plain(byte) });
    }

    /// A control character as it is shown.
    pub(super) fn echo_control(&mut self, which: Control) {
        self.echo_typed(self.termios.control(which));
    }

    /// The first character of a line: remembers where it begins.
    pub(super) fn echo_line_start(&mut self) {
        if self.lines == self.cells.len() {
            self.echo(Echo::LineStart);
        }
    }

    /// Ends a run of erased characters that were shown.
    pub(super) fn finish_erasing(&mut self) {
        if std::mem::replace(&mut self.erasing, false) {
            self.echo_plain(b'/');
        }
    }

    /// Shows what waits, as far as there is room.
    pub fn process_echoes(&mut self, output: &mut Output) {
        while !self.stopped
            && let Some(&echo) = self.echoes.front()
            && self.show(echo, output)
        {
            self.echoes.pop_front();
        }
    }

    /// One echo; false when there is no room.
    fn show(&mut self, echo: Echo, output: &mut Output) -> bool {
        match echo {
            // As Linux, which has this byte escaped here and does not process it.
            Echo::Plain(0xff) => {
                if output.room() == 0 {
                    return false;
                }
                output.push(&[0xff]);
                self.column += 1;
            }
            Echo::Plain(byte) => return self.put(byte, output),
            Echo::Caret(byte) => {
                if output.room() < 2 {
                    return false;
                }
                output.push(&[b'^', byte ^ 0o100]);
                self.column += 2;
            }
            Echo::EraseTab { columns, after_tab } => {
                // Columns count from the line's start, unless an earlier tab has aligned them.
                let columns = if after_tab { columns } else { columns + self.line_column };
                let back = 8 - columns % 8;
                if output.room() < back {
                    return false;
                }
                output.push(&[b'\x08'; 8][..back]);
                self.column = self.column.saturating_sub(back);
            }
            Echo::LineStart => self.line_column = self.column,
            Echo::Back => self.column = self.column.saturating_sub(1),
        }
        true
    }
}
