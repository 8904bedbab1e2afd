//! Each of these forks a child that confines itself, because there is no way back.

use super::*;
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork},
};

/// Runs `body` in a child process, and tells how it ended. The child exits with 0 when `body` returns true.
fn in_child(body: impl FnOnce() -> bool) -> WaitStatus {
    let loader = crate::code::tests::loader();
    // SAFETY: the child runs `body` and exits without returning into the test harness. The tests' bodies allocate, which glibc
    // makes safe after a fork, and take no other lock that another thread may hold.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
            // SAFETY: ends the child without running the harness's exit handlers.
            unsafe { libc::_exit(i32::from(!ok)) }
        }
        ForkResult::Parent { child } => {
            drop(loader);
            waitpid(child, None).unwrap()
        }
    }
}

fn exited(status: WaitStatus) -> Option<i32> {
    if let WaitStatus::Exited(_, code) = status { Some(code) } else { None }
}

fn seal(text: &str) -> bool {
    // A child of the harness has one thread, but /proc/self is its own, so that `prepare` is not needed for the filter.
    nix::sys::prctl::set_no_new_privs().unwrap();
    Confinement { landlock: false }.seal(&Policy::parse(text).unwrap()).is_ok()
}

const END: &str = "exit_group # the end\nwrite # reports\n";

#[test]
fn an_allowed_call_passes_and_a_denied_one_kills_with_sigsys() {
    let policy = format!("{END}getppid # tested");
    assert_eq!(exited(in_child(|| seal(&policy) && nix::unistd::getppid().as_raw() > 0)), Some(0));
    let status = in_child(|| {
        seal(&policy);
        nix::unistd::getuid().is_root()
    });
    assert!(matches!(status, WaitStatus::Signaled(_, nix::sys::signal::SIGSYS, _)), "{status:?}");
}

#[test]
fn the_arguments_decide() {
    let policy = format!("{END}fcntl arg1 in F_GETFD,F_GETFL # tested\nlseek arg0&6==0 arg2!=SEEK_END # tested");
    let fcntl = |command: i32| {
        in_child(|| {
            seal(&policy);
            // SAFETY: commands without a pointer.
            unsafe { libc::fcntl(2, command, 0) };
            true
        })
    };
    assert_eq!(exited(fcntl(libc::F_GETFD)), Some(0));
    assert_eq!(exited(fcntl(libc::F_GETFL)), Some(0));
    assert_eq!(exited(fcntl(libc::F_SETFD)), None);
    let lseek = |fd: i32, whence: i32| {
        in_child(|| {
            seal(&policy);
            // SAFETY: integers only.
            unsafe { libc::lseek(fd, 0, whence) };
            true
        })
    };
    assert_eq!(exited(lseek(1, libc::SEEK_CUR)), Some(0));
    assert_eq!(exited(lseek(2, libc::SEEK_CUR)), None);
    assert_eq!(exited(lseek(1, libc::SEEK_END)), None);
}

#[test]
fn a_rule_can_answer_with_an_error() {
    let policy = format!("{END}getuid =ENOSYS # tested");
    let status = in_child(|| {
        seal(&policy);
        // SAFETY: no arguments.
        unsafe { libc::syscall(libc::SYS_getuid) == -1 && Errno::last() == Errno::ENOSYS }
    });
    assert_eq!(exited(status), Some(0));
}

#[test]
fn a_thread_that_was_there_before_is_sealed_too() {
    let status = in_child(|| {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = wait.recv();
            nix::unistd::getuid()
        });
        seal(&format!("{END}include runtime"));
        let _ = go.send(());
        let _ = thread.join();
        true
    });
    assert!(matches!(status, WaitStatus::Signaled(_, nix::sys::signal::SIGSYS, _)), "{status:?}");
}

/// What a service sees after `prepare`, in namespaces as the supervisor makes them. Skipped where user namespaces are forbidden.
#[test]
fn a_prepared_process_has_an_empty_root_no_capabilities_and_cannot_connect() {
    use nix::sched::{CloneFlags, unshare};
    let host_file = std::fs::File::open("/etc/passwd").unwrap();
    let status = in_child(|| {
        if unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("skipped: no user namespaces here");
            return true;
        }
        let status =
            |field: &str, text: &str| text.lines().find_map(|line| line.strip_prefix(field)).map(|value| value.trim().to_owned());
        let own = std::fs::File::open("/proc/self/status").unwrap();
        let confinement =
            Confinement::prepare(&Restrictions { capabilities: &[Capability::Chown], ..Default::default() }).unwrap();
        let text = std::io::read_to_string(own).unwrap();
        let capabilities = |set: &str| u64::from_str_radix(&status(set, &text).unwrap(), 16).unwrap();
        assert_eq!([capabilities("CapEff:"), capabilities("CapPrm:"), capabilities("CapBnd:")], [1, 1, 1]);
        assert_eq!([capabilities("CapInh:"), capabilities("CapAmb:")], [0, 0]);
        assert_eq!(status("NoNewPrivs:", &text).as_deref(), Some("1"));
        // What was open stays open; nothing else can be reached.
        assert!(std::io::read_to_string(&host_file).unwrap().contains("root"));
        assert!(std::fs::File::open("/etc/passwd").is_err());
        assert!(std::fs::File::create("/x").is_err());
        if confinement.has_landlock() {
            assert_eq!(std::fs::read_dir("/").unwrap_err().raw_os_error(), Some(libc::EACCES));
        }
        true
    });
    assert_eq!(exited(status), Some(0));
}

#[test]
fn beneath_a_root_that_landlock_allows_files_can_be_opened() {
    use nix::sched::{CloneFlags, unshare};
    use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
    let directory = std::env::temp_dir().join(format!("bulkhead-landlock-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("sub")).unwrap();
    std::fs::write(directory.join("sub/file"), "text").unwrap();
    let path = std::ffi::CString::new(directory.to_str().unwrap()).unwrap();
    let status = in_child(|| {
        if unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).is_err() {
            eprintln!("skipped: no user namespaces here");
            return true;
        }
        // As the supervisor makes the gofer's roots: a detached mount.
        // SAFETY: open_tree(2) reads a path and returns a new fd.
        let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), 1 | libc::O_CLOEXEC) };
        assert!(fd >= 0, "open_tree: {}", Errno::last());
        // SAFETY: the new fd is ours.
        let root = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let outside = std::fs::File::open("/etc").unwrap();
        let roots = [(root.as_fd(), false)];
        let confinement = Confinement::prepare(&Restrictions { files: Files::Beneath(&roots), ..Default::default() }).unwrap();
        let open = |directory: i32, path: &std::ffi::CStr, flags: i32| {
            // SAFETY: openat(2) reads a path.
            unsafe { libc::openat(directory, path.as_ptr(), flags) }
        };
        assert!(open(root.as_raw_fd(), c"sub/file", libc::O_RDONLY) >= 0, "{}", Errno::last());
        if confinement.has_landlock() {
            assert_eq!(open(root.as_raw_fd(), c"sub/file", libc::O_RDWR), -1);
            assert_eq!(open(outside.as_raw_fd(), c"passwd", libc::O_RDONLY), -1);
        }
        true
    });
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(exited(status), Some(0));
}

#[test]
fn a_thread_may_give_memory_back_to_the_host() {
    let status = in_child(|| {
        seal("include runtime\ninclude threads");
        let worker = std::thread::spawn(|| {
            // Blocks of the allocator's arena for this thread (larger ones are mapped each by itself).
            let blocks: Vec<Vec<u8>> = (0..1000).map(|_| vec![1; 60_000]).collect();
            blocks.iter().map(Vec::len).sum::<usize>()
        });
        worker.join().unwrap() == 60_000_000
    });
    assert_eq!(exited(status), Some(0), "{status:?}");
}
