//! A pseudo-terminal: two ends and the line discipline between them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, Timestamp},
};
use parking_lot::Mutex;

use super::{
    console::Console,
    devpts::Devpts,
    discipline::{Discipline, Effects, Output, Packet},
    job,
    termios::{LocalFlags, Termios, WindowSize},
};
use crate::{
    executor::{Readiness, WaitQueue},
    fs::ownership::{Ownership, wall_clock},
    kernel::Kernel,
};

/// Bytes that the master has written and the discipline has no room for.
const TYPED_AHEAD: usize = 8192;

/// A pseudo-terminal.
pub struct Pty {
    /// Its name in its file system, and its device number's minor part.
    pub number: u32,
    pub(super) kernel: Arc<Kernel>,
    state: Mutex<State>,
    /// Woken for the slave's readers and writers.
    pub(super) slave_queue: Arc<WaitQueue>,
    /// Woken for the master's.
    pub(super) master_queue: Arc<WaitQueue>,
    /// Of the slave's node.
    pub ownership: Mutex<Ownership>,
    created: Timestamp,
    devpts: Weak<Devpts>,
    /// Set while the master is a terminal of the host.
    pub(super) console: Mutex<Weak<Console>>,
    /// Whether the slave can be opened (TIOCSPTLCK).
    locked: AtomicBool,
    /// Whether it may be opened once more (TIOCEXCL).
    pub(super) exclusive: AtomicBool,
}

/// What a terminal's lock protects.
pub(super) struct State {
    pub discipline: Discipline,
    /// On its way to the master.
    pub output: Output,
    /// On its way to the discipline.
    typed: VecDeque<u8>,
    window: WindowSize,
    /// Open slaves.
    slaves: usize,
    /// There was one, and there is none: the master sees the end.
    deserted: bool,
    /// There is no master any more.
    master_gone: bool,
    /// Times that it was hung up; slaves from before are dead.
    hangups: u64,
    packets: bool,
    told: Packet,
    pub foreground: Foreground,
}

/// Whose terminal it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Foreground {
    /// The session that it controls; 0 for none.
    pub session: i32,
    /// The foreground process group; 0 for none.
    pub group: i32,
}

impl State {
    /// Lets the discipline take what was typed, as far as it can.
    fn take_typed(&mut self, effects: &mut Effects) {
        while !self.typed.is_empty() {
            let (first, _) = self.typed.as_slices();
            let taken = self.discipline.receive(first, &mut self.output, effects);
            self.typed.drain(..taken);
            if taken == 0 {
                break;
            }
        }
    }

    /// Notes what the master is told, if it wants to know.
    fn tell(&mut self, effects: &Effects) {
        if !self.packets {
            return;
        }
        for &packet in &effects.packet {
            self.told.remove(match packet {
                Packet::START => Packet::STOP,
                Packet::STOP => Packet::START,
                other if other.intersects(Packet::DO_STOP | Packet::NO_STOP) => Packet::DO_STOP | Packet::NO_STOP,
                _ => Packet::empty(),
            });
            self.told.insert(packet);
        }
    }

    fn slave_readiness(&self, hangups: u64) -> Readiness {
        use Readiness as R;
        if self.hangups != hangups {
            return R::IN | R::OUT | R::ERR | R::HUP | R::RDNORM | R::WRNORM;
        }
        let mut ready = R::empty();
        if self.discipline.can_read() {
            ready |= R::IN | R::RDNORM;
        }
        if !self.discipline.is_stopped() && self.output.room() > 0 {
            ready |= R::OUT | R::WRNORM;
        }
        ready
    }

    fn master_readiness(&self) -> Readiness {
        use Readiness as R;
        let mut ready = R::empty();
        if !self.output.is_empty() {
            ready |= R::IN | R::RDNORM;
        }
        if !self.told.is_empty() {
            ready |= R::PRI | R::IN | R::RDNORM;
        }
        if self.deserted {
            ready |= R::HUP;
        }
        if self.typed.len() < TYPED_AHEAD {
            ready |= R::OUT | R::WRNORM;
        }
        ready
    }
}

impl Pty {
    /// A new one, locked, with a master and no slave.
    pub(super) fn new(kernel: &Arc<Kernel>, devpts: &Arc<Devpts>, number: u32, ownership: Ownership) -> Arc<Pty> {
        Arc::new(Pty {
            number,
            kernel: kernel.clone(),
            state: Mutex::new(State {
                discipline: Discipline::default(),
                output: Output::default(),
                typed: VecDeque::new(),
                window: WindowSize::default(),
                slaves: 0,
                deserted: false,
                master_gone: false,
                hangups: 0,
                packets: false,
                told: Packet::empty(),
                foreground: Foreground::default(),
            }),
            slave_queue: Arc::default(),
            master_queue: Arc::default(),
            ownership: Mutex::new(ownership),
            created: wall_clock(),
            devpts: Arc::downgrade(devpts),
            console: Mutex::default(),
            locked: AtomicBool::new(true),
            exclusive: AtomicBool::new(false),
        })
    }

    /// Device number of the slave.
    pub fn device(&self) -> u64 {
        /// UNIX98_PTY_SLAVE_MAJOR.
        const MAJOR: u32 = 136;
        libc::makedev(MAJOR, self.number)
    }

    /// Works on the state; afterwards sends the signals and wakes those that this calls for.
    pub(super) fn work<T>(&self, f: impl FnOnce(&mut State, &mut Effects) -> T) -> T {
        use Readiness as R;
        let mut effects = Effects::default();
        let mut state = self.state.lock();
        let (output, typed, told) = (state.output.len(), state.typed.len(), state.told);
        let result = f(&mut state, &mut effects);
        state.take_typed(&mut effects);
        state.tell(&effects);
        let mut master = R::empty();
        if state.output.len() > output {
            master |= R::IN | R::RDNORM;
        }
        if state.told != told {
            master |= R::PRI | R::IN | R::RDNORM;
        }
        if state.typed.len() < typed {
            master |= R::OUT | R::WRNORM;
        }
        let mut slave = R::empty();
        if effects.readable {
            slave |= R::IN | R::RDNORM;
        }
        if effects.writable || state.output.len() < output {
            slave |= R::OUT | R::WRNORM;
        }
        let foreground = state.foreground;
        drop(state);
        for signal in effects.signals {
            job::signal_foreground(&self.kernel, foreground, signal);
        }
        if !slave.is_empty() {
            self.slave_queue.wake(slave);
        }
        if !master.is_empty() {
            self.master_queue.wake(master);
        }
        result
    }

    /// Looks at the state.
    pub(super) fn look<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.state.lock())
    }

    /// The settings.
    pub fn termios(&self) -> Termios {
        *self.state.lock().discipline.termios()
    }

    /// Whose terminal it is.
    pub fn foreground(&self) -> Foreground {
        self.state.lock().foreground
    }

    /// Makes it a session's, or nobody's.
    pub(super) fn set_foreground(&self, foreground: Foreground) {
        self.state.lock().foreground = foreground;
    }

    /// Whether a background process's output is held up.
    pub(super) fn stops_background_output(&self) -> bool {
        self.state.lock().discipline.termios().has_local(LocalFlags::TOSTOP)
    }

    /// The size of the window that it is shown in.
    pub fn window(&self) -> WindowSize {
        self.state.lock().window
    }

    /// Changes it; the foreground group is told when it is another.
    pub fn set_window(&self, window: WindowSize) {
        let foreground = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.window, window) == window {
                return;
            }
            state.foreground
        };
        job::signal_foreground(&self.kernel, foreground, libc::SIGWINCH);
    }

    /// Whether the slave cannot be opened yet.
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }

    /// unlockpt(3).
    pub fn lock(&self, on: bool) {
        self.locked.store(on, Ordering::Relaxed);
    }

    /// One more slave; the number of hang-ups that it was opened after. EIO while it is locked, and without a master.
    pub(super) fn enter_slave(&self) -> Result<u64, Errno> {
        let mut state = self.state.lock();
        if self.is_locked() || state.master_gone {
            return Err(Errno::EIO);
        }
        state.slaves += 1;
        state.deserted = false;
        Ok(state.hangups)
    }

    /// One slave less.
    pub(super) fn leave_slave(&self) {
        let mut state = self.state.lock();
        state.slaves = state.slaves.saturating_sub(1);
        if state.slaves > 0 {
            return;
        }
        state.deserted = true;
        self.exclusive.store(false, Ordering::Relaxed);
        drop(state);
        self.master_queue.wake(Readiness::IN | Readiness::RDNORM | Readiness::HUP);
    }

    /// Whether all slaves are closed again.
    pub(super) fn is_deserted(&self) -> bool {
        self.state.lock().deserted
    }

    /// The master is gone: the name goes, slaves are dead, the session's leader gets SIGHUP.
    pub(super) fn hang_up(self: &Arc<Self>) {
        let foreground = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.master_gone, true) {
                return;
            }
            state.hangups += 1;
            state.packets = false;
            std::mem::take(&mut state.foreground)
        };
        if let Some(devpts) = self.devpts.upgrade() {
            devpts.remove(self.number);
        }
        self.slave_queue.wake(Readiness::IN | Readiness::OUT | Readiness::HUP);
        job::hung_up(self, foreground);
    }

    /// Whether a slave that was opened after `hangups` hang-ups is dead.
    pub(super) fn is_dead(&self, hangups: u64) -> bool {
        self.state.lock().hangups != hangups
    }

    /// What a slave is ready for.
    pub(super) fn slave_readiness(&self, hangups: u64) -> Readiness {
        self.state.lock().slave_readiness(hangups)
    }

    /// What the master is ready for.
    pub(super) fn master_readiness(&self) -> Readiness {
        self.state.lock().master_readiness()
    }

    /// Bytes that can be typed now.
    pub(super) fn typing_room(&self) -> usize {
        TYPED_AHEAD.saturating_sub(self.state.lock().typed.len())
    }

    /// Types; the caller has looked for room, and what is beyond is lost.
    pub(super) fn type_bytes(&self, bytes: &[u8]) {
        self.work(|state, _| state.typed.extend(bytes.iter().take(TYPED_AHEAD.saturating_sub(state.typed.len()))));
    }

    /// Gives up to `limit` bytes of output to `sink`, which says how many it took; in packet mode with the byte that says what they
    /// are. EAGAIN when there is nothing, EIO when there is nothing more to come.
    pub(super) fn read_output(&self, limit: usize, mut sink: impl FnMut(&[u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
        self.work(|state, _| {
            let mut done = 0;
            if state.packets {
                if !state.told.is_empty() {
                    sink(&[state.told.bits()])?;
                    state.told = Packet::empty();
                    return Ok(1);
                }
                if !state.output.is_empty() {
                    done = sink(&[0])?;
                }
            }
            if state.output.is_empty() {
                return Err(if state.deserted { Errno::EIO } else { Errno::EAGAIN });
            }
            while done < limit && !state.output.is_empty() {
                let front = state.output.front();
                let offered = front.len().min(limit - done);
                let taken = match sink(&front[..offered]) {
                    Ok(taken) => taken,
                    Err(errno) if done == 0 => return Err(errno),
                    Err(_) => break,
                };
                state.output.consume(taken);
                done += taken;
                let State { discipline, output, .. } = state;
                discipline.process_echoes(output);
                if taken < offered {
                    break;
                }
            }
            Ok(done)
        })
    }

    /// TIOCPKT.
    pub(super) fn set_packets(&self, on: bool) {
        let mut state = self.state.lock();
        if on && !state.packets {
            state.told = Packet::empty();
        }
        state.packets = on;
    }

    /// TIOCGPKT.
    pub(super) fn packets(&self) -> bool {
        self.state.lock().packets
    }

    /// stat(2) of the slave's node.
    pub fn attributes(&self) -> Attributes {
        let ownership = *self.ownership.lock();
        Attributes {
            device: crate::fs::special::device(bulkhead_ipc::vfs::ForeignFs::Devpts),
            inode: u64::from(self.number) + 3,
            mode: libc::S_IFCHR | ownership.permissions,
            links: 1,
            uid: ownership.uid,
            gid: ownership.gid,
            special_device: self.device(),
            block_size: 1024,
            accessed: self.created,
            modified: self.created,
            changed: self.created,
            created: self.created,
            ..Attributes::default()
        }
    }
}
