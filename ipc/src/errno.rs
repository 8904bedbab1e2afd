//! Error numbers as the guest sees them (errno(3)), shared by every service.

use std::fmt;

/// A Linux error number. Only the guest's boundary and the file protocols speak in these; inside a service, use its own
/// error type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// The error with this number; numbers outside 1..=4095 (which Linux cannot return) become `EIO`.
    pub const fn new(number: i32) -> Self {
        if number >= 1 && number <= 4095 { Errno(number) } else { Errno(libc::EIO) }
    }

    /// The positive number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// What a raw system call returns for it: the negated number in `rax`.
    pub const fn to_return(self) -> u64 {
        (-(self.0 as i64)) as u64
    }

    /// The calling host thread's `errno`.
    pub fn last() -> Self {
        Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

macro_rules! errnos {
    ($($name:ident)*) => {
        #[allow(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno(libc::$name);)*
        }

        /// The symbolic name ("ENOENT"), or `None` for a number without one.
        pub const fn name_of(number: i32) -> Option<&'static str> {
            match number {
                $(libc::$name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV
    ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG
    ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM EOVERFLOW EILSEQ EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT
    EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH
    ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN
    EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ENODATA ETIME EPROTO EBADMSG ECANCELED EOWNERDEAD ENOTRECOVERABLE ELIBBAD
    ENOKEY EKEYEXPIRED EREMOTE
}

/// In-kernel codes of Linux (include/linux/errno.h): how an interrupted call restarts. They never reach the guest: the signal
/// delivery turns them into `EINTR` or a restart.
impl Errno {
    /// Restart when the handler has `SA_RESTART`, or when no handler runs.
    pub const ERESTARTSYS: Errno = Errno(512);
    /// Always restart.
    pub const ERESTARTNOINTR: Errno = Errno(513);
    /// Restart only when no handler runs.
    pub const ERESTARTNOHAND: Errno = Errno(514);
    /// Restart through `restart_syscall` with what is left of a timeout, when no handler runs.
    pub const ERESTART_RESTARTBLOCK: Errno = Errno(516);
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name_of(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl std::error::Error for Errno {}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Errno::new(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(error: nix::errno::Errno) -> Self {
        Errno::new(error as i32)
    }
}
