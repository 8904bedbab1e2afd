//! A person at a terminal: types, looks at the screen, resizes the window.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, ExitStatus},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{OpenptyResult, Winsize, openpty},
    unistd::pipe2,
};

use crate::runtime::exit_code;

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal as its user sees it, and maybe a command that was started on it.
pub struct Terminal {
    keyboard: File,
    output: Receiver<Vec<u8>>,
    /// Ends the reader when it is dropped.
    stop: Option<OwnedFd>,
    reader: Option<JoinHandle<()>>,
    /// All that was shown.
    screen: Vec<u8>,
    /// How much of it was looked at.
    seen: usize,
    command: Option<Child>,
    /// Kept for looking at the settings of a terminal that no command has open any more.
    slave: Option<OwnedFd>,
}

impl Terminal {
    /// Runs a command as the leader of a session whose terminal this is.
    pub fn run(command: &Command, rows: u16, columns: u16) -> Terminal {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a terminal");
        for end in [&master, &slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a flag can be set");
        }
        // setsid(1) makes standard input the controlling terminal, which takes code between fork and exec.
        let mut wrapped = Command::new("setsid");
        wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        let end = || slave.try_clone().expect("it can be duplicated");
        let child = wrapped.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it starts");
        // The command holds its ends until it is dropped.
        drop(wrapped);
        let mut terminal = Terminal::of(master);
        terminal.command = Some(child);
        terminal.slave = Some(slave);
        terminal
    }

    /// On the master of a terminal that somebody else has made.
    pub fn of(master: OwnedFd) -> Terminal {
        let keyboard = File::from(master);
        let display = keyboard.try_clone().expect("it can be duplicated");
        let (sender, output) = channel();
        let (stopped, stop) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let reader = thread::spawn(move || read(display, &stopped, &sender));
        Terminal {
            keyboard,
            output,
            stop: Some(stop),
            reader: Some(reader),
            screen: Vec::new(),
            seen: 0,
            command: None,
            slave: None,
        }
    }

    /// Types.
    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("the terminal takes what is typed");
    }

    /// Waits until `text` is shown, after what was waited for before; all up to and with it.
    pub fn shows(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let new = &self.screen[self.seen..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                let shown = String::from_utf8_lossy(&new[..at + text.len()]).into_owned();
                self.seen += at + text.len();
                return shown;
            }
            match self.output.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
                Ok(bytes) => self.screen.extend(bytes),
                Err(error) => panic!("{text:?} is not shown ({error}) but {:?}", String::from_utf8_lossy(new)),
            }
        }
    }

    /// Resizes the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.stty(&["rows", &rows.to_string(), "cols", &columns.to_string()]);
    }

    /// The settings, as stty(1) says them.
    pub fn settings(&self) -> String {
        self.stty(&["-a"])
    }

    fn stty(&self, arguments: &[&str]) -> String {
        let keyboard = self.keyboard.try_clone().expect("it can be duplicated");
        let output = Command::new("stty").args(arguments).stdin(keyboard).output().expect("stty(1) runs");
        assert!(output.status.success(), "stty {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits for the command's end; its exit code.
    pub fn end(&mut self) -> i32 {
        exit_code(self.wait())
    }

    fn wait(&mut self) -> ExitStatus {
        let child = self.command.as_mut().expect("a command runs");
        let start = Instant::now();
        loop {
            match child.try_wait().expect("it can be waited for") {
                Some(status) => return status,
                None if start.elapsed() > PATIENCE => {
                    panic!("it does not end: {:?}", String::from_utf8_lossy(&self.screen[self.seen..]));
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// All that is shown until nobody has the terminal open any more.
    pub fn rest(&mut self) -> String {
        self.slave = None;
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.screen.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("somebody keeps the terminal open"),
            }
        }
        String::from_utf8_lossy(&self.screen[self.seen..]).into_owned()
    }

    /// Closes the window.
    pub fn close(mut self) {
        self.stop = None;
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
    }
}

/// Passes on what is shown until everybody has closed the terminal, or `stopped` hangs up.
fn read(mut display: File, stopped: &OwnedFd, sender: &Sender<Vec<u8>>) {
    let mut bytes = [0; 4096];
    loop {
        let happened = {
            let mut asked = [PollFd::new(display.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
            poll(&mut asked, PollTimeout::NONE).map(|_| asked.map(|entry| entry.any() == Some(true)))
        };
        match happened {
            Ok([true, _]) => match display.read(&mut bytes) {
                Ok(read @ 1..) if sender.send(bytes[..read].to_vec()).is_ok() => {}
                _ => return,
            },
            Ok([false, true]) => return,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.command {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
