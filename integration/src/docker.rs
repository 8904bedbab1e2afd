//! A dockerd of a test's own: its socket, data, pid file and containerd are in a temporary directory, and go with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    bundle::unique,
    runtime::{code, finish, text},
    tree, workspace,
};

/// How long dockerd may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The image that is made of the busybox tree.
pub const IMAGE: &str = "scene";

/// Starts it. Its containers outlive it.
fn daemon(directory: &Path) -> Child {
    let path = |name: &str| directory.join(name).display().to_string();
    let log = fs::OpenOptions::new().create(true).append(true).open(directory.join("log")).expect("it can be made");
    Command::new("dockerd")
        .args(["--config-file", &path("daemon.json"), "--host", &format!("unix://{}", path("docker.sock"))])
        .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--live-restore"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("dockerd is installed")
}

/// A running dockerd that has Bulkhead as a runtime.
#[derive(Debug)]
pub struct Docker {
    daemon: Child,
    directory: PathBuf,
}

impl Docker {
    /// Starts it, without networks of its own, and imports [`IMAGE`].
    pub fn start() -> Docker {
        let directory = std::env::temp_dir().join(unique("bulkhead-docker"));
        fs::create_dir_all(&directory).expect("a temporary directory can be made");
        let bulkhead = workspace().join("target/release/bulkhead");
        let config = serde_json::json!({ "runtimes": {
            "bulkhead": { "path": bulkhead },
            // Changes to the root go where Docker sees them.
            "bulkhead-direct": { "path": bulkhead, "runtimeArgs": ["--overlay", "none"] },
        } });
        fs::write(directory.join("daemon.json"), config.to_string()).expect("it can be written");
        let docker = Docker { daemon: daemon(&directory), directory };
        docker.answers();
        let archive = docker.directory.join("image.tar");
        let tarred = Command::new("tar").arg("-C").arg(tree("busybox")).arg("-cf").arg(&archive).arg(".").status();
        assert!(tarred.expect("tar runs").success());
        docker.done(&["import", archive.to_str().expect("it is text"), IMAGE]);
        docker
    }

    fn answers(&self) {
        let start = Instant::now();
        while code(&self.call(&["version"])) != 0 {
            assert!(start.elapsed() < PATIENCE, "dockerd does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills dockerd, which takes its containerd with it, and starts it again.
    pub fn crash(&mut self) {
        self.daemon.kill().expect("it runs");
        self.daemon.wait().expect("it is a child");
        // Where nobody reaps orphans, dockerd would take the dead containerd for a running one.
        let _ = fs::remove_file(self.directory.join("exec/containerd/containerd.pid"));
        self.daemon = daemon(&self.directory);
        self.answers();
    }

    /// `docker ARGUMENTS`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.directory.join("docker.sock").display())).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn call(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments), b"")
    }

    /// Runs it, sees it succeed, and returns what it printed, trimmed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert_eq!(code(&output), 0, "docker {arguments:?}: {}{}", text(&output.stderr), self.log());
        text(&output.stdout).trim().to_owned()
    }

    /// `docker run --rm` under Bulkhead, without a network.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Output {
        self.call(&[&["run", "--rm", "--network", "none", "--runtime", "bulkhead"], options, &[IMAGE], command].concat())
    }

    /// `docker run --detach`; the container's id.
    pub fn detached(&self, options: &[&str], command: &[&str]) -> String {
        self.done(&[&["run", "--detach", "--network", "none", "--runtime", "bulkhead"], options, &[IMAGE], command].concat())
    }

    /// `ctr ARGUMENTS` of the containerd that dockerd has started.
    pub fn ctr(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.directory.join("exec/containerd/containerd.sock")).args(["--namespace", "test"]);
        command.args(arguments);
        finish(command, b"")
    }

    /// Makes [`IMAGE`] known to containerd; its name there.
    pub fn import_to_containerd(&self) -> String {
        let archive = self.directory.join("saved.tar").display().to_string();
        self.done(&["save", "--output", &archive, IMAGE]);
        assert_eq!(code(&self.ctr(&["image", "import", &archive])), 0);
        format!("docker.io/library/{IMAGE}:latest")
    }

    /// A field of `docker inspect`.
    pub fn inspect(&self, container: &str, field: &str) -> String {
        self.done(&["inspect", "--format", &format!("{{{{{field}}}}}"), container])
    }

    /// Processes of the host that belong to this dockerd's containers: sandboxes and shims.
    pub fn processes(&self) -> Vec<String> {
        let mark = self.directory.join("exec").display().to_string();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines = entries.filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = format!("{}: {}", entry.file_name().display(), String::from_utf8_lossy(&line).replace('\0', " "));
            let ours = ["bulkhead --root", "bulkhead --overlay", "containerd-shim"].iter().any(|word| line.contains(word));
            (line.contains(&mark) && ours).then_some(line)
        });
        lines.collect()
    }

    /// Waits until no process of a container is left; panics with those that stay.
    pub fn leaves_nothing(&self) {
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "left: {left:#?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The end of dockerd's log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let containers = text(&self.call(&["ps", "--all", "--quiet"]).stdout);
        for container in containers.split_whitespace() {
            let _ = self.call(&["rm", "--force", container]);
        }
        let _ = kill(Pid::from_raw(self.daemon.id() as i32), Signal::SIGTERM);
        let start = Instant::now();
        while matches!(self.daemon.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // What it mounted, innermost first.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.directory.display().to_string();
        let points: Vec<&str> =
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|p| p.starts_with(&own)).collect();
        let unmounted = points.iter().rev().all(|point| Command::new("umount").arg(point).status().is_ok_and(|s| s.success()));
        if unmounted {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
