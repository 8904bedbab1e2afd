//! Pseudo-terminals of the host: the pair between a container's terminal and whoever looks at it, and the settings of the
//! caller's own terminal.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    pty::{OpenptyResult, Winsize, openpty},
    sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
};

use crate::error::{Error, Result};

/// Both ends of a pseudo-terminal that passes bytes on as they are: lines and signals are the guest terminal's business.
#[derive(Debug)]
pub struct TerminalPair {
    /// For whoever looks at the terminal.
    pub master: OwnedFd,
    /// For the sentry; it does not wait (O_NONBLOCK).
    pub slave: OwnedFd,
}

/// Makes a pair with a window of this size.
pub fn open_terminal(size: Option<Winsize>) -> Result<TerminalPair> {
    let doing = "make a pseudo-terminal";
    let OpenptyResult { master, slave } = openpty(size.as_ref(), None).map_err(Error::host(doing))?;
    for end in [&master, &slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(Error::host(doing))?;
    }
    fcntl(&slave, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).map_err(Error::host(doing))?;
    set_raw(&slave).map_err(Error::host(doing))?;
    Ok(TerminalPair { master, slave })
}

fn set_raw(terminal: &impl AsFd) -> nix::Result<Termios> {
    let before = tcgetattr(terminal)?;
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    tcsetattr(terminal, SetArg::TCSANOW, &raw)?;
    Ok(before)
}

/// The size of a terminal's window; `None` when it is no terminal.
pub fn window_size(terminal: BorrowedFd<'_>) -> Option<Winsize> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call writes one winsize, which `size` is.
    (unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } == 0).then_some(size)
}

/// Sets it.
pub fn set_window_size(terminal: BorrowedFd<'_>, size: &Winsize) -> io::Result<()> {
    // SAFETY: the call reads one winsize, which `size` is.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(size)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes it the controlling terminal of this process, which leads a session without one: so it is told by SIGWINCH when the
/// window changes.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes an integer.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A terminal in raw mode until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts it into raw mode. In the background this stops the process until it is in the foreground.
    pub fn of(terminal: OwnedFd) -> Result<RawMode> {
        let before = set_raw(&terminal).map_err(Error::host("set up the terminal"))?;
        Ok(RawMode { terminal, before })
    }

    /// The terminal.
    pub fn terminal(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}
