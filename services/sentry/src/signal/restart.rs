//! How an interrupted system call goes on: with EINTR, from its start, or with what was left of its timeout.

use bulkhead_ipc::Errno;

use crate::abi::{Arguments, UserAddress};

/// A call that restart_syscall(2) carries on with, so that a relative timeout does not start anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestartBlock {
    /// nanosleep, clock_nanosleep: the clock, the deadline in that clock's nanoseconds, and where what is left is written.
    Sleep {
        /// CLOCK_*.
        clock: i32,
        /// When it ends.
        deadline: u64,
        /// Where to write the rest on another interruption; may be NULL.
        remaining: UserAddress,
    },
    /// poll: its arguments, and the deadline in executor time.
    Poll {
        /// As the guest gave them.
        arguments: Arguments,
        /// When it ends.
        deadline: u64,
    },
    /// futex FUTEX_WAIT: its arguments, and the deadline in executor time.
    Futex {
        /// As the guest gave them.
        arguments: Arguments,
        /// When it ends.
        deadline: u64,
    },
}

/// What becomes of a call that returned `result` when signals are delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// It has returned; nothing to do.
    No,
    /// It returns EINTR.
    Interrupt,
    /// It is made again with the same arguments.
    Again,
    /// restart_syscall is made in its place.
    Resume,
}

/// `handler` is `None` when no handler is about to run, else whether that has SA_RESTART.
pub fn decide(result: u64, handler: Option<bool>) -> Restart {
    let is = |code: Errno| result == code.to_return();
    if is(Errno::ERESTARTNOINTR) {
        Restart::Again
    } else if is(Errno::ERESTARTSYS) {
        if handler == Some(false) { Restart::Interrupt } else { Restart::Again }
    } else if is(Errno::ERESTARTNOHAND) {
        if handler.is_some() { Restart::Interrupt } else { Restart::Again }
    } else if is(Errno::ERESTART_RESTARTBLOCK) {
        if handler.is_some() { Restart::Interrupt } else { Restart::Resume }
    } else {
        Restart::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_decided_as_signal_7_says() {
        use Restart::*;
        let cases = [
            (Errno::ERESTARTSYS, [Again, Interrupt, Again]),
            (Errno::ERESTARTNOINTR, [Again, Again, Again]),
            (Errno::ERESTARTNOHAND, [Again, Interrupt, Interrupt]),
            (Errno::ERESTART_RESTARTBLOCK, [Resume, Interrupt, Interrupt]),
            (Errno::EINTR, [No, No, No]),
        ];
        for (errno, expected) in cases {
            let result = errno.to_return();
            assert_eq!([decide(result, None), decide(result, Some(false)), decide(result, Some(true))], expected, "{errno}");
        }
        assert_eq!(decide(0, Some(true)), No);
    }
}
