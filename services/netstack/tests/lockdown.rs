//! The real binary, started as the supervisor starts it: does it lock itself down, and does it answer from in there?

use bulkhead_ipc::{
    channel::Channel,
    debug::proto::{GetPolicyRequest, GetStatsRequest, GetVersionRequest, SetLogFilterRequest, debug_client::DebugClient},
    net::readiness,
    setup::{NetstackSetup, Report, Role, Setup},
};
use std::{
    fs,
    io::Read,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{net::UnixListener, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

struct Service {
    child: Child,
    control: Option<Channel>,
    log: fs::File,
    directory: PathBuf,
}

/// Starts netstack in new namespaces and waits for its first report.
fn start(name: &str) -> (Service, Report) {
    use nix::sched::{CloneFlags, unshare};
    let directory = std::env::temp_dir().join(format!("bulkhead-netstack-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let listener = UnixListener::bind(directory.join("debug.sock")).unwrap();
    let (control, theirs) = Channel::pair().unwrap();
    let (log, log_end) = nix::unistd::pipe().unwrap();
    let inherited = theirs.as_fd().as_raw_fd();
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-netstack"));
    command.env_clear().stdin(Stdio::null());
    // SAFETY: between fork and exec: system calls, and small files that are written, in a child of a test.
    unsafe {
        command.pre_exec(move || {
            let namespaces = CloneFlags::CLONE_NEWUSER
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS;
            unshare(namespaces)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
            if inherited == 3 {
                libc::fcntl(3, libc::F_SETFD, 0);
            } else {
                libc::dup2(inherited, 3);
            }
            Ok(())
        });
    }
    let child = command.spawn().unwrap();
    drop(theirs);
    // Nobody calls it: there is a thread per CPU that it is told of.
    let role = Role::Netstack(NetstackSetup { cpus: Vec::new() });
    let setup = Setup { sandbox: "c1".into(), log_filter: "info".into(), log_json: false, role };
    let readiness = readiness::Fds::new().unwrap();
    let mut message = Vec::new();
    setup.encode(&mut message);
    control.send(&message, &[log_end.as_fd(), listener.as_fd(), readiness.memory.as_fd(), readiness.event.as_fd()]).unwrap();
    drop(log_end);
    control.receive(&mut message).unwrap();
    let report = Report::decode(&message).unwrap();
    (Service { child, control: Some(control), log: log.into(), directory }, report)
}

impl Service {
    /// Lets go of the control channel and tells how the service ended, and what it logged.
    fn end(mut self) -> (std::process::ExitStatus, String) {
        self.control = None;
        let status = self.child.wait().unwrap();
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (status, log)
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn it_locks_itself_down_and_ends_when_the_supervisor_goes() {
    let (service, report) = start("lockdown");
    assert_eq!(report, Report::Ready);
    let status = service.proc("status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(field("Name:"), Some("netstack"));
    assert_eq!(field("Seccomp:"), Some("2"));
    assert_eq!(field("NoNewPrivs:"), Some("1"));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), Some("0000000000000000"), "{set}");
    }
    assert_eq!(service.proc("mountinfo").lines().count(), 1, "only the empty root is mounted");
    assert!(service.proc("mountinfo").contains("ro,nosuid,nodev,noexec"));
    let (status, log) = service.end();
    assert!(status.success(), "{status}: {log}");
    assert_eq!(log, "");
}

#[test]
fn it_answers_on_its_debug_socket_from_behind_the_filter() {
    let (service, report) = start("debug");
    assert_eq!(report, Report::Ready);
    let socket = format!("unix://{}", service.directory.join("debug.sock").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Twice, because the server goes away with the last connection.
    for round in 0..2 {
        runtime.block_on(async {
            let mut client = DebugClient::connect(socket.clone()).await.unwrap();
            let version = client.get_version(GetVersionRequest {}).await.unwrap().into_inner();
            assert_eq!((version.service.as_str(), version.sandbox.as_str()), ("netstack", "c1"));
            let stats = client.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
            // The first, two of the debug plane, and the one at the links.
            assert_eq!(stats.threads, 4);
            assert!(stats.resident_bytes > 0);
            let policy = client.get_policy(GetPolicyRequest {}).await.unwrap().into_inner();
            assert!(policy.rules.iter().all(|rule| !rule.reason.is_empty()) && !policy.rules.is_empty());
            let filter = SetLogFilterRequest { filter: "info,bulkhead=debug".into() };
            let previous = client.set_log_filter(filter).await.unwrap().into_inner().previous;
            assert_eq!(previous, if round == 0 { "info" } else { "bulkhead=debug,info" });
            let bad = SetLogFilterRequest { filter: "=".into() };
            assert_eq!(client.set_log_filter(bad).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        });
        std::thread::sleep(std::time::Duration::from_millis(2800 * (1 - round)));
    }
    let (status, log) = service.end();
    assert!(status.success(), "{status}: {log}");
}
