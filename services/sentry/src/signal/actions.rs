//! What a process does on each signal: sigaction(2)'s table, and the defaults of signal(7).

use parking_lot::Mutex;

use super::set::{HIGHEST, SignalSet};

/// SIG_DFL.
pub const DEFAULT: u64 = 0;
/// SIG_IGN.
pub const IGNORE: u64 = 1;

bitflags::bitflags! {
    /// SA_*, as sigaction(2) has them.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ActionFlags: u64 {
        /// No SIGCHLD when a child stops.
        const NOCLDSTOP = 0x1;
        /// Children do not become zombies.
        const NOCLDWAIT = 0x2;
        /// Three arguments (x86-64 passes them always).
        const SIGINFO = 0x4;
        /// The frame's return address is given; x86-64 insists on it.
        const RESTORER = 0x0400_0000;
        /// On the alternate stack.
        const ONSTACK = 0x0800_0000;
        /// Interrupted calls restart.
        const RESTART = 0x1000_0000;
        /// The signal itself is not blocked while its handler runs.
        const NODEFER = 0x4000_0000;
        /// Back to the default when it is delivered.
        const RESETHAND = 0x8000_0000;
    }
}

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SignalAction {
    /// The handler's address, [`DEFAULT`] or [`IGNORE`].
    pub handler: u64,
    /// SA_*.
    pub flags: ActionFlags,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked as well while the handler runs.
    pub mask: SignalSet,
}

/// What the kernel does by itself (signal(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum DefaultAction {
    Terminate,
    DumpCore,
    Ignore,
    Stop,
    Continue,
}

/// The default for a signal.
pub const fn default_action(signal: i32) -> DefaultAction {
    match signal {
        libc::SIGQUIT
        | libc::SIGILL
        | libc::SIGTRAP
        | libc::SIGABRT
        | libc::SIGBUS
        | libc::SIGFPE
        | libc::SIGSEGV
        | libc::SIGXCPU
        | libc::SIGXFSZ
        | libc::SIGSYS => DefaultAction::DumpCore,
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH => DefaultAction::Ignore,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => DefaultAction::Stop,
        libc::SIGCONT => DefaultAction::Continue,
        _ => DefaultAction::Terminate,
    }
}

/// The table; CLONE_SIGHAND shares it.
#[derive(Debug)]
pub struct SignalActions {
    table: Mutex<[SignalAction; HIGHEST as usize]>,
}

/// A signal's place in the table.
fn index(signal: i32) -> Option<usize> {
    usize::try_from(signal.checked_sub(1)?).ok()
}

impl Default for SignalActions {
    fn default() -> Self {
        SignalActions { table: Mutex::new([SignalAction::default(); HIGHEST as usize]) }
    }
}

impl SignalActions {
    /// The action for `signal` (1..=64; anything else has the default).
    pub fn get(&self, signal: i32) -> SignalAction {
        index(signal).and_then(|i| self.table.lock().get(i).copied()).unwrap_or_default()
    }
    /// Replaces it; the old one is returned.
    pub fn set(&self, signal: i32, action: SignalAction) -> SignalAction {
        let replace = |i| self.table.lock().get_mut(i).map(|slot| std::mem::replace(slot, action));
        index(signal).and_then(replace).unwrap_or_default()
    }
    /// A copy (fork without CLONE_SIGHAND).
    pub fn fork(&self) -> SignalActions {
        SignalActions { table: Mutex::new(*self.table.lock()) }
    }
    /// For execve: what was handled has the default again, what was ignored stays so.
    pub fn for_exec(&self) -> SignalActions {
        let mut table = *self.table.lock();
        for action in &mut table {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = SignalAction { handler, ..Default::default() };
        }
        SignalActions { table: Mutex::new(table) }
    }
    /// Whether a delivery would do nothing: ignored, or ignored by default.
    pub fn ignores(&self, signal: i32) -> bool {
        match self.get(signal).handler {
            IGNORE => true,
            DEFAULT => default_action(signal) == DefaultAction::Ignore,
            _ => false,
        }
    }
    /// (ignored, caught), for /proc/self/status.
    pub fn summary(&self) -> (SignalSet, SignalSet) {
        let (mut ignored, mut caught) = (SignalSet::EMPTY, SignalSet::EMPTY);
        for (i, action) in self.table.lock().iter().enumerate() {
            match action.handler {
                DEFAULT => {}
                IGNORE => ignored = ignored.with(i as i32 + 1),
                _ => caught = caught.with(i as i32 + 1),
            }
        }
        (ignored, caught)
    }
}
