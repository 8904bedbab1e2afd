//! Each service as if it had been taken over: what an attacker with full control of its main thread can ask of the host, reach, forge
//! and change. `containment.rs` has the same for guests.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    time::{Duration, Instant},
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    conversation::Conversation,
    intruder::{Intruder, Mapping, Outcome, mappings},
    leftovers::Leftovers,
    processes::{SERVICES, service, threads},
    runtime::Runtime,
    tree,
};
use bulkhead_ipc::confine::Policy;
use nix::{errno::Errno, sys::signal::Signal};

/// Far more than any of it takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A container that does some work for every line it is given.
struct Ship {
    runtime: Runtime,
    _bundle: Bundle,
    container: Conversation,
}

impl Ship {
    fn start() -> Ship {
        let runtime = Runtime::bulkhead();
        let script = "echo ready; while read line; do ls / /etc /proc >/dev/null; echo x >/tmp/x; cat /etc/passwd /tmp/x >/dev/null; \
                      rm /tmp/x; echo done; done";
        let bundle = Bundle::new(&tree("busybox"), &["/bin/sh", "-c", script]);
        let mut command = runtime.command(&["run", "--bundle"]);
        command.arg(bundle.path()).arg(unique("taken"));
        let container = Conversation::start(command).expect("it starts");
        assert_eq!(container.hear(PATIENCE).as_deref(), Ok("ready"));
        Ship { runtime, _bundle: bundle, container }
    }

    fn service(&self, name: &str) -> u32 {
        service(self.container.pid(), name).unwrap_or_else(|| panic!("{name} runs"))
    }

    /// Whether the container still does its work.
    fn works(&mut self) -> bool {
        self.container.go_on().is_ok() && self.container.hear(PATIENCE).as_deref() == Ok("done")
    }

    /// The container ends in time, with this in its last words and nothing left behind.
    fn ends(mut self, name: &str, why: &[&str]) {
        let start = Instant::now();
        while !self.container.has_ended() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (status, message) = self.container.end(PATIENCE).unwrap_or_else(|| panic!("{name}: the sandbox does not end"));
        assert!(!status.success(), "{name}: {status}: {message}");
        assert!(message.contains(name) && why.iter().any(|why| message.contains(why)), "{name}: {status}: {message}");
        Leftovers::of(&self.runtime).assert_none();
    }
}

fn policy(service: &str) -> Policy {
    let text = match service {
        "sentry" => include_str!("../../services/sentry/src/policy.seccomp"),
        "vfs" => include_str!("../../services/vfs/src/policy.seccomp"),
        "netstack" => include_str!("../../services/netstack/src/policy.seccomp"),
        _ => include_str!("../../services/gofer/src/policy.seccomp"),
    };
    Policy::parse(text).expect("it is well-formed")
}

/// What the policy says about a call: it is made (`Ok(true)`), refused (`Ok(false)`), or answered with an error.
fn verdict(policy: &Policy, number: u64, arguments: [u64; 6]) -> Result<bool, i32> {
    let rules: Vec<_> = policy.rules().iter().filter(|rule| rule.number == number as i64).collect();
    let error = rules.iter().find_map(|rule| rule.error).filter(|_| rules.iter().all(|rule| rule.error.is_some()));
    match error {
        Some(error) => Err(error.number()),
        None => Ok(rules.iter().any(|rule| rule.error.is_none() && rule.covers(arguments))),
    }
}

/// Past the last number that any host has.
const NUMBERS: u64 = 600;
/// The bit that says that a call is one of x32's.
const X32: u64 = 0x4000_0000;
/// uretprobe(2) and uprobe(2), which newer hosts exempt from every filter (docs/security.md).
const EXEMPT: [u64; 2] = [335, 336];
/// These do not return when they are made.
const ENDS: [i64; 3] = [libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigreturn];

#[test]
fn no_service_gets_a_host_call_past_its_policy() {
    for name in SERVICES {
        let mut ship = Ship::start();
        let policy = policy(name);
        let mut intruder = Intruder::enter(ship.service(name));
        // Not at the beginning of a page: what is given to munmap must not be something that could be unmapped.
        let path = intruder.put_at(8, b"/etc/passwd\0");
        let here = libc::AT_FDCWD as u64;
        let arguments = [[0; 6], [u64::MAX; 6], [path; 6], [here, path, 0, 0, here, path], [path, 1, 1, 1, 0, 0]];
        let mut made = 0;
        for number in (0..NUMBERS).chain((0..NUMBERS).map(|number| X32 | number)) {
            if EXEMPT.contains(&number) {
                continue;
            }
            for arguments in arguments {
                let verdict = verdict(&policy, number, arguments);
                if verdict == Ok(true) && ENDS.contains(&(number as i64)) {
                    continue;
                }
                let outcome = intruder.call(number, arguments);
                let about = format!("{name}: {number}{arguments:x?}: {outcome:?}");
                match verdict {
                    Ok(false) => assert_eq!(outcome, Outcome::Refused, "{about}"),
                    Err(error) => assert_eq!(outcome, Outcome::Returned(-i64::from(error)), "{about}"),
                    Ok(true) => {
                        assert!(matches!(outcome, Outcome::Returned(_) | Outcome::Waits), "{about}");
                        made += 1;
                    }
                }
            }
        }
        assert!(made > 0, "{name}: none was let through");
        // It is given back and goes on: what was tried has changed nothing that it needs.
        drop(intruder);
        assert!(ship.works(), "{name}");
        // A call by the numbers of 32-bit programs is not looked at: it ends the process.
        let mut intruder = Intruder::enter(ship.service(name));
        assert_eq!(intruder.call_32(20, [0; 6]), Outcome::Killed(Signal::SIGSYS), "{name}");
        drop(intruder);
        // The tracer learns first what killed it; its parent may see no more than that it is gone.
        ship.ends(name, &["SIGSYS", "killed", "closed its control channel"]);
    }
}

#[test]
fn no_service_has_more_of_the_host_than_it_was_handed() {
    let ship = Ship::start();
    for name in SERVICES {
        let process = ship.service(name);
        let root: Vec<_> = fs::read_dir(format!("/proc/{process}/root")).expect("root sees it").collect();
        assert_eq!(root.len(), 0, "{name}: its root holds {root:?}");
        let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).expect("root sees it");
        assert_eq!(mounts.lines().count(), 1, "{name}: {mounts}");
        for namespace in ["user", "pid", "net", "ipc", "uts", "mnt", "cgroup"] {
            let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}")).expect("root sees it");
            assert_ne!(of(&process.to_string()), of("self"), "{name}: {namespace}");
        }
        assert_eq!(fs::read(format!("/proc/{process}/environ")).expect("root sees it"), b"", "{name}");
        for thread in threads(process) {
            let status = fs::read_to_string(format!("/proc/{process}/task/{thread}/status")).expect("the thread runs");
            let field =
                |field: &str| status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim().to_owned();
            assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".into(), "2".into()), "{name}");
            // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER and FSETID.
            let capabilities = if name == "gofer" { "000000000000001f" } else { "0000000000000000" };
            for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
                assert_eq!(field(set), capabilities, "{name}: {set}");
            }
            assert_eq!((field("CapInh:"), field("CapAmb:")), ("0".repeat(16), "0".repeat(16)), "{name}");
        }
        for file in fs::read_dir(format!("/proc/{process}/fd")).expect("root sees it").flatten() {
            let target = fs::read_link(file.path()).expect("it is open").display().to_string();
            let kind = fs::metadata(file.path()).expect("it is open");
            let handed_over =
                ["socket:", "pipe:", "anon_inode:", "/memfd:", "/dev/null"].iter().any(|known| target.starts_with(known))
                    || target.starts_with("/proc/") && (target.ends_with("/stat") || target.ends_with("/status"));
            assert!(handed_over || name == "gofer" || !kind.is_dir(), "{name} has {target}");
            assert_ne!((kind.dev(), kind.ino()), of_host("/"), "{name} has the host's root");
        }
    }
}

fn of_host(path: &str) -> (u64, u64) {
    let metadata = fs::metadata(path).expect("every host has it");
    (metadata.dev(), metadata.ino())
}

/// Opens by each directory that the gofer has: what is reached must lie beneath one of its roots.
#[test]
fn a_compromised_gofer_reaches_no_file_of_the_host() {
    let mut ship = Ship::start();
    let process = ship.service("gofer");
    let mut intruder = Intruder::enter(process);
    let directories: Vec<u64> = fs::read_dir(format!("/proc/{process}/fd"))
        .expect("root sees it")
        .flatten()
        .filter(|file| fs::metadata(file.path()).is_ok_and(|kind| kind.is_dir()))
        .filter_map(|file| file.file_name().to_string_lossy().parse().ok())
        .collect();
    assert!(!directories.is_empty(), "it has a root");
    // A way out that an attacker makes for himself, where he can write.
    let link = intruder.put(b"/etc\0");
    let name = intruder.put_at(64, b"way-out\0");
    for &directory in &directories {
        intruder.call(libc::SYS_symlinkat as u64, [link, directory, name, 0, 0, 0]);
    }
    let paths: [&[u8]; 9] = [
        b"/etc/passwd\0",
        b"/\0",
        b"..\0",
        b"../..\0",
        b"../../../../../../../etc/passwd\0",
        b"/proc/self/root\0",
        b"/proc/1/root\0",
        b"way-out/passwd\0",
        b"way-out\0",
    ];
    let host: BTreeMap<(u64, u64), &str> = ["/", "/etc", "/etc/passwd", "/proc", "/root", "/work", "/tmp"]
        .iter()
        .filter(|p| fs::metadata(p).is_ok())
        .map(|p| (of_host(p), *p))
        .collect();
    let how = |flags: i32| [(flags as u64).to_le_bytes(), [0; 8], [0; 8]].concat();
    for &directory in &directories {
        for path in paths {
            for flags in [libc::O_RDONLY, libc::O_PATH, libc::O_RDWR] {
                let path = intruder.put(path);
                let how = intruder.put_at(256, &how(flags));
                let outcome = intruder.call(libc::SYS_openat2 as u64, [directory, path, how, 24, 0, 0]);
                let Outcome::Returned(fd @ 0..) = outcome else { continue };
                let reached = fs::metadata(format!("/proc/{process}/fd/{fd}")).expect("it is open");
                // The empty root of its own may be named; it holds nothing.
                assert_eq!(host.get(&(reached.dev(), reached.ino())), None, "{fd}");
                intruder.call(libc::SYS_close as u64, [fd as u64, 0, 0, 0, 0, 0]);
            }
        }
    }
    for &directory in &directories {
        let name = intruder.put(b"way-out\0");
        intruder.call(libc::SYS_unlinkat as u64, [directory, name, 0, 0, 0, 0]);
    }
    // Without a directory there is no call at all.
    let path = intruder.put(b"/etc/passwd\0");
    let how = intruder.put_at(256, &how(libc::O_RDONLY));
    assert_eq!(intruder.call(libc::SYS_openat2 as u64, [libc::AT_FDCWD as u64, path, how, 24, 0, 0]), Outcome::Refused);
    drop(intruder);
    assert!(ship.works());
}

#[test]
fn no_service_makes_memory_executable_or_writes_what_another_publishes() {
    let mut ship = Ship::start();
    for name in SERVICES {
        let process = ship.service(name);
        let mut intruder = Intruder::enter(process);
        let mapped = mappings(process);
        for mapping in &mapped {
            let length = mapping.end - mapping.start;
            for access in
                [libc::PROT_EXEC, libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC]
            {
                let outcome = intruder.call(libc::SYS_mprotect as u64, [mapping.start, length, access as u64, 0, 0, 0]);
                assert_eq!(outcome, Outcome::Refused, "{name}: {mapping:?}");
            }
        }
        for number in 0..64 {
            let all = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
            for flags in [libc::MAP_SHARED, libc::MAP_PRIVATE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS] {
                let outcome = intruder.call(libc::SYS_mmap as u64, [0, 4096, all, flags as u64, number, 0]);
                assert_eq!(outcome, Outcome::Refused, "{name}: {number}");
            }
        }
        if name == "sentry" {
            let published = mapped.iter().find(|mapping| mapping.name.starts_with("/memfd:bulkhead-published"));
            let Mapping { start, end, access, .. } = published.expect("vfs publishes");
            assert_eq!(access, "r--s");
            let writable = (libc::PROT_READ | libc::PROT_WRITE) as u64;
            let outcome = intruder.call(libc::SYS_mprotect as u64, [*start, end - start, writable, 0, 0, 0]);
            assert_eq!(outcome.error(), Some(Errno::EACCES), "{outcome:?}");
            for file in fs::read_dir(format!("/proc/{process}/fd")).expect("root sees it").flatten() {
                let target = fs::read_link(file.path()).unwrap_or_default();
                if target.to_string_lossy().starts_with("/memfd:bulkhead-published") {
                    let fd = file.file_name().to_string_lossy().parse().expect("a number");
                    let outcome = intruder.call(libc::SYS_mmap as u64, [0, 4096, writable, libc::MAP_SHARED as u64, fd, 0]);
                    assert_eq!(outcome.error(), Some(Errno::EPERM), "{outcome:?}");
                    let zeros = intruder.put(&[0; 8]);
                    let outcome = intruder.call(libc::SYS_pwrite64 as u64, [fd, zeros, 8, 0, 0, 0]);
                    assert_eq!(outcome.error(), Some(Errno::EPERM), "{outcome:?}");
                }
            }
        }
        drop(intruder);
        assert!(ship.works(), "{name}");
    }
}

#[test]
fn a_compromised_sentry_signals_nobody_but_its_stubs() {
    let mut ship = Ship::start();
    let others: Vec<u32> = SERVICES.iter().filter(|name| **name != "sentry").map(|name| ship.service(name)).collect();
    let own = ship.service("sentry");
    let mut intruder = Intruder::enter(own);
    let kill = Signal::SIGKILL as u64;
    for other in others.into_iter().chain([std::process::id(), ship.container.pid()]).map(u64::from) {
        // By the number that the process has on the host, and by its negative: the sentry's pid namespace has neither.
        for target in [other, (-(other as i64)) as u64] {
            let outcome = intruder.call(libc::SYS_kill as u64, [target, kill, 0, 0, 0, 0]);
            assert_eq!(outcome.error(), Some(Errno::ESRCH), "{target}: {outcome:?}");
        }
        let outcome = intruder.call(libc::SYS_tgkill as u64, [other, other, Signal::SIGURG as u64, 0, 0, 0]);
        assert_eq!(outcome.error(), Some(Errno::ESRCH), "{outcome:?}");
        for refused in [libc::SYS_ptrace, libc::SYS_process_vm_writev, libc::SYS_pidfd_open, libc::SYS_tkill] {
            assert_eq!(intruder.call(refused as u64, [16, other, 0, 0, 0, 0]), Outcome::Refused);
        }
    }
    drop(intruder);
    assert!(ship.works());
}

/// Sends a packet of these bytes, with one fd of its own, on a socket of the process.
fn forge(intruder: &mut Intruder, socket: u64, bytes: &[u8], fd: Option<i32>) -> Outcome {
    let data = intruder.put_at(512, bytes);
    let vector = intruder.put_at(256, &[data.to_le_bytes(), (bytes.len() as u64).to_le_bytes()].concat());
    // struct cmsghdr: length 20, SOL_SOCKET, SCM_RIGHTS, and the fd.
    let rights = [
        20u64.to_le_bytes().to_vec(),
        1u32.to_le_bytes().to_vec(),
        1u32.to_le_bytes().to_vec(),
        fd.unwrap_or(0).to_le_bytes().to_vec(),
    ];
    let control = intruder.put_at(320, &rights.concat());
    let (control, length) = if fd.is_some() { (control, 20u64) } else { (0, 0) };
    let header: Vec<u8> = [0, 0, vector, 1, control, length, 0].iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
    let header = intruder.put(&header);
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
    intruder.call(libc::SYS_sendmsg as u64, [socket, header, flags, 0, 0, 0])
}

/// Bytes that look like nothing, the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The control channel's number in every service.
const CONTROL: u64 = 3;

#[test]
fn nonsense_on_a_control_channel_ends_the_sandbox_with_a_reason() {
    // A header as `ipc/src/channel.rs` has it, with a body that is no report.
    let packet = |body: &[u8], fds: u16| [&[0xb1, 0][..], &fds.to_le_bytes(), &(body.len() as u32).to_le_bytes(), body].concat();
    for name in SERVICES {
        for (bytes, fd) in [
            (noise(7, 100), None),
            (noise(7, 100), Some(0)),
            (packet(&noise(9, 64), 0), None),
            (packet(&noise(9, 64), 1), Some(0)),
            (packet(&[], 0), None),
        ] {
            let ship = Ship::start();
            let mut intruder = Intruder::enter(ship.service(name));
            let outcome = forge(&mut intruder, CONTROL, &bytes, fd);
            // The supervisor may be faster than the call's return.
            let heard = [Outcome::Returned(bytes.len() as i64), Outcome::Killed(Signal::SIGKILL)];
            assert!(heard.contains(&outcome), "{name}: {outcome:?}");
            drop(intruder);
            ship.ends(name, &["nonsense", "message", "report"]);
        }
    }
}

#[test]
fn scribbled_channels_are_errors_or_the_end_but_never_a_crash_of_the_other_side() {
    for name in ["sentry", "vfs", "gofer"] {
        for seed in 1..=4 {
            let mut ship = Ship::start();
            let process = ship.service(name);
            let rings: Vec<Mapping> =
                mappings(process).into_iter().filter(|mapping| mapping.name.starts_with("/memfd:bulkhead-ring")).collect();
            assert!(!rings.is_empty(), "{name} has rings");
            let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{process}/mem")).expect("root sees its memory");
            for ring in &rings {
                // Some words of the header, or all of it and the first messages.
                let length = if seed % 2 == 0 { 64 } else { 16 << 10 };
                memory.write_all_at(&noise(seed, length), ring.start).expect("it is mapped");
            }
            // It may go on (what was overwritten may be written anew), fail its calls, or end.
            for _ in 0..3 {
                let _ = ship.container.go_on();
            }
            let Some((_, message)) = ship.container.end(PATIENCE) else { panic!("{name}, {seed}: it hangs") };
            for crash in ["panicked", "SIGSEGV", "SIGBUS", "SIGABRT", "seccomp"] {
                assert!(!message.contains(crash), "{name}, {seed}: {message}");
            }
            Leftovers::of(&ship.runtime).assert_none();
        }
    }
}
