//! termios(3): the settings of a terminal, and their two forms in guest memory.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// c_iflag.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct InputFlags: u32 {
        const IGNBRK = 0x1;
        const BRKINT = 0x2;
        const IGNPAR = 0x4;
        const PARMRK = 0x8;
        const INPCK = 0x10;
        const ISTRIP = 0x20;
        const INLCR = 0x40;
        const IGNCR = 0x80;
        const ICRNL = 0x100;
        const IUCLC = 0x200;
        const IXON = 0x400;
        const IXANY = 0x800;
        const IXOFF = 0x1000;
        const IMAXBEL = 0x2000;
        const IUTF8 = 0x4000;
        const _ = !0;
    }
    /// c_oflag.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct OutputFlags: u32 {
        const OPOST = 0x1;
        const OLCUC = 0x2;
        const ONLCR = 0x4;
        const OCRNL = 0x8;
        const ONOCR = 0x10;
        const ONLRET = 0x20;
        /// TABDLY's value that expands tabs.
        const XTABS = 0x1800;
        const _ = !0;
    }
    /// c_lflag.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct LocalFlags: u32 {
        const ISIG = 0x1;
        const ICANON = 0x2;
        const ECHO = 0x8;
        const ECHOE = 0x10;
        const ECHOK = 0x20;
        const ECHONL = 0x40;
        const NOFLSH = 0x80;
        const TOSTOP = 0x100;
        const ECHOCTL = 0x200;
        const ECHOPRT = 0x400;
        const ECHOKE = 0x800;
        const IEXTEN = 0x8000;
        const EXTPROC = 0x1_0000;
        const _ = !0;
    }
}

/// Which character does what; the index into c_cc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Control {
    Interrupt = 0,
    Quit = 1,
    Erase = 2,
    Kill = 3,
    EndOfFile = 4,
    /// Tenths of a second.
    Time = 5,
    /// A count of characters.
    Minimum = 6,
    Start = 8,
    Stop = 9,
    Suspend = 10,
    EndOfLine = 11,
    Reprint = 12,
    WordErase = 14,
    LiteralNext = 15,
    EndOfLine2 = 16,
}

/// Number of control characters.
const CONTROLS: usize = 19;

/// The settings of a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Termios {
    /// c_iflag.
    pub input: InputFlags,
    /// c_oflag.
    pub output: OutputFlags,
    /// c_cflag: kept for those who read it back; a pseudo-terminal has no wire.
    pub hardware: u32,
    /// c_lflag.
    pub local: LocalFlags,
    line: u8,
    controls: [u8; CONTROLS],
    /// Bits per second.
    input_speed: u32,
    /// Bits per second.
    output_speed: u32,
}

/// c_cflag's parts.
const CBAUD: u32 = 0x100f;
const CBAUDEX: u32 = 0x1000;
const BOTHER: u32 = CBAUDEX;
const CSIZE: u32 = 0x30;
const CS8: u32 = 0x30;
const CREAD: u32 = 0x80;
const PARENB: u32 = 0x100;
const B38400: u32 = 0xf;
/// Where the input speed stands in c_cflag.
const IBSHIFT: u32 = 16;

/// Bits per second of the codes from B0 on, and of those from B57600 on.
const SPEEDS: [u32; 16] = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400];
const HIGH_SPEEDS: [u32; 15] = [
    57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000,
    3_000_000, 3_500_000, 4_000_000,
];

/// Bits per second of a code of c_cflag; `None` for BOTHER, which names none.
fn speed(code: u32) -> Option<u32> {
    let code = code & CBAUD;
    match code & CBAUDEX {
        0 => SPEEDS.get(code as usize).copied(),
        _ => HIGH_SPEEDS.get((code & !CBAUDEX).checked_sub(1)? as usize).copied(),
    }
}

impl Default for Termios {
    /// What a new pseudo-terminal has.
    fn default() -> Termios {
        use InputFlags as I;
        use LocalFlags as L;
        let mut controls = [0; CONTROLS];
        controls[..17].copy_from_slice(&[3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0xf, 0x17, 0x16, 0]);
        Termios {
            input: I::ICRNL | I::IXON,
            output: OutputFlags::OPOST | OutputFlags::ONLCR,
            hardware: B38400 | CS8 | CREAD,
            local: L::ISIG | L::ICANON | L::ECHO | L::ECHOE | L::ECHOK | L::ECHOCTL | L::ECHOKE | L::IEXTEN,
            line: 0,
            controls,
            input_speed: 38_400,
            output_speed: 38_400,
        }
    }
}

impl Termios {
    /// A control character; 0 for one that is disabled.
    pub fn control(&self, which: Control) -> u8 {
        self.controls[which as usize]
    }

    /// Whether `byte` is this control character, and that is not disabled.
    pub fn is(&self, byte: u8, which: Control) -> bool {
        byte != 0 && byte == self.control(which)
    }

    /// Whether all of these flags are set.
    pub fn has_input(&self, flags: InputFlags) -> bool {
        self.input.contains(flags)
    }

    /// Whether all of these flags are set.
    pub fn has_output(&self, flags: OutputFlags) -> bool {
        self.output.contains(flags)
    }

    /// Whether all of these flags are set.
    pub fn has_local(&self, flags: LocalFlags) -> bool {
        self.local.contains(flags)
    }

    /// struct termios, as TCGETS gives it.
    pub fn to_raw(self) -> RawTermios {
        RawTermios {
            input: self.input.bits(),
            output: self.output.bits(),
            hardware: self.hardware,
            local: self.local.bits(),
            line: self.line,
            controls: self.controls,
        }
    }

    /// struct termios2, as TCGETS2 gives it.
    pub fn to_raw2(self) -> RawTermios2 {
        RawTermios2 { termios: self.to_raw(), input_speed: self.input_speed, output_speed: self.output_speed }
    }

    /// What TCSETS and its kin make of a guest's structure on a pseudo-terminal: eight bits, no parity, whatever was asked.
    pub fn from_raw(raw: &RawTermios, speeds: Option<(u32, u32)>) -> Termios {
        let (given_input, given_output) = speeds.unwrap_or((38_400, 38_400));
        let output_speed = speed(raw.hardware).unwrap_or(given_output);
        let input_speed = match (raw.hardware >> IBSHIFT) & CBAUD {
            0 => output_speed,
            BOTHER => given_input,
            code => speed(code).unwrap_or(output_speed),
        };
        Termios {
            input: InputFlags::from_bits_retain(raw.input),
            output: OutputFlags::from_bits_retain(raw.output),
            hardware: raw.hardware & !(CSIZE | PARENB) | CS8 | CREAD,
            local: LocalFlags::from_bits_retain(raw.local),
            line: raw.line,
            controls: raw.controls,
            input_speed,
            output_speed,
        }
    }

    /// From struct termios2.
    pub fn from_raw2(raw: &RawTermios2) -> Termios {
        Termios::from_raw(&raw.termios, Some((raw.input_speed, raw.output_speed)))
    }
}

/// struct termios of the kernel.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RawTermios {
    pub input: u32,
    pub output: u32,
    pub hardware: u32,
    pub local: u32,
    pub line: u8,
    pub controls: [u8; CONTROLS],
}

/// struct termios2.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RawTermios2 {
    pub termios: RawTermios,
    pub input_speed: u32,
    pub output_speed: u32,
}

const _: () = assert!(size_of::<RawTermios>() == 36);
const _: () = assert!(size_of::<RawTermios2>() == size_of::<libc::termios2>());

/// struct winsize.
#[derive(Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Debug)]
#[repr(C)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_follow_the_codes_of_c_cflag() {
        let raw = |hardware| RawTermios { hardware, ..Termios::default().to_raw() };
        let speeds = |termios: Termios| (termios.input_speed, termios.output_speed);
        assert_eq!(speeds(Termios::from_raw(&raw(0xd), None)), (9600, 9600));
        assert_eq!(speeds(Termios::from_raw(&raw(0x1002), None)), (115_200, 115_200));
        assert_eq!(speeds(Termios::from_raw(&raw(BOTHER), Some((1, 12_345)))), (12_345, 12_345));
        assert_eq!(speeds(Termios::from_raw(&raw(BOTHER | BOTHER << IBSHIFT), Some((7, 9)))), (7, 9));
    }

    #[test]
    fn a_pseudo_terminal_stays_at_eight_bits() {
        let termios = Termios::from_raw(&RawTermios { hardware: PARENB, ..Termios::default().to_raw() }, None);
        assert_eq!(termios.hardware, CS8 | CREAD);
    }
}
