//! OCI bundles in temporary directories.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

/// What Docker gives a container by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A bundle: a directory with a config.json, and a root file system which is a throw-away overlay over a tree. It is unmounted
/// and removed when dropped.
#[derive(Debug)]
pub struct Bundle {
    directory: PathBuf,
    /// The configuration; [`Bundle::write`] puts it on disk.
    pub config: Value,
}

/// A name that no other test uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Bundle {
    /// A bundle over `tree` that runs `arguments`.
    pub fn new(tree: &Path, arguments: &[&str]) -> Bundle {
        let directory = std::env::temp_dir().join(unique("bulkhead-bundle"));
        for part in ["upper", "work", "rootfs"] {
            fs::create_dir_all(directory.join(part)).expect("a temporary directory can be made");
        }
        let options = format!(
            "lowerdir={},upperdir={1}/upper,workdir={1}/work",
            tree.canonicalize().expect("the tree exists").display(),
            directory.display()
        );
        let mounted = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(directory.join("rootfs"))
            .status()
            .expect("mount(8) runs");
        assert!(mounted.success(), "cannot mount an overlay over {}", tree.display());
        let bundle = Bundle { config: default_config(arguments), directory };
        bundle.write();
        bundle
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Its root file system on the host.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// Puts the configuration on disk.
    pub fn write(&self) {
        fs::write(self.directory.join("config.json"), self.config.to_string()).expect("config.json can be written");
    }

    /// Changes the configuration and writes it.
    pub fn configure(&mut self, change: impl FnOnce(&mut Value)) -> &mut Self {
        change(&mut self.config);
        self.write();
        self
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.rootfs()).status();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What `runc spec` writes, with Docker's capabilities, a writable root and no terminal.
fn default_config(arguments: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm", "HOME=/root", "LC_ALL=C"
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "scene",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }
            ]
        }
    })
}
