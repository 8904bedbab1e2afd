//! The container's terminal as a command sees it: a pseudo-terminal of the host, whose slave the sentry has. Its master goes to
//! whoever listens on `--console-socket`, or is shown on the caller's own terminal.

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::Winsize,
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
    unistd::read,
};

use crate::{
    error::{Error, Result},
    host::{RawMode, set_window_size, window_size},
};

/// Sends a terminal's master to a console socket, as runc does: its name as the message, the fd with it.
pub fn send_master(socket: &Path, master: BorrowedFd<'_>) -> Result<()> {
    let stream = UnixStream::connect(socket).map_err(Error::file("connect to the console socket", socket))?;
    let name = [IoSlice::new(b"/dev/ptmx")];
    let fds = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &name, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .map_err(Error::file("send the terminal to", socket))?;
    Ok(())
}

/// Bytes that are passed on at a time.
const CHUNK: usize = 4096;

/// The caller's own terminal.
#[derive(Debug)]
pub struct OwnTerminal(OwnedFd);

impl OwnTerminal {
    /// Finds it: one of the standard files, else /dev/tty. As with runc it is an error that there is none.
    pub fn find() -> Result<OwnTerminal> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let standard = [stderr.as_fd(), stdout.as_fd(), stdin.as_fd()];
        if let Some(terminal) = standard.into_iter().find(|fd| window_size(*fd).is_some()) {
            return Ok(OwnTerminal(terminal.try_clone_to_owned().map_err(Error::host("use the own terminal"))?));
        }
        let path = Path::new("/dev/tty");
        Ok(OwnTerminal(File::options().read(true).write(true).open(path).map_err(Error::file("open", path))?.into()))
    }

    /// The size of its window.
    pub fn size(&self) -> Option<Winsize> {
        window_size(self.0.as_fd())
    }
}

/// Shows a container's terminal on the caller's: passes bytes on in both directions, and the window's size. The caller's terminal
/// is in raw mode meanwhile.
#[derive(Debug)]
pub struct Relay {
    own: RawMode,
    master: OwnedFd,
    /// Typed, but not yet taken by the master.
    typed: Vec<u8>,
    /// Standard input has not ended.
    reads: bool,
    /// Somebody has the slave open.
    shows: bool,
}

impl Relay {
    /// Between the caller's terminal and this master.
    pub fn new(own: OwnTerminal, master: OwnedFd) -> Result<Relay> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).map_err(Error::host("set up the terminal"))?;
        Ok(Relay { own: RawMode::of(own.0)?, master, typed: Vec::new(), reads: true, shows: true })
    }

    /// Whether standard input is to be read.
    fn wants_input(&self) -> bool {
        self.reads && self.shows && self.typed.is_empty()
    }

    /// Passes on what there is.
    fn pass_on(&mut self, input: bool, output: bool) {
        if input && self.wants_input() {
            let mut bytes = [0; CHUNK];
            match read(io::stdin(), &mut bytes) {
                Ok(count @ 1..) => self.typed.extend_from_slice(&bytes[..count]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Ok(_) | Err(_) => self.reads = false,
            }
        }
        if !self.typed.is_empty() {
            match nix::unistd::write(&self.master, &self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.typed.clear(),
            }
        }
        if output {
            self.show();
        }
    }

    /// Shows what there is; whether there was something.
    fn show(&mut self) -> bool {
        let mut bytes = [0; CHUNK];
        match read(&self.master, &mut bytes) {
            Ok(count @ 1..) => {
                let mut stdout = io::stdout().lock();
                // A caller that does not look is no reason to stop.
                let _ = stdout.write_all(&bytes[..count]).and_then(|()| stdout.flush());
                true
            }
            Err(Errno::EINTR | Errno::EAGAIN) => false,
            Ok(_) | Err(_) => {
                self.shows = false;
                false
            }
        }
    }

    /// The container's window takes the size of the caller's.
    pub fn resize(&self) {
        if let Some(size) = window_size(self.own.terminal()) {
            // A container that has just ended has no window.
            let _ = set_window_size(self.master.as_fd(), &size);
        }
    }

    /// Shows the last words of a container that has ended.
    pub fn finish(mut self) {
        while self.shows && self.show() {}
    }
}

/// Waits until one of `others` is readable, or there was something to pass on; which of the others are.
pub fn wait_and_relay<const N: usize>(others: [BorrowedFd<'_>; N], relay: Option<&mut Relay>) -> nix::Result<[bool; N]> {
    let stdin = io::stdin();
    let mut entries: Vec<PollFd<'_>> = others.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    if let Some(relay) = relay.as_deref().filter(|relay| relay.shows) {
        let typed = if relay.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        entries.push(PollFd::new(relay.master.as_fd(), PollFlags::POLLIN | typed));
        // Without the master, standard input is not asked for either.
        if relay.wants_input() {
            entries.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
    }
    match poll(&mut entries, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error),
    }
    let happened: Vec<bool> = entries.iter().map(|entry| entry.any().unwrap_or(true)).collect();
    let happens = |index: usize| happened.get(index) == Some(&true);
    if let Some(relay) = relay {
        relay.pass_on(happens(N + 1), happens(N));
    }
    Ok(std::array::from_fn(happens))
}
