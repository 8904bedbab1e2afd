//! What the arguments of each system call are: `signatures.txt`, understood.

use std::sync::LazyLock;

use super::names::{self, Names};
use crate::syscalls::table::ROWS;

/// What an argument is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// C `int`.
    Int,
    /// C `unsigned int`.
    Uint,
    /// `long`, `off_t`.
    Long,
    /// `size_t`.
    Size,
    /// Bits.
    Hex,
    /// A pointer that is not followed.
    Address,
    /// Permission bits.
    Octal,
    /// Permission bits, if the flags before them say that a file is made.
    ModeIfCreating,
    /// A descriptor.
    Fd,
    /// A directory's, or AT_FDCWD.
    DirectoryFd,
    /// A NUL-terminated path.
    Path,
    /// A NUL-terminated string that is no path.
    String,
    /// Bytes, as many as the next argument says.
    Bytes,
    /// iovecs, as many as the next argument says.
    Vector,
    /// argv.
    Strings,
    /// envp.
    Environment,
    /// A signal's number.
    Signal,
    /// -1 is for ever.
    Milliseconds,
    /// One of these.
    One(&'static Names),
    /// A sum of these.
    Flags(&'static Names),
    /// open(2)'s flags, with the access mode.
    OpenFlags,
    /// clone(2)'s flags, with the signal.
    CloneFlags,
    /// fcntl(2)'s third argument, after the command.
    FcntlArgument,
    /// futex(2)'s arguments after the operation, which says whether there are any.
    FutexValue,
    /// See [`Kind::FutexValue`].
    FutexTime,
    /// See [`Kind::FutexValue`].
    FutexAddress,
    /// See [`Kind::FutexValue`].
    FutexValue3,
    /// Something in memory.
    Structure(Structure),
}

/// What can be in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub(super) enum Structure {
    Stat,
    Statx,
    Timespec,
    Timeval,
    Itimerval,
    Itimerspec,
    SignalSet,
    SignalAction,
    SignalInfo,
    PollFds,
    Event,
    Events,
    ResourceLimit,
    WaitStatus,
    Int,
    Fds,
    Utsname,
    SocketAddress,
    MessageHeader,
    Clone3,
    OpenHow,
    /// Directory entries: only how many there are.
    Entries,
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Argument {
    pub kind: Kind,
    /// It is what the guest gets.
    pub on_return: bool,
}

/// What a call returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Returns {
    Number,
    Address,
    Octal,
}

/// A call's arguments, and what it returns.
#[derive(Clone, Debug)]
pub(super) struct Signature {
    pub arguments: Vec<Argument>,
    pub returns: Returns,
}

static TEXT: &str = include_str!("signatures.txt");

/// By number, as far as there are any.
static SIGNATURES: LazyLock<Vec<Option<Signature>>> = LazyLock::new(|| {
    let mut signatures = Vec::new();
    signatures.resize_with(ROWS.last().map_or(0, |row| row.number as usize + 1), || None);
    for (name, signature) in lines() {
        if let Some(row) = ROWS.iter().find(|row| row.name == name) {
            signatures[row.number as usize] = signature;
        }
    }
    signatures
});

/// A call's signature, if it is known.
pub(super) fn of(number: u64) -> Option<&'static Signature> {
    SIGNATURES.get(usize::try_from(number).ok()?)?.as_ref()
}

fn lines() -> impl Iterator<Item = (&'static str, Option<Signature>)> {
    TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        (name, parse(rest))
    })
}

fn parse(text: &str) -> Option<Signature> {
    let (arguments, returns) = text.split_once('=').unwrap_or((text, ""));
    let arguments = arguments.split_whitespace().map(|word| {
        let (word, on_return) = word.strip_prefix('>').map_or((word, false), |word| (word, true));
        // What the guest gets is in memory.
        let kind = if word == "int" && !on_return { Kind::Int } else { kind(word)? };
        Some(Argument { kind, on_return })
    });
    let returns = match returns.trim() {
        "" => Returns::Number,
        "address" => Returns::Address,
        "octal" => Returns::Octal,
        _ => return None,
    };
    Some(Signature { arguments: arguments.collect::<Option<_>>()?, returns })
}

fn kind(word: &str) -> Option<Kind> {
    use Structure as S;
    Some(match word {
        "int" => Kind::Structure(S::Int),
        _ if plain(word).is_some() => plain(word)?,
        "stat" => Kind::Structure(S::Stat),
        "statx" => Kind::Structure(S::Statx),
        "timespec" => Kind::Structure(S::Timespec),
        "timeval" => Kind::Structure(S::Timeval),
        "itimerval" => Kind::Structure(S::Itimerval),
        "itimerspec" => Kind::Structure(S::Itimerspec),
        "sigset" => Kind::Structure(S::SignalSet),
        "sigaction" => Kind::Structure(S::SignalAction),
        "siginfo" => Kind::Structure(S::SignalInfo),
        "pollfds" => Kind::Structure(S::PollFds),
        "event" => Kind::Structure(S::Event),
        "events" => Kind::Structure(S::Events),
        "rlimit" => Kind::Structure(S::ResourceLimit),
        "status" => Kind::Structure(S::WaitStatus),
        "fds" => Kind::Structure(S::Fds),
        "utsname" => Kind::Structure(S::Utsname),
        "sockaddr" => Kind::Structure(S::SocketAddress),
        "msghdr" => Kind::Structure(S::MessageHeader),
        "clone3" => Kind::Structure(S::Clone3),
        "openhow" => Kind::Structure(S::OpenHow),
        "entries" => Kind::Structure(S::Entries),
        _ => constants(word)?,
    })
}

fn plain(word: &str) -> Option<Kind> {
    Some(match word {
        "uint" => Kind::Uint,
        "long" => Kind::Long,
        "size" => Kind::Size,
        "hex" => Kind::Hex,
        "address" => Kind::Address,
        "octal" => Kind::Octal,
        "mode?" => Kind::ModeIfCreating,
        "fd" => Kind::Fd,
        "dirfd" => Kind::DirectoryFd,
        "path" => Kind::Path,
        "string" => Kind::String,
        "bytes" => Kind::Bytes,
        "vector" => Kind::Vector,
        "strings" => Kind::Strings,
        "environment" => Kind::Environment,
        "signal" => Kind::Signal,
        "milliseconds" => Kind::Milliseconds,
        "oflags" => Kind::OpenFlags,
        "cloneflags" => Kind::CloneFlags,
        "fcntlarg" => Kind::FcntlArgument,
        "futexval" => Kind::FutexValue,
        "futextime" => Kind::FutexTime,
        "futexaddress" => Kind::FutexAddress,
        "futexval3" => Kind::FutexValue3,
        _ => return None,
    })
}

fn constants(word: &str) -> Option<Kind> {
    Some(match word {
        "whence" => Kind::One(&names::WHENCE),
        "protection" => Kind::Flags(&names::PROTECTION),
        "mapflags" => Kind::Flags(&names::MAP),
        "msflags" => Kind::Flags(&names::SYNC),
        "advice" => Kind::One(&names::ADVICE),
        "fadvice" => Kind::One(&names::FILE_ADVICE),
        "sighow" => Kind::One(&names::SIGNAL_MASK),
        "ioctl" => Kind::One(&names::IOCTL),
        "access" => Kind::Flags(&names::ACCESS),
        "itimer" => Kind::One(&names::INTERVAL_TIMER),
        "domain" => Kind::One(&names::DOMAIN),
        "socktype" => Kind::Flags(&names::SOCKET),
        "sockflags" => Kind::Flags(&names::SOCKET_FLAGS),
        "sockoption_level" => Kind::One(&names::SOCKET_LEVEL),
        "msgflags" => Kind::Flags(&names::MESSAGE),
        "shutdown" => Kind::One(&names::SHUTDOWN),
        "waitoptions" => Kind::Flags(&names::WAIT),
        "waitid" => Kind::One(&names::WAIT_ID),
        "fcntl" => Kind::One(&names::FCNTL),
        "flock" => Kind::Flags(&names::FLOCK),
        "resource" => Kind::One(&names::RESOURCE),
        "who" => Kind::One(&names::USAGE_WHO),
        "prctl" => Kind::One(&names::PRCTL),
        "archprctl" => Kind::One(&names::ARCH_PRCTL),
        "futex" => Kind::One(&names::FUTEX),
        "clock" => Kind::One(&names::CLOCK),
        "timerflags" => Kind::Flags(&names::TIMER),
        "epollctl" => Kind::One(&names::EPOLL_CONTROL),
        "epollflags" => Kind::Flags(&names::EPOLL_CREATE),
        "tfdflags" => Kind::Flags(&names::TIMER_FD),
        "sfdflags" => Kind::Flags(&names::SIGNAL_FD),
        "efdflags" => Kind::Flags(&names::EVENT_FD),
        "mfdflags" => Kind::Flags(&names::MEMORY_FD),
        "oflags0" => Kind::Flags(&names::OPEN),
        "atflags" => Kind::Flags(&names::AT),
        "atunlink" => Kind::Flags(&names::AT_UNLINK),
        "renameflags" => Kind::Flags(&names::RENAME),
        _ => return None,
    })
}

/// The classes that [`class`] knows.
pub(super) const CLASSES: [&str; 7] = ["%file", "%desc", "%memory", "%process", "%signal", "%network", "%time"];

/// The numbers of a class of calls, as strace(1) has them: those with a path, with a descriptor, and so on.
pub(super) fn class(name: &str) -> Option<Vec<u64>> {
    let by_argument = |wanted: fn(&Kind) -> bool| {
        let has = |number: u64| of(number).is_some_and(|s| s.arguments.iter().any(|argument| wanted(&argument.kind)));
        ROWS.iter().map(|row| u64::from(row.number)).filter(|number| has(*number)).collect::<Vec<_>>()
    };
    let named = |names: &str| {
        let listed = |row: &&crate::syscalls::table::Row| names.split_whitespace().any(|name| name == row.name);
        ROWS.iter().filter(listed).map(|row| u64::from(row.number)).collect::<Vec<_>>()
    };
    Some(match name {
        "file" => [by_argument(|kind| matches!(kind, Kind::Path)), named("getcwd")].concat(),
        "desc" => [
            by_argument(|kind| matches!(kind, Kind::Fd | Kind::DirectoryFd)),
            named("open creat pipe pipe2 socketpair epoll_create epoll_create1 eventfd eventfd2 memfd_create poll ppoll select pselect6"),
        ]
        .concat(),
        "memory" => named("brk madvise mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap pkey_mprotect"),
        "process" => named(
            "clone clone3 execve execveat exit exit_group fork kill pidfd_open pidfd_send_signal tgkill tkill vfork wait4 waitid",
        ),
        "signal" => named(
            "kill pause pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
             rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4 tgkill tkill",
        ),
        "network" => named(
            "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto \
             setsockopt shutdown socket socketpair",
        ),
        "time" => named(
            "clock_adjtime clock_getres clock_gettime clock_nanosleep clock_settime gettimeofday nanosleep time timer_create \
             timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime alarm setitimer",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::table::Support;

    #[test]
    fn every_line_is_of_a_call_and_understood() {
        for (name, signature) in lines() {
            assert!(ROWS.iter().any(|row| row.name == name), "{name} is no call");
            let signature = signature.unwrap_or_else(|| panic!("{name} has a word that means nothing"));
            assert!(signature.arguments.len() <= 6, "{name}");
        }
    }

    #[test]
    fn every_call_that_is_there_has_a_line() {
        let without: Vec<_> = ROWS
            .iter()
            .filter(|row| row.support != Support::Absent && of(row.number.into()).is_none())
            .map(|row| row.name)
            .collect();
        assert_eq!(without, Vec::<&str>::new());
    }

    #[test]
    fn classes_hold_what_their_names_say() {
        for name in CLASSES {
            let class = class(&name[1..]).unwrap_or_default();
            assert!(class.len() > 5, "{name}");
        }
        assert!(class("file").unwrap_or_default().contains(&(libc::SYS_execve as u64)));
        assert!(!class("file").unwrap_or_default().contains(&(libc::SYS_read as u64)));
        assert!(class("desc").unwrap_or_default().contains(&(libc::SYS_read as u64)));
    }
}
