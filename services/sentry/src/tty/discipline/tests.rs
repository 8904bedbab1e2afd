//! The host's own terminals are the reference: whatever is done to one of them and to a [`Discipline`], the same is read on
//! both sides.

use std::{
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
};
use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::tty::termios::{InputFlags, LocalFlags, OutputFlags, RawTermios};

/// One thing done to a terminal.
#[derive(Clone, Debug)]
enum Step {
    Type(Vec<u8>),
    Print(Vec<u8>),
    Read(usize),
    Set(Termios),
}

/// What was read after a step: by the program, and by the master.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    program: Option<String>,
    master: String,
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

struct Host {
    master: std::fs::File,
    slave: std::fs::File,
}

impl Host {
    fn new() -> Host {
        let pair = openpty(None, None).expect("a terminal");
        let open = |fd: OwnedFd| {
            fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_RDWR)).expect("a flag can be set");
            std::fs::File::from(fd)
        };
        Host { master: open(pair.master), slave: open(pair.slave) }
    }

    /// Whether there is something to read; if not, asking has the kernel carry out what it has put off.
    fn can_read(file: &std::fs::File) -> bool {
        use std::os::fd::AsFd;
        let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        poll(&mut asked, PollTimeout::ZERO) == Ok(1) && asked[0].revents().is_some_and(|found| found.contains(PollFlags::POLLIN))
    }

    /// Has the kernel carry out all that was typed: either it has not begun, or there is something to read already; then it goes on
    /// under a lock that changing the settings takes too. (For that, nothing is to be read when something is typed.)
    fn settle(&self) {
        if Host::can_read(&self.slave) {
            let mut raw = RawTermios::new_zeroed();
            for request in [libc::TCGETS, libc::TCSETS] {
                // SAFETY: `raw` is a kernel's struct termios that lives through the call.
                let done = unsafe { libc::ioctl(self.slave.as_raw_fd(), request, raw.as_mut_bytes().as_mut_ptr()) };
                assert_eq!(done, 0);
            }
        }
        Host::can_read(&self.master);
    }

    fn set(&self, termios: &Termios) {
        let mut raw = termios.to_raw();
        // SAFETY: `raw` is a kernel's struct termios that lives through the call.
        let done = unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::TCSETS, raw.as_mut_bytes().as_mut_ptr()) };
        assert_eq!(done, 0);
        let mut got = RawTermios::new_zeroed();
        // SAFETY: as above; the call writes the structure.
        let done = unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::TCGETS, got.as_mut_bytes().as_mut_ptr()) };
        assert_eq!(done, 0);
        assert_eq!(got.as_bytes(), Termios::from_raw(&raw, None).to_raw().as_bytes());
    }

    fn step(&mut self, step: &Step) -> Seen {
        let mut program = None;
        match step {
            Step::Type(bytes) => drop(self.master.write(bytes)),
            Step::Print(bytes) => drop(self.slave.write(bytes)),
            Step::Set(termios) => self.set(termios),
            Step::Read(count) => {
                let mut bytes = vec![0; *count];
                program = Some(match self.slave.read(&mut bytes) {
                    Ok(read) => show(&bytes[..read]),
                    Err(error) => error.raw_os_error().unwrap_or(0).to_string(),
                });
            }
        }
        self.settle();
        let mut bytes = [0; 4096];
        let mut master = Vec::new();
        while let Ok(read @ 1..) = self.master.read(&mut bytes) {
            master.extend_from_slice(&bytes[..read]);
        }
        Seen { program, master: show(&master) }
    }
}

#[derive(Default)]
struct Ours {
    discipline: Discipline,
    output: Output,
    pending: Vec<u8>,
}

impl Ours {
    fn step(&mut self, step: &Step) -> Seen {
        let mut program = None;
        let mut effects = Effects::default();
        match step {
            Step::Type(bytes) => self.pending.extend(bytes),
            Step::Print(bytes) => drop(self.discipline.write(bytes, &mut self.output)),
            Step::Set(termios) => {
                let termios = Termios::from_raw(&termios.to_raw(), None);
                self.discipline.set(termios, &mut self.output, &mut effects);
            }
            Step::Read(count) => {
                let mut got = String::new();
                let read = self.discipline.read(*count, |bytes| {
                    got = show(bytes);
                    Ok(bytes.len())
                });
                program = Some(if read.is_some() { got } else { libc::EAGAIN.to_string() });
            }
        }
        let taken = self.discipline.receive(&self.pending, &mut self.output, &mut effects);
        self.pending.drain(..taken);
        let mut master = Vec::new();
        while !self.output.is_empty() {
            master.extend_from_slice(self.output.front());
            self.output.consume(self.output.front().len());
            self.discipline.process_echoes(&mut self.output);
        }
        Seen { program, master: show(&master) }
    }
}

fn agree(steps: &[Step]) {
    let (mut host, mut ours) = (Host::new(), Ours::default());
    let mut both = |step: &Step, number: usize| {
        let expected = host.step(step);
        assert_eq!(ours.step(step), expected, "at step {number} of {steps:#?}");
        Host::can_read(&host.slave)
    };
    let mut waiting = false;
    for (number, step) in steps.iter().enumerate() {
        while waiting && matches!(step, Step::Type(_)) {
            waiting = both(&Step::Read(64), number);
        }
        waiting = both(step, number);
    }
}

fn with(change: impl FnOnce(&mut Termios)) -> Step {
    let mut termios = Termios::default();
    change(&mut termios);
    Step::Set(termios)
}

fn typed(text: &[u8]) -> Step {
    Step::Type(text.to_vec())
}

#[test]
fn a_line_is_edited_and_read_as_on_the_host() {
    let erasing: &[&[u8]] =
        &[b"abc\x7f\x7fx\ty\x7f\x7fz", b" one two_3  \x17\x17four\x15five\x16\x03\x12", b"end\nrest\x04\x04more\n\x04"];
    for line in erasing {
        let reads = [Step::Read(3), Step::Read(100), Step::Read(100), Step::Read(100), Step::Read(100)];
        agree(&[&[typed(line)], &reads[..]].concat());
    }
}

#[test]
fn what_is_erased_on_paper_is_shown_as_on_the_host() {
    let paper = with(|t| t.local.insert(LocalFlags::ECHOPRT));
    agree(&[paper, typed(b"one two\x7f\x7fx\x17y"), typed(b"z\x15\n"), Step::Read(9)]);
}

#[test]
fn settings_change_with_input_waiting_as_on_the_host() {
    let raw = with(|t| t.local.remove(LocalFlags::ICANON));
    let cooked = with(|_| ());
    agree(&[typed(b"ab"), raw.clone(), Step::Read(1), cooked.clone(), Step::Read(9), typed(b"c\n"), Step::Read(9)]);
    agree(&[typed(b"a\x04b"), raw, Step::Read(9), typed(b"xy"), cooked, typed(b"\x7f\x7f\x7f\n"), Step::Read(9), Step::Read(9)]);
}

#[test]
fn a_line_that_is_too_long_is_cut() {
    let mut ours = Ours::default();
    ours.step(&Step::Type(vec![b'x'; 5000]));
    ours.step(&typed(b"\n"));
    let line = "x".repeat(4095) + "\\n";
    assert_eq!(ours.step(&Step::Read(5000)).program, Some(line));
}

#[test]
fn raw_input_waits_for_room() {
    let mut ours = Ours::default();
    ours.step(&with(|t| t.local = LocalFlags::empty()));
    ours.step(&Step::Type(vec![b'y'; 5000]));
    assert_eq!(ours.step(&Step::Read(5000)).program, Some("y".repeat(4095)));
    assert_eq!(ours.step(&Step::Read(5000)).program, Some("y".repeat(905)));
}

#[test]
fn output_is_held_and_released_as_on_the_host() {
    let held = [typed(b"\x13"), Step::Print(b"no".to_vec()), typed(b"echo"), typed(b"\x11"), Step::Print(b"yes\n".to_vec())];
    agree(&held);
    agree(&[&[with(|t| t.input.insert(InputFlags::IXANY))], &held[..]].concat());
    agree(&[&held[..2], &[with(|t| t.input.remove(InputFlags::IXON)), Step::Print(b"x".to_vec())]].concat());
}

/// Characters that mean something, and some that do not.
fn character() -> impl Strategy<Value = u8> {
    let special = b"\x7f\x15\x04\x11\x13\x12\x17\x16\r\n\t\x08\x07\0\xff\xc3\xa4\xe4";
    prop_oneof![2 => prop::sample::select(special.to_vec()), 3 => prop::sample::select(b"abZ_ 9~".to_vec())]
}

/// Any but ECHOPRT, with which Linux (6.12) now and then echoes its whole buffer.
fn settings() -> impl Strategy<Value = Termios> {
    let input = prop::collection::vec(0..15u32, 0..5);
    let output = prop::collection::vec(0..6u32, 0..4);
    let local = prop::collection::vec(prop::sample::select(vec![0u32, 1, 3, 4, 5, 6, 7, 9, 11, 15]), 0..5);
    (input, output, any::<bool>(), local, any::<bool>()).prop_map(|(input, output, tabs, local, end_of_line)| {
        let bits = |list: Vec<u32>| list.into_iter().fold(0, |sum, bit| sum | 1 << bit);
        let default = Termios::default();
        let mut raw = default.to_raw();
        raw.input ^= bits(input);
        raw.output ^= bits(output) | if tabs { OutputFlags::XTABS.bits() } else { 0 };
        raw.local ^= bits(local);
        if end_of_line {
            raw.controls[Control::EndOfLine as usize] = b'~';
            raw.controls[Control::EndOfLine2 as usize] = b'_';
        }
        Termios::from_raw(&raw, None)
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(character(), 1..12).prop_map(Step::Type),
        // Alone: how much of what comes with it is forgotten is a matter of time on the host.
        1 => prop::sample::select(b"\x03\x1c\x1a".to_vec()).prop_map(|byte| Step::Type(vec![byte])),
        2 => prop::collection::vec(character(), 1..12).prop_map(Step::Print),
        3 => (1..9usize).prop_map(Step::Read),
        1 => settings().prop_map(Step::Set),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_the_host_does_the_same(first in settings(), steps in prop::collection::vec(step(), 1..12)) {
        let mut all = vec![Step::Set(first)];
        all.extend(steps);
        agree(&all);
    }
}
