//! `root` and `mounts` to mount specifications and the host directories behind them.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use bulkhead_ipc::{
    setup::{MountKind, MountSpec},
    vfs::ForeignFs,
};
use oci_spec::runtime::Mount;

use super::{Config, complaint::Complaint, overlay::Overlay};
use crate::{error::describe, log::Log};

/// A file or directory of the host that the gofer is to serve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRoot {
    /// Where it is.
    pub path: PathBuf,
    /// Nothing may be changed.
    pub readonly: bool,
    /// With the mounts beneath it.
    pub recursive: bool,
}

/// The mount table to be, with the gofer roots that it names by index.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MountTable {
    /// In order; the first is `/`.
    pub mounts: Vec<MountSpec>,
    /// What `MountKind::Gofer` and `Overlay` refer to.
    pub roots: Vec<HostRoot>,
    /// Whether something of the host was mounted on /dev: its nodes are then the host's business.
    pub foreign_dev: bool,
}

/// What an option of a mount does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OptionEffect {
    Set(u32),
    Clear(u32),
    Bind {
        recursive: bool,
    },
    /// Of no consequence here: there is one mount namespace and its propagation is nobody's business.
    Nothing,
}

const RDONLY: u32 = libc::ST_RDONLY as u32;
const NOSUID: u32 = libc::ST_NOSUID as u32;
const NODEV: u32 = libc::ST_NODEV as u32;
const NOEXEC: u32 = libc::ST_NOEXEC as u32;
const NOATIME: u32 = libc::ST_NOATIME as u32;
const RELATIME: u32 = libc::ST_RELATIME as u32;

/// Mount options that are not passed on to the file system.
const OPTIONS: &[(&str, OptionEffect)] = &[
    ("async", OptionEffect::Nothing),
    ("atime", OptionEffect::Clear(NOATIME)),
    ("bind", OptionEffect::Bind { recursive: false }),
    ("defaults", OptionEffect::Nothing),
    ("dev", OptionEffect::Clear(NODEV)),
    ("diratime", OptionEffect::Nothing),
    ("dirsync", OptionEffect::Nothing),
    ("exec", OptionEffect::Clear(NOEXEC)),
    ("iversion", OptionEffect::Nothing),
    ("lazytime", OptionEffect::Nothing),
    ("loud", OptionEffect::Nothing),
    ("mand", OptionEffect::Nothing),
    ("noatime", OptionEffect::Set(NOATIME)),
    ("nodev", OptionEffect::Set(NODEV)),
    ("nodiratime", OptionEffect::Nothing),
    ("noexec", OptionEffect::Set(NOEXEC)),
    ("noiversion", OptionEffect::Nothing),
    ("nolazytime", OptionEffect::Nothing),
    ("nomand", OptionEffect::Nothing),
    ("norelatime", OptionEffect::Clear(RELATIME)),
    ("nostrictatime", OptionEffect::Nothing),
    ("nosuid", OptionEffect::Set(NOSUID)),
    ("private", OptionEffect::Nothing),
    ("rbind", OptionEffect::Bind { recursive: true }),
    ("relatime", OptionEffect::Set(RELATIME)),
    ("remount", OptionEffect::Nothing),
    ("ro", OptionEffect::Set(RDONLY)),
    ("rprivate", OptionEffect::Nothing),
    ("rro", OptionEffect::Set(RDONLY)),
    ("rshared", OptionEffect::Nothing),
    ("rslave", OptionEffect::Nothing),
    ("runbindable", OptionEffect::Nothing),
    ("rw", OptionEffect::Clear(RDONLY)),
    ("shared", OptionEffect::Nothing),
    ("silent", OptionEffect::Nothing),
    ("slave", OptionEffect::Nothing),
    ("strictatime", OptionEffect::Clear(RELATIME)),
    ("suid", OptionEffect::Clear(NOSUID)),
    ("sync", OptionEffect::Nothing),
    ("tmpcopyup", OptionEffect::Nothing),
    ("unbindable", OptionEffect::Nothing),
];

/// Names of the options in `OPTIONS`, for `features`.
pub const MOUNT_OPTIONS: fn() -> Vec<&'static str> = || OPTIONS.iter().map(|(name, _)| *name).collect();

/// A mount's options, sorted out.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Options {
    flags: u32,
    /// `Some(recursive)` for a bind mount.
    bind: Option<bool>,
    /// What the file system gets, comma-separated.
    data: String,
}

fn sort_out(options: &[String]) -> Options {
    // Linux's default, unless an option says otherwise.
    let mut sorted = Options { flags: RELATIME, bind: None, data: String::new() };
    for option in options.iter().filter(|o| !o.is_empty()) {
        match OPTIONS.iter().find(|(name, _)| name == option) {
            Some((_, OptionEffect::Set(flag))) => {
                sorted.flags |= flag;
                if *flag == NOATIME {
                    sorted.flags &= !RELATIME;
                }
            }
            Some((_, OptionEffect::Clear(flag))) => sorted.flags &= !flag,
            Some((_, OptionEffect::Bind { recursive })) => sorted.bind = Some(sorted.bind == Some(true) || *recursive),
            Some((_, OptionEffect::Nothing)) => {}
            None => {
                if !sorted.data.is_empty() {
                    sorted.data.push(',');
                }
                sorted.data.push_str(option);
            }
        }
    }
    sorted
}

/// Where the bundle's root file system is.
pub fn rootfs(config: &Config) -> Result<PathBuf, Complaint> {
    let root = config.spec.root().as_ref().ok_or_else(|| Complaint::new("root", "root must be specified"))?;
    if root.path().as_os_str().is_empty() {
        return Err(Complaint::new("root.path", "must not be empty"));
    }
    let path = config.bundle.join(root.path());
    let invalid = |why: String| Complaint::new("root.path", format!("invalid rootfs: stat {}: {why}", path.display()));
    let attributes = fs::metadata(&path).map_err(|e| invalid(describe(&e)))?;
    if !attributes.is_dir() {
        return Err(invalid("not a directory".to_owned()));
    }
    fs::canonicalize(&path).map_err(|e| invalid(describe(&e)))
}

/// `root` (found at `rootfs`) and `mounts`.
pub fn convert(config: &Config, rootfs: &Path, overlay: Overlay, log: &Log) -> Result<MountTable, Complaint> {
    let readonly = config.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let mut table = MountTable::default();
    // The lower layer is never written, and mount points that are missing in it are made in the upper one; so a read-only
    // root is an overlay as well.
    let direct = overlay == Overlay::None && !readonly;
    table.roots.push(HostRoot { path: rootfs.to_owned(), readonly: !direct, recursive: true });
    table.mounts.push(MountSpec {
        destination: b"/".to_vec(),
        kind: if direct { MountKind::Gofer { root: 0 } } else { MountKind::Overlay { lower: 0 } },
        flags: RELATIME | if readonly { RDONLY } else { 0 },
        fstype: if direct { "gofer" } else { "overlay" }.into(),
        source: if direct { "gofer" } else { "overlay" }.into(),
        options: String::new(),
    });
    for (index, mount) in config.spec.mounts().as_deref().unwrap_or_default().iter().enumerate() {
        convert_mount(&config.bundle, index, mount, &mut table, log)?;
    }
    Ok(table)
}

fn convert_mount(bundle: &Path, index: usize, mount: &Mount, table: &mut MountTable, log: &Log) -> Result<(), Complaint> {
    let destination = destination(mount.destination(), log);
    if destination == b"/" {
        return Err(Complaint::new(format!("mounts[{index}].destination"), "cannot mount over the root"));
    }
    let asked = sort_out(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or_default();
    let mut spec = MountSpec {
        destination,
        kind: MountKind::Tmpfs,
        flags: asked.flags,
        fstype: kind.to_owned(),
        source: mount.source().as_ref().map_or_else(|| kind.to_owned(), |s| s.to_string_lossy().into_owned()),
        options: asked.data,
    };
    if mount.options().iter().flatten().any(|o| o == "tmpcopyup") {
        log.warning(&format!("mounts[{index}].options: tmpcopyup is not supported; the mount is empty"));
    }
    match kind {
        _ if asked.bind.is_some() || kind == "bind" => {
            let recursive = asked.bind.unwrap_or(false);
            let (root, host_flags) = bind_source(bundle, index, mount, spec.flags & RDONLY != 0, recursive)?;
            spec.flags |= host_flags;
            spec.kind = MountKind::Gofer { root: table.roots.len() as u32 };
            // The host's own names stay its secret.
            spec.fstype = "gofer".into();
            spec.source = "gofer".into();
            spec.options = String::new();
            table.foreign_dev |= spec.destination == b"/dev";
            table.roots.push(HostRoot { readonly: root.readonly || host_flags & RDONLY != 0, ..root });
        }
        "tmpfs" | "ramfs" | "devtmpfs" => {}
        "proc" => spec.kind = MountKind::Foreign(ForeignFs::Proc),
        "sysfs" => spec.kind = MountKind::Foreign(ForeignFs::Sysfs),
        "devpts" => spec.kind = MountKind::Foreign(ForeignFs::Devpts),
        "mqueue" => spec.kind = MountKind::Foreign(ForeignFs::Mqueue),
        "cgroup" | "cgroup2" => spec.kind = MountKind::Foreign(ForeignFs::Cgroup),
        "" => return Err(Complaint::new(format!("mounts[{index}].type"), "missing")),
        other => {
            return Err(Complaint::new(format!("mounts[{index}].type"), format!("file system type {other:?} is not supported")));
        }
    }
    table.mounts.push(spec);
    Ok(())
}

/// Absolute, without `.`, `..` and double slashes.
fn destination(path: &Path, log: &Log) -> Vec<u8> {
    if !path.is_absolute() {
        log.warning(&format!(
            "mount destination {} not absolute: support for non-absolute mount destinations will be removed in a future release",
            path.display()
        ));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.as_os_str().as_bytes().split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let mut cleaned = vec![b'/'];
    cleaned.extend(parts.join(&b'/'));
    cleaned
}

/// The source of a bind mount, and those of the host's flags for it that hold in the container too.
fn bind_source(
    bundle: &Path,
    index: usize,
    mount: &Mount,
    readonly: bool,
    recursive: bool,
) -> Result<(HostRoot, u32), Complaint> {
    let field = format!("mounts[{index}].source");
    let Some(source) = mount.source().as_ref().filter(|s| !s.as_os_str().is_empty()) else {
        return Err(Complaint::new(field, "a bind mount without a source"));
    };
    let joined = bundle.join(source);
    let missing = |why: String| Complaint::new(&field, format!("bind source {}: {why}", joined.display()));
    let path = fs::canonicalize(&joined).map_err(|e| missing(describe(&e)))?;
    let host = nix::sys::statvfs::statvfs(&path).map_err(|e| missing(describe(&e.into())))?;
    let host_flags = host.flags().bits() as u32 & (RDONLY | NOSUID | NODEV | NOEXEC);
    Ok((HostRoot { path, readonly, recursive }, host_flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Options {
        sort_out(&list.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_sorted_into_flags_and_data() {
        let shm = options(&["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]);
        assert_eq!(shm.flags, NOSUID | NOEXEC | NODEV | RELATIME);
        assert_eq!(shm.data, "mode=1777,size=65536k");
        assert_eq!(options(&["ro", "noatime", "rw"]).flags, NOATIME);
        assert_eq!(options(&["strictatime"]).flags, 0);
        assert_eq!(options(&["rbind", "rprivate"]).bind, Some(true));
        assert_eq!(options(&["bind"]).bind, Some(false));
    }

    #[test]
    fn destinations_are_made_absolute_and_clean() {
        let log = Log::stderr();
        for (given, clean) in [("/proc", "/proc"), ("dev/./pts/", "/dev/pts"), ("/a/../../b//c", "/b/c"), ("/..", "/")] {
            assert_eq!(destination(Path::new(given), &log), clean.as_bytes(), "{given}");
        }
    }
}
