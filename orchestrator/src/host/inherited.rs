//! Fds beyond stdio that the caller means for the container: those of socket activation ($LISTEN_FDS), then as many as
//! `--preserve-fds` says.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::error::{Error, Result};

/// Numbers that are in the way of nobody.
const CLEAR_OF_INHERITED: RawFd = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Duplicates, in order; in the container they are 3, 4 and so on.
    pub fds: Vec<OwnedFd>,
    /// What the program is to find in its environment.
    pub environment: Vec<Vec<u8>>,
}

/// Duplicates the inherited fds; all of them have to be there.
pub fn inherited_fds(preserved: u32) -> Result<Inherited> {
    let activated = activated();
    let mut inherited = Inherited::default();
    if activated > 0 {
        inherited.environment = vec![format!("LISTEN_FDS={activated}").into_bytes(), b"LISTEN_PID=1".to_vec()];
    }
    for number in 3..3 + i64::from(activated) + i64::from(preserved) {
        let missing = || Error::Usage(format!("please check that preserved-fd {} (of {preserved}) is present", number - 3));
        let raw = RawFd::try_from(number).map_err(|_| missing())?;
        // SAFETY: asks about a number, and duplicates it if it is open; whoever owns it keeps it.
        let fd = unsafe { BorrowedFd::borrow_raw(raw) };
        // Our own are close-on-exec; what came through exec(2) cannot be.
        let flags = fcntl(fd, FcntlArg::F_GETFD).map(FdFlag::from_bits_truncate).map_err(|_| missing())?;
        if flags.contains(FdFlag::FD_CLOEXEC) {
            return Err(missing());
        }
        let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(CLEAR_OF_INHERITED)).map_err(Error::host("duplicate an inherited fd"))?;
        // SAFETY: fcntl just made this fd, and nobody else owns it.
        inherited.fds.push(unsafe { OwnedFd::from_raw_fd(copy) });
    }
    Ok(inherited)
}

/// Number of sockets that systemd, or who does as it does, passed to this process (sd_listen_fds(3)).
fn activated() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") == Some(std::process::id()) { number("LISTEN_FDS").unwrap_or(0) } else { 0 }
}
