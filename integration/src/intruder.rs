//! A compromised process, played from outside: host system calls that a running service is made to issue as if an attacker had its
//! main thread, with everything that confines it in force.
//!
//! It is done with ptrace(2). Code that nobody executes any more (the beginning of the program's text) is replaced by a system call
//! instruction and a breakpoint for as long as the intruder is there. A call that the service's filter refuses raises SIGSYS, which is
//! seen here and not passed on, so that one process can try everything.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// How long a call may take that is let through; one that waits is interrupted then.
const PATIENCE: Duration = Duration::from_millis(100);
/// Where the intruder keeps what its calls point to: so far below the stack of the thread that it took over.
const BELOW_STACK: u64 = 16 << 10;
/// `syscall; int3`.
const CALL: [u8; 3] = [0x0f, 0x05, 0xcc];
/// `int $0x80; int3`: a call by the numbers of 32-bit programs.
const CALL_32: [u8; 3] = [0xcd, 0x80, 0xcc];

/// What became of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The filter refused it: left alone, the process would have ended.
    Refused,
    /// It was made, and returned this.
    Returned(i64),
    /// It was made, and waits.
    Waits,
    /// The process ended by this signal.
    Killed(Signal),
}

impl Outcome {
    /// The error that it failed with.
    pub fn error(self) -> Option<Errno> {
        if let Outcome::Returned(value @ -4095..0) = self { Some(Errno::from_raw(-value as i32)) } else { None }
    }

    /// Whether it did what was asked.
    pub fn succeeded(self) -> bool {
        matches!(self, Outcome::Returned(0..) | Outcome::Waits)
    }
}

/// The thread that was taken over. Dropping it gives it back as it was.
pub struct Intruder {
    thread: Pid,
    memory: File,
    code: u64,
    replaced: [u8; 3],
    registers: libc::user_regs_struct,
    alive: bool,
}

impl Intruder {
    /// Takes over the main thread of a process.
    pub fn enter(process: u32) -> Intruder {
        let thread = Pid::from_raw(process as i32);
        ptrace::seize(thread, ptrace::Options::empty()).expect("the process can be traced");
        ptrace::interrupt(thread).expect("it can be stopped");
        let stop = waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        assert!(matches!(stop, WaitStatus::PtraceEvent(..)), "{stop:?}");
        let registers = ptrace::getregs(thread).expect("it has registers");
        let memory =
            OpenOptions::new().read(true).write(true).open(format!("/proc/{process}/mem")).expect("root sees its memory");
        let program = fs::read_link(format!("/proc/{process}/exe")).expect("it has a program");
        let code = mappings(process)
            .into_iter()
            .find(|mapping| mapping.access.contains('x') && mapping.name == program.to_string_lossy())
            .expect("its text is mapped")
            .start;
        let mut replaced = [0; 3];
        memory.read_exact_at(&mut replaced, code).expect("text can be read");
        Intruder { thread, memory, code, replaced, registers, alive: true }
    }

    /// Makes a system call.
    pub fn call(&mut self, number: u64, arguments: [u64; 6]) -> Outcome {
        self.run(CALL, number, arguments)
    }

    /// Makes a system call as a 32-bit program does.
    pub fn call_32(&mut self, number: u64, arguments: [u64; 6]) -> Outcome {
        self.run(CALL_32, number, arguments)
    }

    /// Puts bytes into its memory; where they are.
    pub fn put(&self, bytes: &[u8]) -> u64 {
        self.put_at(0, bytes)
    }

    /// The same, so far behind the place of [`Intruder::put`].
    pub fn put_at(&self, offset: u64, bytes: &[u8]) -> u64 {
        let place = (self.registers.rsp - BELOW_STACK) / 16 * 16 + offset;
        self.memory.write_all_at(bytes, place).expect("the stack can be written");
        place
    }

    fn run(&mut self, code: [u8; 3], number: u64, [a, b, c, d, e, f]: [u64; 6]) -> Outcome {
        assert!(self.alive, "the process is gone");
        self.memory.write_all_at(&code, self.code).expect("a tracer can change text");
        let mut registers = self.registers;
        registers.rip = self.code;
        registers.rax = number;
        // No call of the thread's own is to be restarted.
        registers.orig_rax = u64::MAX;
        registers.rsp = (self.registers.rsp - 2 * BELOW_STACK) / 16 * 16;
        if code == CALL {
            (registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9) = (a, b, c, d, e, f);
        } else {
            (registers.rbx, registers.rcx, registers.rdx, registers.rsi, registers.rdi, registers.rbp) = (a, b, c, d, e, f);
        }
        ptrace::setregs(self.thread, registers).expect("it is stopped");
        ptrace::cont(self.thread, None).expect("it is stopped");
        let mut waits = false;
        let start = Instant::now();
        loop {
            match waitpid(self.thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).expect("it is traced") {
                WaitStatus::StillAlive if !waits && start.elapsed() > PATIENCE => {
                    waits = true;
                    ptrace::interrupt(self.thread).expect("it is traced");
                }
                WaitStatus::StillAlive => std::hint::spin_loop(),
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                    return Outcome::Returned(ptrace::getregs(self.thread).expect("it is stopped").rax as i64);
                }
                WaitStatus::Stopped(_, Signal::SIGSYS) => return Outcome::Refused,
                WaitStatus::PtraceEvent(..) if waits => return Outcome::Waits,
                WaitStatus::Signaled(_, signal, _) => {
                    self.alive = false;
                    return Outcome::Killed(signal);
                }
                WaitStatus::Exited(_, status) => panic!("the process has exited with {status}"),
                // Signals for the service have to wait; what else stops it is over when it goes on.
                _ => ptrace::cont(self.thread, None).expect("it is stopped"),
            }
        }
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        if self.alive {
            let _ = self.memory.write_all_at(&self.replaced, self.code);
            let _ = ptrace::setregs(self.thread, self.registers);
            let _ = ptrace::detach(self.thread, None);
        }
    }
}

/// A line of /proc/PID/maps.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The first address.
    pub start: u64,
    /// The first address behind it.
    pub end: u64,
    /// As `r-xp`.
    pub access: String,
    /// The file, or what else it is.
    pub name: String,
}

/// What a process has mapped.
pub fn mappings(process: u32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{process}/maps")).expect("root sees its mappings");
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let access = words.next()?.to_owned();
        let name = words.skip(3).collect::<Vec<_>>().join(" ");
        Some(Mapping { start: u64::from_str_radix(start, 16).ok()?, end: u64::from_str_radix(end, 16).ok()?, access, name })
    };
    text.lines().filter_map(line).collect()
}
