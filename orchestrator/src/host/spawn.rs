//! Starts a service: a process in new user, pid, network, IPC, UTS, cgroup and mount namespaces with nothing but its control
//! channel as fd 3.
//!
//! The child stops at a gate until the parent has written its id maps and limits; the costly part (making the namespaces,
//! exec) then runs in the child, so that services start side by side.

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::{
    error::{Error, Result},
    oci::ids::{IdMappings, IdRange},
    signals,
};

/// Which host user and group a service runs as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdMap<'a> {
    /// Its root is this unprivileged id of the host, and there is no other.
    Single(u32),
    /// Every id is itself: for the gofer, whose capabilities over files act on the ids that own them. It has none
    /// outside its namespaces.
    Identity,
    /// Those of the container's configuration: for the gofer, which then sees and makes files as the container's users do.
    Mapped(&'a IdMappings),
}

impl IdMap<'_> {
    /// What `uid_map` and `gid_map` get.
    fn maps(self) -> [(&'static str, String); 2] {
        let (users, groups) = match self {
            IdMap::Single(id) => (format!("0 {id} 1\n"), format!("0 {id} 1\n")),
            IdMap::Identity => ("0 0 4294967295\n".to_owned(), "0 0 4294967295\n".to_owned()),
            IdMap::Mapped(ids) => (lines(&ids.users), lines(&ids.groups)),
        };
        [("uid_map", users), ("gid_map", groups)]
    }
}

fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.host, range.size)).collect()
}

/// How to start a service.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Which service, for messages.
    pub service: &'static str,
    /// Its name: argv, alone.
    pub name: &'a CStr,
    /// The binary's path.
    pub binary: &'a CStr,
    /// Becomes fd 3.
    pub control: BorrowedFd<'a>,
    /// Becomes fds 0 and 1: /dev/null.
    pub null: BorrowedFd<'a>,
    /// Becomes fd 2.
    pub stderr: BorrowedFd<'a>,
    /// User and group.
    pub ids: IdMap<'a>,
    /// Open files at most.
    pub open_files: u64,
}

/// A running service. Dropping it does not end it.
#[derive(Debug)]
pub struct ServiceProcess {
    /// Its pid on the host.
    pub pid: Pid,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// Where it says which step failed before its binary ran.
    gate: OwnedFd,
}

/// A step of the child before exec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SetupStep {
    /// Becoming root of its user namespace.
    Ids = 1,
    /// Making its namespaces.
    Namespaces,
    /// Arranging fds and signals.
    Descriptors,
    /// Running the binary.
    Exec,
}

impl SetupStep {
    fn from_number(number: u8) -> Option<SetupStep> {
        [SetupStep::Ids, SetupStep::Namespaces, SetupStep::Descriptors, SetupStep::Exec]
            .into_iter()
            .find(|step| *step as u8 == number)
    }

    /// For messages: "cannot …".
    pub fn describe(self) -> &'static str {
        match self {
            SetupStep::Ids => "change its user",
            SetupStep::Namespaces => "make its namespaces",
            SetupStep::Descriptors => "arrange its descriptors",
            SetupStep::Exec => "run its binary",
        }
    }
}

/// Fds that the child needs until exec are moved to numbers from here on, clear of 0 to 3.
const CLEAR_OF_STANDARD: i32 = 16;
const SETUP_FAILED: i32 = 127;

impl Launch<'_> {
    /// Starts it. The calling thread must live as long as the service may (its end kills the service).
    pub fn spawn(&self) -> Result<ServiceProcess> {
        let doing = "start a service";
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(Error::host(doing))?;
        let clear = |fd: BorrowedFd<'_>| -> Result<OwnedFd> {
            let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(CLEAR_OF_STANDARD)).map_err(Error::host(doing))?;
            // SAFETY: fcntl just made this fd, and nobody else owns it.
            Ok(unsafe { OwnedFd::from_raw_fd(raw) })
        };
        let child = Child {
            gate: clear(theirs.as_fd())?,
            control: clear(self.control)?,
            null: clear(self.null)?,
            stderr: clear(self.stderr)?,
            binary: self.binary,
            binary_fd: clear(open_binary(self.binary)?.as_fd())?,
            name: self.name,
        };
        drop(theirs);
        let (pid, pidfd) = match clone_child().map_err(Error::host(doing))? {
            Cloned::Child => child.run(),
            Cloned::Parent(pid, pidfd) => (pid, pidfd),
        };
        drop(child);
        let process = ServiceProcess { pid, pidfd, gate: ours };
        // On an error the gate closes with `process`, at which the child ends; the caller's teardown has nothing to reap but
        // a zombie, which we take here.
        match self.prepare(&process) {
            Ok(()) => Ok(process),
            Err(error) => Err(self.give_up(&process, error)),
        }
    }

    /// Ends and reaps a child that could not be prepared. If it had ended by itself, that is what went wrong.
    fn give_up(&self, process: &ServiceProcess, error: Error) -> Error {
        // Its files are closed a moment before it is gone.
        let mut ended = [PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN)];
        let ended = poll(&mut ended, PollTimeout::from(100_u8)) == Ok(1);
        process.kill();
        match (ended, waitpid(process.pid, None)) {
            (true, Ok(WaitStatus::Signaled(_, signal, _))) => {
                Error::Service { service: self.service, cause: format!("killed by {}", signals::name(signal as i32)) }
            }
            _ => error,
        }
    }

    /// What only the parent may do to the child: id maps and limits. Then opens the gate.
    fn prepare(&self, process: &ServiceProcess) -> Result<()> {
        for (map, lines) in self.ids.maps() {
            let path = format!("/proc/{}/{map}", process.pid);
            fs::write(&path, lines).map_err(Error::file("write", path.as_ref()))?;
        }
        limit(process.pid, libc::RLIMIT_CORE, 0)?;
        limit(process.pid, libc::RLIMIT_NOFILE, self.open_files)?;
        limit(process.pid, libc::RLIMIT_MSGQUEUE, 0)?;
        nix::sys::socket::send(process.gate.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL).map_err(Error::host("start a service"))?;
        Ok(())
    }
}

impl ServiceProcess {
    /// Ends it at once; its pid namespace, and so all its children, with it.
    pub fn kill(&self) {
        // It may have ended already.
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL);
    }

    /// Why it ended before its binary ran, if that was so.
    pub fn setup_failure(&self) -> Option<(SetupStep, io::Error)> {
        let mut report = [0; 5];
        match recv(self.gate.as_raw_fd(), &mut report, MsgFlags::MSG_DONTWAIT) {
            Ok(5) => {
                let [step, errno @ ..] = report;
                Some((SetupStep::from_number(step)?, io::Error::from_raw_os_error(i32::from_le_bytes(errno))))
            }
            _ => None,
        }
    }
}

/// The binary itself, for services that may not walk to it as the user they become.
fn open_binary(path: &CStr) -> Result<OwnedFd> {
    use nix::{fcntl::OFlag, sys::stat::Mode};
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(Error::file("open", path.to_string_lossy().as_ref().as_ref()))
}

/// Sets both limits of another process, which is our child and has not run anything yet. Where we may not raise them (without
/// CAP_SYS_RESOURCE), they stay at what we have ourselves.
fn limit(pid: Pid, resource: libc::__rlimit_resource_t, value: u64) -> Result<()> {
    let mut limits = libc::rlimit { rlim_cur: value, rlim_max: value };
    for _ in 0..2 {
        // SAFETY: `limits` is live and only read; the old limits are not asked for.
        if unsafe { libc::prlimit(pid.as_raw(), resource, &limits, std::ptr::null_mut()) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `own` is live and written by the call.
        let known = unsafe { libc::getrlimit(resource, &mut own) } == 0;
        if error.raw_os_error() != Some(libc::EPERM) || !known || own.rlim_max >= value {
            return Err(Error::host("limit a service")(error));
        }
        limits = libc::rlimit { rlim_cur: own.rlim_max, rlim_max: own.rlim_max };
    }
    Err(Error::host("limit a service")(nix::errno::Errno::EPERM))
}

enum Cloned {
    Parent(Pid, OwnedFd),
    Child,
}

fn clone_child() -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all fields are integers, for which zero is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM and a stack this is a fork: the child goes on here in a copy of our memory. The supervisor has
    // one thread while it starts services, and the child makes only system calls until exec. `arguments` is live.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) } {
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has stored a new fd, which nobody else owns.
        pid if pid > 0 => Ok(Cloned::Parent(Pid::from_raw(pid as i32), unsafe { OwnedFd::from_raw_fd(pidfd) })),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the child has.
struct Child<'a> {
    gate: OwnedFd,
    control: OwnedFd,
    null: OwnedFd,
    stderr: OwnedFd,
    binary: &'a CStr,
    binary_fd: OwnedFd,
    name: &'a CStr,
}

impl Child<'_> {
    /// Becomes the service; allocates nothing.
    fn run(&self) -> ! {
        let (step, errno) = self.become_service();
        let mut report = [step as u8, 0, 0, 0, 0];
        report[1..].copy_from_slice(&errno.to_le_bytes());
        // SAFETY: `report` is live; _exit does not return and runs nothing of the parent's.
        unsafe {
            libc::send(self.gate.as_raw_fd(), report.as_ptr().cast(), report.len(), libc::MSG_NOSIGNAL);
            libc::_exit(SETUP_FAILED)
        }
    }

    /// Returns only on failure.
    fn become_service(&self) -> (SetupStep, i32) {
        let failed = |step| (step, nix::errno::Errno::last_raw());
        let mut go = [0_u8];
        // SAFETY: `go` is live and one byte long. Closed without a byte: the parent is gone or has given up.
        if unsafe { libc::recv(self.gate.as_raw_fd(), go.as_mut_ptr().cast(), 1, 0) } != 1 {
            return failed(SetupStep::Ids);
        }
        // The raw calls, because the C library's want to tell all threads, of which there are none.
        // SAFETY: these take integers, and a null list of length zero.
        let changed = unsafe {
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) == 0
                && libc::syscall(libc::SYS_setresgid, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_setresuid, 0, 0, 0) == 0
        };
        if !changed {
            return failed(SetupStep::Ids);
        }
        let namespaces = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
        // SAFETY: takes an integer.
        if unsafe { libc::unshare(namespaces) } != 0 {
            return failed(SetupStep::Namespaces);
        }
        if !self.arrange_descriptors() {
            return failed(SetupStep::Descriptors);
        }
        let arguments = [self.name.as_ptr(), std::ptr::null()];
        let environment = [std::ptr::null()];
        // By path first, because /proc/PID/comm is then a name on every kernel. By fd where a directory on the way is closed
        // to the service's user.
        // SAFETY: all strings are NUL-terminated and live, both lists end with a null pointer.
        unsafe {
            libc::execve(self.binary.as_ptr(), arguments.as_ptr(), environment.as_ptr());
            if nix::errno::Errno::last_raw() == libc::EACCES {
                libc::syscall(
                    libc::SYS_execveat,
                    self.binary_fd.as_raw_fd(),
                    c"".as_ptr(),
                    arguments.as_ptr(),
                    environment.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
            }
        }
        failed(SetupStep::Exec)
    }

    fn arrange_descriptors(&self) -> bool {
        // SAFETY: fds are ours and live, the signal set is initialised by sigemptyset before it is read, handlers are
        // constants; nothing else is passed by pointer.
        unsafe {
            let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL) != libc::SIG_ERR
                && libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) == 0
                && libc::dup2(self.null.as_raw_fd(), 0) == 0
                && libc::dup2(self.null.as_raw_fd(), 1) == 1
                && libc::dup2(self.stderr.as_raw_fd(), 2) == 2
                && libc::dup2(self.control.as_raw_fd(), 3) == 3
                // All others close at exec; until then they may be needed.
                && libc::syscall(libc::SYS_close_range, 4, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0
                && libc::chdir(c"/".as_ptr()) == 0
                && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
        }
    }
}
