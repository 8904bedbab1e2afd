//! What a dying service and a hostile guest can do: end the sandbox, with a reason, and nothing else.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::{Leftovers, cgroups},
    processes::{SERVICES, children, kill, service, threads},
    runtime::{Runtime, code, eventually, text},
    tree,
};

fn run(runtime: &Runtime, bundle: &Path) -> Child {
    let mut command = runtime.command(&["run", "--bundle"]);
    command.arg(bundle).arg(unique("kill")).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

#[test]
fn a_killed_service_ends_the_sandbox_with_a_message_that_names_it() {
    for name in SERVICES {
        let runtime = Runtime::bulkhead();
        let bundle = Bundle::new(&tree("busybox"), &["/bin/sh", "-c", "echo ready; sleep 1000"]);
        let mut run = run(&runtime, bundle.path());
        let mut ready = [0; 6];
        run.stdout.as_mut().expect("it is piped").read_exact(&mut ready).expect("the container runs");
        let pid = service(run.id(), name);
        let start = Instant::now();
        kill(pid.expect("it was seen"));
        let output = run.wait_with_output().expect("it ends");
        assert!(start.elapsed() < Duration::from_secs(1), "{name}: it took {:?}", start.elapsed());
        let message = text(&output.stderr);
        assert!(message.contains(name) && message.to_lowercase().contains("kill"), "{name}: {message}");
        assert_ne!(code(&output), 0, "{name}");
        Leftovers::of(&runtime).assert_none();
    }
}

/// Kills the `index`th process that the supervisor starts, so long after the start of `run`, or as soon as it is there.
fn kill_after(index: usize, delay: Duration) {
    // In the order in which the supervisor starts them.
    let name = ["sentry", "vfs", "gofer", "netstack"][index];
    let about = format!("{name} after {delay:?}");
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
    let id = unique("sweep");
    let mut command = runtime.command(&["run", "--bundle"]);
    command.arg(bundle.path()).arg(&id).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let run = command.spawn().expect("it starts");
    std::thread::sleep(delay.saturating_sub(start.elapsed()));
    let mut pid = None;
    eventually("the service is started", || {
        let supervisor = children(run.id()).first().map(|(pid, _)| *pid);
        pid = supervisor.and_then(|supervisor| children(supervisor).get(index).map(|(pid, _)| *pid));
        pid.is_some()
    });
    let start = Instant::now();
    kill(pid.expect("it was seen"));
    let output = run.wait_with_output().expect("it ends");
    let took = start.elapsed();
    let message = text(&output.stderr);
    assert!(message.contains(name) && message.to_lowercase().contains("kill"), "{about}: {message}");
    assert_ne!(code(&output), 0, "{about}");
    // A second is the promise; the rest is for a machine that runs other tests as well.
    assert!(took < Duration::from_secs(2), "{about}: it took {took:?}");
    Leftovers::of(&runtime).assert_none();
    assert_eq!(cgroups(&id), Vec::<PathBuf>::new(), "{about}");
}

#[test]
fn a_service_may_be_killed_at_any_moment_of_the_start() {
    for delay in (0..100).step_by(3) {
        for index in 0..SERVICES.len() {
            kill_after(index, Duration::from_millis(delay));
        }
    }
}

#[test]
fn a_killed_supervisor_takes_its_sandbox_with_it() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
    let id = unique("orphan");
    let mut create = runtime.command(&["run", "--detach", "--bundle"]);
    create.arg(bundle.path()).arg("--pid-file").arg(bundle.path().join("pid")).arg(&id);
    assert!(create.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts").success());
    let pid = fs::read_to_string(bundle.path().join("pid")).expect("the pid file is there");
    let pid: u32 = pid.trim().parse().expect("it is a number");
    let below: Vec<u32> = children(pid).into_iter().map(|(pid, _)| pid).collect();
    assert!(below.len() >= 4, "{below:?}");
    kill(pid);
    eventually("its services are gone", || below.iter().all(|pid| !Path::new(&format!("/proc/{pid}/exe")).exists()));
    assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
    Leftovers::of(&runtime).assert_none();
    assert_eq!(cgroups(&id), Vec::<PathBuf>::new());
}

/// The host's own tracing of system calls that passed seccomp, of some threads and what they fork.
struct HostTrace {
    directory: std::path::PathBuf,
    mounted: std::path::PathBuf,
}

impl HostTrace {
    fn start(threads: &[u32]) -> HostTrace {
        let mounted = std::env::temp_dir().join(unique("tracefs"));
        fs::create_dir(&mounted).expect("a directory can be made");
        let status = Command::new("mount").args(["-t", "tracefs", "tracefs"]).arg(&mounted).status().expect("mount(8) runs");
        assert!(status.success(), "tracefs can be mounted");
        let directory = mounted.join("instances").join(unique("bulkhead"));
        fs::create_dir(&directory).expect("a trace instance can be made");
        let threads = threads.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        for (file, value) in [
            ("options/event-fork", "1"),
            ("set_event_pid", threads.as_str()),
            ("buffer_size_kb", "16384"),
            ("events/raw_syscalls/sys_enter/enable", "1"),
        ] {
            fs::write(directory.join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        HostTrace { directory, mounted }
    }

    /// (thread, system call) of each event so far.
    fn calls(&self) -> Vec<(u32, u32)> {
        let trace = fs::read(self.directory.join("trace")).expect("the trace can be read");
        String::from_utf8_lossy(&trace)
            .lines()
            .filter_map(|line| {
                // "            perl-1234    [001] .....   12.345: sys_enter: NR 202 (...)"
                let number = line.split("sys_enter: NR ").nth(1)?.split_whitespace().next()?.parse().ok()?;
                let thread = line.split('[').next()?.trim_end().rsplit('-').next()?.parse().ok()?;
                Some((thread, number))
            })
            .collect()
    }
}

impl Drop for HostTrace {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join("events/raw_syscalls/sys_enter/enable"), "0");
        let _ = fs::remove_dir(&self.directory);
        let _ = Command::new("umount").arg(&self.mounted).status();
        let _ = fs::remove_dir(&self.mounted);
    }
}

#[test]
fn a_guest_that_tries_every_system_call_reaches_only_what_the_stub_filter_allows() {
    let runtime = Runtime::bulkhead();
    // Every number with random arguments, in children, so that those which end a process do not end the attempt.
    let script = r#"
        $| = 1; print "ready\n"; my $go = <STDIN>; srand(7);
        my @values = (0, 1, -1, 2, 4096, 0x7fffffff, -4096, 1 << 40, 0x400000);
        for my $round (1 .. 4) {
            for my $number (0 .. 470) {
                next if $number == 34 || $number == 130; # pause and rt_sigsuspend end only by a signal
                my $pid = fork(); next unless defined $pid;
                if (!$pid) {
                    alarm 1;
                    my $buffer = "\0" x 4096;
                    my @arguments = map { rand() < 0.3 ? $buffer : $values[rand @values] } 1 .. 6;
                    close STDOUT; close STDERR;
                    syscall($number, @arguments); exit 0;
                }
                select(undef, undef, undef, 0.001) while waitpid($pid, 1) == 0 && ++$waited{$pid} < 3000;
                kill 9, $pid; 1 while waitpid(-1, 1) > 0;
            }
        }
        print "survived\n";
    "#;
    let bundle = Bundle::new(&tree("debian"), &["/usr/bin/perl", "-e", script]);
    let mut command = runtime.command(&["run", "--bundle"]);
    command.arg(bundle.path()).arg(unique("fuzz")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = command.spawn().expect("it starts");
    let mut reader = std::io::BufReader::new(run.stdout.take().expect("it is piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).expect("it can be read");
    assert_eq!(line, "ready\n");

    let sentry = service(run.id(), "sentry").expect("the sentry runs");
    let stubs: Vec<u32> = children(sentry).into_iter().flat_map(|(pid, _)| threads(pid)).collect();
    assert!(!stubs.is_empty(), "there are stubs");
    let trace = HostTrace::start(&stubs);
    drop(std::io::Write::write_all(run.stdin.as_mut().expect("it is piped"), b"go\n"));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut reader, &mut rest).expect("it can be read");
    let calls = trace.calls();
    let output = run.wait_with_output().expect("it ends");
    assert_eq!(rest, "survived\n", "{}", text(&output.stderr));
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));

    // What the agents and the guest threads need; see services/sentry/src/platform.
    let allowed = [
        libc::SYS_futex,
        libc::SYS_rt_sigreturn,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_clone,
        libc::SYS_write,
        libc::SYS_seccomp,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
        libc::SYS_prctl,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    assert!(calls.len() > 1000, "the trace saw {} calls", calls.len());
    // uretprobe(2) and uprobe(2), which newer hosts exempt from every filter: they do nothing anywhere but in the trampolines of a
    // probe that the host's administrator has set.
    const EXEMPT: [u32; 2] = [335, 336];
    for (thread, number) in calls.into_iter().filter(|(_, number)| !EXEMPT.contains(number)) {
        assert!(allowed.contains(&i64::from(number)), "thread {thread} made host system call {number}");
    }
    Leftovers::of(&runtime).assert_none();
}
