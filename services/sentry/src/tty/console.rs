//! A terminal whose master is a terminal of the host: the one that a container or a program in it was started with.
//!
//! The host's terminal is in raw mode, so it passes bytes on and does nothing else: lines, echo, signals and job control are the
//! guest terminal's, as for every other. A future moves bytes between the two; the host's window size is the guest's.

use std::{
    future::poll_fn,
    os::fd::{AsRawFd, OwnedFd},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bulkhead_ipc::{Errno, setup::Program};
use zerocopy::IntoBytes;

use super::{file::Slave, pty::Pty, termios::WindowSize};
use crate::{
    executor::{self, Executor, HostPoller, Readiness, Registration, WaitQueue},
    fs::{
        OpenFile,
        host::HostFile,
        host_io::{self, HOST_POSITION},
    },
    kernel::Kernel,
};

/// Bytes that are moved at a time.
const CHUNK: usize = 4096;
/// Moves before others on the same worker have their turn.
const TURN: usize = 16;
/// How long the end of a container waits for its last words to be taken.
const LAST_WORDS: u64 = 2_000_000_000;

/// A guest terminal and the host's that it is shown on.
pub struct Console {
    pty: Arc<Pty>,
    host: OwnedFd,
    /// Woken when the host's terminal may be ready.
    host_queue: Arc<WaitQueue>,
    /// Nobody will open the slave again once all have closed it.
    released: AtomicBool,
}

/// What a look at both sides brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Something,
    Nothing,
    /// The host's terminal is gone, or nobody needs it any more.
    Over,
}

impl Console {
    /// A new terminal for the host's `host`, which does not wait (O_NONBLOCK) and is in raw mode; its slave belongs to `uid` and
    /// `gid`. To be called on a worker.
    pub fn attach(kernel: &Arc<Kernel>, host: OwnedFd, uid: u32, gid: u32) -> Result<Arc<Slave>, Errno> {
        if host_io::control(host.as_raw_fd(), libc::F_GETFL, 0)? & libc::O_NONBLOCK == 0 {
            return Err(Errno::EINVAL);
        }
        let pty = kernel.terminals.devpts(kernel).add(kernel, uid, gid)?;
        pty.lock(false);
        let slave = Slave::enter(&pty, None)?;
        let console = Arc::new(Console { pty, host, host_queue: Arc::default(), released: AtomicBool::new(false) });
        console.take_window();
        *console.pty.console.lock() = Arc::downgrade(&console);
        kernel.terminals.consoles.lock().push(console.clone());
        Executor::spawn(Executor::choose_home(), console.serve());
        Ok(slave)
    }

    /// Moves bytes until the host's terminal or the guest's is gone.
    async fn serve(self: Arc<Self>) {
        let mut registrations: Option<[Registration; 2]> = None;
        poll_fn(|cx| self.poll_moves(cx, &mut registrations)).await;
        drop(registrations);
        self.pty.hang_up();
        self.pty.kernel.terminals.consoles.lock().retain(|other| !Arc::ptr_eq(other, &self));
        // Whoever waits for the last words need not wait any longer.
        self.pty.slave_queue.wake(Readiness::OUT);
    }

    fn poll_moves(&self, cx: &mut Context<'_>, registrations: &mut Option<[Registration; 2]>) -> Poll<()> {
        // Registered first, looked at afterwards.
        *registrations = Some([
            self.pty.master_queue.register(Readiness::all(), cx.waker()),
            self.host_queue.register(Readiness::all(), cx.waker()),
        ]);
        let mut moved = Moved::Something;
        for _ in 0..TURN {
            moved = self.step();
            match moved {
                Moved::Something => {}
                Moved::Over => return Poll::Ready(()),
                Moved::Nothing => break,
            }
        }
        if moved == Moved::Something {
            // Others have their turn.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut interest = Readiness::empty();
        interest.set(Readiness::IN, self.pty.typing_room() > 0);
        interest.set(Readiness::OUT, self.has_output());
        HostPoller::arm(self.host.as_raw_fd(), interest, self.host_queue.clone());
        Poll::Pending
    }

    fn has_output(&self) -> bool {
        self.pty.look(|state| !state.output.is_empty())
    }

    fn step(&self) -> Moved {
        let fd = self.host.as_raw_fd();
        let sent = match self.pty.read_output(CHUNK, |bytes| host_io::write(fd, bytes, HOST_POSITION, 0)) {
            Ok(sent) => sent > 0,
            Err(Errno::EAGAIN) => false,
            // The slaves are closed, but may be opened again; unless the host has nothing to say of it (EIO of its own).
            Err(Errno::EIO) if self.pty.is_deserted() && !self.has_output() => {
                if self.released.load(Ordering::Relaxed) {
                    return Moved::Over;
                }
                false
            }
            Err(_) => return Moved::Over,
        };
        let room = self.pty.typing_room().min(CHUNK);
        let mut bytes = [0; CHUNK];
        let typed = match host_io::read(fd, &mut bytes[..room], HOST_POSITION, 0) {
            _ if room == 0 => false,
            Ok(0) => return Moved::Over,
            Ok(read) => {
                self.pty.type_bytes(&bytes[..read]);
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            Err(_) => return Moved::Over,
        };
        if sent || typed { Moved::Something } else { Moved::Nothing }
    }

    /// The host's window size becomes the guest's.
    fn take_window(&self) {
        let mut window = [0; 8];
        if host_io::ioctl(&self.host, libc::TIOCGWINSZ as u32, &mut window).is_ok() {
            self.pty.set_window(zerocopy::transmute!(window));
        }
    }

    /// The program that it was made for has ended: it goes when the last one has closed it.
    fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
        self.pty.master_queue.wake(Readiness::IN);
    }
}

impl Pty {
    fn console(&self) -> Option<Arc<Console>> {
        self.console.lock().upgrade()
    }

    /// Takes over the size of the host's window, if this terminal is shown in one.
    pub(super) fn look_at_console(&self) {
        if let Some(console) = self.console() {
            console.take_window();
        }
    }

    /// Tells the host of a size that a guest has set.
    pub(super) fn tell_console(&self, window: WindowSize) {
        let Some(console) = self.console() else { return };
        let mut bytes = [0; 8];
        bytes.copy_from_slice(window.as_bytes());
        // A host's terminal that is gone has no size.
        let _ = host_io::ioctl(&console.host, libc::TIOCSWINSZ as u32, &mut bytes);
    }

    /// The program that it was made for has ended.
    pub(crate) fn release_console(&self) {
        if let Some(console) = self.console() {
            console.release();
        }
    }
}

/// What become fds 0, 1, 2 and so on.
type Files = Vec<Arc<OpenFile>>;

/// The files that a program from outside starts with, and the terminal that is to control its session. EINVAL when what should be
/// its terminal waits when it is read.
pub fn standard_files(kernel: &Arc<Kernel>, program: &Program, fds: Vec<OwnedFd>) -> Result<(Files, Option<Arc<Pty>>), Errno> {
    const STANDARD: usize = 3;
    let mut files = Vec::new();
    let mut terminal = None;
    let mut fds = fds.into_iter();
    if program.terminal {
        // All three are the same.
        let host = fds.by_ref().take(STANDARD).next_back().ok_or(Errno::EBADF)?;
        let slave = Console::attach(kernel, host, program.uid, program.gid)?;
        terminal = Some(slave.pty().clone());
        files = vec![slave.description(); STANDARD];
    }
    for fd in fds {
        files.push(HostFile::open(fd)?);
    }
    Ok((files, terminal))
}

/// The host's windows may have changed (SIGWINCH).
pub fn windows_changed(kernel: &Kernel) {
    let consoles = kernel.terminals.consoles.lock().clone();
    consoles.iter().for_each(|console| console.take_window());
}

impl Pty {
    /// Waits until the host has taken what was written to this console, but not for ever.
    pub(crate) async fn drain(self: &Arc<Self>) {
        let Some(console) = self.console() else { return };
        let gone = || !self.kernel.terminals.consoles.lock().iter().any(|other| Arc::ptr_eq(other, &console));
        let taken = executor::wait_for(&self.slave_queue, Readiness::OUT, || (!console.has_output() || gone()).then_some(()));
        let timeout = executor::sleep_until(executor::now().saturating_add(LAST_WORDS));
        let (mut taken, mut timeout) = (pin!(taken), pin!(timeout));
        poll_fn(|cx| match taken.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => timeout.as_mut().poll(cx),
        })
        .await;
    }
}

/// As [`Pty::drain`], for the container's own terminal.
pub async fn drain(kernel: &Kernel) {
    let first = kernel.terminals.consoles.lock().first().map(|console| console.pty.clone());
    if let Some(pty) = first {
        pty.drain().await;
    }
}
