//! The sockets in a container's directory: `control.sock`, and `debug/<service>.sock` for each service and the supervisor.

use std::{
    fs::{self, DirBuilder, File},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::DirBuilderExt, net::UnixListener},
    },
    path::{Path, PathBuf},
};

use nix::sys::{
    socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
    stat::{Mode, umask},
};

use crate::error::{Error, Result};

const CONTROL: &str = "control.sock";
const DEBUG: &str = "debug";

/// A directory that sockets can be reached in whatever the length of its path (a socket's is limited to 108 bytes).
struct ShortPath(File);

impl ShortPath {
    fn of(directory: &Path) -> Result<ShortPath> {
        Ok(ShortPath(File::open(directory).map_err(Error::file("open", directory))?))
    }

    fn to(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()).into()
    }
}

/// Makes `control.sock`, on which a connection carries whole messages.
pub fn listen_for_control(container: &Path) -> Result<UnixListener> {
    let doing = "listen for commands";
    let directory = ShortPath::of(container)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(Error::host(doing))?;
    let address = UnixAddr::new(&directory.to(CONTROL)).map_err(Error::host(doing))?;
    owner_only(|| bind(fd.as_raw_fd(), &address)).map_err(Error::host(doing))?;
    listen(&fd, Backlog::new(16).map_err(Error::host(doing))?).map_err(Error::host(doing))?;
    Ok(UnixListener::from(fd))
}

/// Connects to the `control.sock` of a container.
pub fn connect_for_control(container: &Path) -> std::io::Result<OwnedFd> {
    let directory = File::open(container)?;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    let path: PathBuf = format!("/proc/self/fd/{}/{CONTROL}", directory.as_raw_fd()).into();
    nix::sys::socket::connect(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
    Ok(fd)
}

/// Makes `debug/<name>.sock` for each name.
pub fn listen_for_debug<const N: usize>(container: &Path, names: [&str; N]) -> Result<[UnixListener; N]> {
    let path = container.join(DEBUG);
    DirBuilder::new().mode(0o711).create(&path).map_err(Error::file("make", &path))?;
    let directory = ShortPath::of(&path)?;
    let mut listeners = Vec::with_capacity(N);
    for name in names {
        let file = format!("{name}.sock");
        let listener =
            owner_only(|| UnixListener::bind(directory.to(&file))).map_err(Error::file("listen at", &path.join(&file)))?;
        listeners.push(listener);
    }
    listeners.try_into().map_err(|_| Error::Host { doing: "listen", why: "too few sockets".into() })
}

/// Files made meanwhile are mode 0600; this process has one thread then.
fn owner_only<T>(make: impl FnOnce() -> T) -> T {
    let before = umask(Mode::from_bits_truncate(0o177));
    let made = make();
    umask(before);
    made
}

/// Removes them all.
pub fn remove(container: &Path) {
    // What is left is removed with the directory at last.
    let _ = fs::remove_file(container.join(CONTROL));
    let _ = fs::remove_dir_all(container.join(DEBUG));
}
