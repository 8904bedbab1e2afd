//! Output processing (c_oflag), and the bytes on their way to the master.

use std::collections::VecDeque;

use super::{Discipline, I, echo::is_control};
use crate::tty::termios::OutputFlags as O;

/// Bytes that a master which does not read lets through: what its own discipline takes, and what waits before it.
pub const CAPACITY: usize = DELIVERED + 8192;
/// Of these, the first so many are the master's already: flushing output does not take them back.
const DELIVERED: usize = 4095;

/// Bytes on their way to the master.
#[derive(Default)]
pub struct Output {
    bytes: VecDeque<u8>,
}

impl Output {
    /// Bytes that it takes now.
    pub fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.bytes.len())
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends; the caller has looked for room.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The first bytes.
    pub fn front(&self) -> &[u8] {
        let (first, second) = self.bytes.as_slices();
        if first.is_empty() { second } else { first }
    }

    /// Takes bytes off the front.
    pub fn consume(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }

    /// Drops what has not been delivered.
    pub(super) fn discard(&mut self) {
        self.bytes.truncate(DELIVERED);
    }
}

fn upper(byte: u8) -> u8 {
    match byte {
        // The kernel's tables are Latin-1's.
        0xdf..=0xff if byte != 0xf7 => byte - 0x20,
        _ => byte.to_ascii_uppercase(),
    }
}

impl Discipline {
    /// Takes what a program writes, as far as there is room; how many bytes of it.
    pub fn write(&mut self, bytes: &[u8], output: &mut Output) -> usize {
        self.process_echoes(output);
        if self.stopped {
            return 0;
        }
        if !self.termios.has_output(O::OPOST) {
            let taken = bytes.len().min(output.room());
            output.push(&bytes[..taken]);
            return taken;
        }
        bytes.iter().take_while(|byte| self.put(**byte, output)).count()
    }

    /// Sends a character as it is (the start and stop characters of TCION and TCIOFF).
    pub fn send(&mut self, byte: u8, output: &mut Output) {
        if byte != 0 && output.room() > 0 {
            output.push(&[byte]);
        }
    }

    /// Whether a byte continues a character of several.
    pub(super) fn continues(&self, byte: u8) -> bool {
        self.termios.has_input(I::IUTF8) && byte & 0xc0 == 0x80
    }

    /// One character, processed; false when there is no room for what becomes of it.
    pub(super) fn put(&mut self, byte: u8, output: &mut Output) -> bool {
        let room = output.room();
        if room == 0 {
            return false;
        }
        let has = |flag: O| self.termios.has_output(flag);
        let mut byte = byte;
        if has(O::OPOST) {
            match byte {
                b'\n' => {
                    if has(O::ONLRET) {
                        self.column = 0;
                    }
                    if has(O::ONLCR) {
                        if room < 2 {
                            return false;
                        }
                        (self.column, self.line_column) = (0, 0);
                        output.push(b"\r\n");
                        return true;
                    }
                    self.line_column = self.column;
                }
                b'\r' if has(O::ONOCR) && self.column == 0 => return true,
                b'\r' => {
                    if has(O::OCRNL) {
                        byte = b'\n';
                    }
                    if !has(O::OCRNL) || has(O::ONLRET) {
                        (self.column, self.line_column) = (0, 0);
                    }
                }
                b'\t' => {
                    let spaces = 8 - self.column % 8;
                    if has(O::XTABS) {
                        if room < spaces {
                            return false;
                        }
                        output.push(&[b' '; 8][..spaces]);
                        self.column += spaces;
                        return true;
                    }
                    self.column += spaces;
                }
                b'\x08' => self.column = self.column.saturating_sub(1),
                _ if !is_control(byte) => {
                    if has(O::OLCUC) {
                        byte = upper(byte);
                    }
                    if !self.continues(byte) {
                        self.column += 1;
                    }
                }
                _ => {}
            }
        }
        output.push(&[byte]);
        true
    }
}
