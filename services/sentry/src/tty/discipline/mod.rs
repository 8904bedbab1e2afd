//! The line discipline (n_tty of Linux): what becomes of characters between the two ends of a terminal. Pure: it sends no
//! signal and wakes nobody, but says in [`Effects`] what is to be done.
//!
//! - `input`: what the terminal's user types
//! - `edit`: erasing within a line
//! - `echo`: what is shown of it
//! - `output`: what programs write
//! - `read`: what programs get
//!
//! Invariants: the first `lines` cells of the input belong to complete lines and are never edited; input is at most [`SIZE`]
//! characters; echoes never make the output longer than its capacity and are lost beyond [`echo::MOST`].

mod echo;
mod edit;
mod input;
mod output;
mod read;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::termios::{Control, InputFlags as I, LocalFlags as L, Termios};
use echo::Echo;
pub use output::Output;

/// Characters of input that are kept for readers (N_TTY_BUF_SIZE).
pub const SIZE: usize = 4096;

/// A character of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    byte: u8,
    /// It ends a line. With a zero byte it is an end of file, which is not read.
    end: bool,
}

bitflags::bitflags! {
    /// What a master in packet mode is told (TIOCPKT_*).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct Packet: u8 {
        const FLUSH_READ = 0x1;
        const FLUSH_WRITE = 0x2;
        const STOP = 0x4;
        const START = 0x8;
        const NO_STOP = 0x10;
        const DO_STOP = 0x20;
        const IOCTL = 0x40;
    }
}

/// What is to be done after the discipline has worked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// For the foreground process group, in this order.
    pub signals: Vec<i32>,
    /// There may be something to read.
    pub readable: bool,
    /// Output may go on.
    pub writable: bool,
    /// For a master in packet mode.
    pub packet: Vec<Packet>,
}

/// The state of one terminal's line discipline.
pub struct Discipline {
    termios: Termios,
    /// Characters that mean something at these settings.
    special: [bool; 256],
    /// No character does.
    raw: bool,
    cells: VecDeque<Cell>,
    /// Cells that belong to complete lines, in canonical mode.
    lines: usize,
    /// What there was when canonical mode began counts as a line, though nobody ended it.
    pushed: bool,
    /// The next character is taken literally.
    literal: bool,
    /// Erased characters are being shown between `\` and `/` (ECHOPRT).
    erasing: bool,
    echoes: VecDeque<Echo>,
    column: usize,
    /// Where the line that is being typed begins.
    line_column: usize,
    /// Output is held by the stop character.
    stopped: bool,
    /// Output is held by tcflow(3), which the start character does not undo.
    held: bool,
}

impl Default for Discipline {
    fn default() -> Discipline {
        let mut discipline = Discipline {
            termios: Termios::default(),
            special: [false; 256],
            raw: false,
            cells: VecDeque::new(),
            lines: 0,
            pushed: false,
            literal: false,
            erasing: false,
            echoes: VecDeque::new(),
            column: 0,
            line_column: 0,
            stopped: false,
            held: false,
        };
        discipline.find_special();
        discipline
    }
}

impl Discipline {
    /// The settings.
    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Whether output is held.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn canonical(&self) -> bool {
        self.termios.has_local(L::ICANON)
    }

    fn external(&self) -> bool {
        self.termios.has_local(L::EXTPROC)
    }

    /// Changes the settings (tcsetattr(3)).
    pub fn set(&mut self, termios: Termios, output: &mut Output, effects: &mut Effects) {
        let old = std::mem::replace(&mut self.termios, termios);
        if (old.local ^ termios.local).intersects(L::ICANON | L::EXTPROC) {
            self.cells.iter_mut().for_each(|cell| cell.end = false);
            self.pushed = self.canonical() && !self.cells.is_empty();
            self.lines = if self.pushed { self.cells.len() } else { 0 };
            if self.pushed
                && let Some(last) = self.cells.back_mut()
            {
                last.end = true;
            }
            self.erasing = false;
            self.literal = false;
        }
        self.find_special();
        if !termios.has_input(I::IXON) && old.has_input(I::IXON) && !self.held {
            self.start(effects);
            self.process_echoes(output);
        }
        self.tell_of_change(&old, effects);
        effects.readable = true;
        effects.writable = true;
    }

    /// What a master in packet mode is told of new settings.
    fn tell_of_change(&self, old: &Termios, effects: &mut Effects) {
        let flow = |t: &Termios| t.has_input(I::IXON) && t.control(Control::Stop) == 0x13 && t.control(Control::Start) == 0x11;
        let (before, now) = (flow(old), flow(&self.termios));
        let external = old.has_local(L::EXTPROC) || self.external();
        if before != now || external {
            let mut told = if now { Packet::DO_STOP } else { Packet::NO_STOP };
            told.set(Packet::IOCTL, external);
            effects.packet.push(told);
        }
    }

    fn find_special(&mut self) {
        use Control as C;
        let t = &self.termios;
        let mut special = [false; 256];
        special[b'\r' as usize] = t.input.intersects(I::IGNCR | I::ICRNL);
        special[b'\n' as usize] = t.has_input(I::INLCR) || t.has_local(L::ICANON);
        let mut mark_all = |controls: &[C]| controls.iter().for_each(|which| special[t.control(*which) as usize] = true);
        if t.has_local(L::ICANON) {
            mark_all(&[C::Erase, C::Kill, C::EndOfFile, C::EndOfLine]);
            if t.has_local(L::IEXTEN) {
                mark_all(&[C::WordErase, C::LiteralNext, C::EndOfLine2]);
                if t.has_local(L::ECHO) {
                    mark_all(&[C::Reprint]);
                }
            }
        }
        if t.has_input(I::IXON) {
            mark_all(&[C::Start, C::Stop]);
        }
        if t.has_local(L::ISIG) {
            mark_all(&[C::Interrupt, C::Quit, C::Suspend]);
        }
        special[0] = false;
        self.special = special;
        let input = I::ISTRIP | I::IUCLC | I::IGNCR | I::ICRNL | I::INLCR | I::IXON | I::PARMRK;
        self.raw = !t.input.intersects(input) && !t.local.intersects(L::ICANON | L::ISIG | L::ECHO);
    }

    /// Holds output (the stop character, TCOOFF).
    fn stop(&mut self, effects: &mut Effects) {
        if !std::mem::replace(&mut self.stopped, true) {
            effects.packet.push(Packet::STOP);
        }
    }

    /// Lets output go on, unless tcflow(3) holds it.
    fn start(&mut self, effects: &mut Effects) {
        if self.stopped && !self.held {
            self.stopped = false;
            effects.packet.push(Packet::START);
            effects.writable = true;
        }
    }

    /// tcflow(3) with TCOOFF and TCOON.
    pub fn hold(&mut self, on: bool, output: &mut Output, effects: &mut Effects) {
        if on {
            self.held = true;
            self.stop(effects);
        } else if std::mem::replace(&mut self.held, false) {
            self.start(effects);
            self.process_echoes(output);
        }
    }

    /// Forgets what was typed and not read (TCIFLUSH).
    pub fn flush_input(&mut self, effects: &mut Effects) {
        self.cells.clear();
        self.lines = 0;
        self.literal = false;
        self.erasing = false;
        self.pushed = false;
        effects.packet.push(Packet::FLUSH_READ);
        effects.writable = true;
    }

    /// Forgets what was written and not delivered (TCOFLUSH).
    pub fn flush_output(&mut self, output: &mut Output, effects: &mut Effects) {
        output.discard();
        effects.packet.push(Packet::FLUSH_WRITE);
        effects.writable = true;
    }
}
