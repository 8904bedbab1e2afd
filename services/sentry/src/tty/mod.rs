//! Terminals: pseudo-terminals with Linux's line discipline, and job control on them.
//!
//! - [`termios`]: the settings
//! - [`discipline`]: what becomes of characters on their way, pure
//! - [`pty`]: a pair of ends: the discipline, who has which end open, what waits between them
//! - [`file`](mod@file): the two ends as open files
//! - [`ioctl`]: what is asked of them
//! - [`job`]: sessions, foreground groups, and the signals that terminals send
//! - [`devpts`]: the file system that shows them
//! - [`console`]: the terminal whose master is a terminal of the host
//!
//! Invariants: a terminal's lock is held for its own state only: nobody is woken and no signal is sent under it, and no other lock
//! is taken but the foreground's, which is part of it. A process has at most one controlling terminal, which its session shares.

pub(crate) mod console;
pub(crate) mod devpts;
pub(crate) mod discipline;
pub(crate) mod file;
pub(crate) mod ioctl;
pub(crate) mod job;
pub(crate) mod pty;
pub(crate) mod termios;

pub use devpts::Terminals;
pub use pty::Pty;
