//! `linux.maskedPaths` and `linux.readonlyPaths` outside of /proc and /sys. (Within those, which are the sentry's, the sentry hides
//! them.) As with runc they are further mounts: nothing over what is masked, the path itself without the right to write.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use bulkhead_ipc::setup::{MountKind, MountSpec};

use super::mounts::{HostRoot, MountTable};
use crate::log::Log;

const RDONLY: u32 = libc::ST_RDONLY as u32;

/// Adds the mounts for `masked` and `readonly`. Paths that are not there are left alone.
pub fn hide(table: &mut MountTable, rootfs: &Path, masked: &[String], readonly: &[String], log: &Log) {
    for path in masked {
        let Some(found) = find(table, rootfs, path, "maskedPaths", log) else { continue };
        let spec = |kind, fstype: &str| MountSpec {
            destination: path.as_bytes().to_vec(),
            kind,
            flags: RDONLY,
            fstype: fstype.to_owned(),
            source: fstype.to_owned(),
            options: String::new(),
        };
        if found.is_dir() {
            table.mounts.push(spec(MountKind::Tmpfs, "tmpfs"));
        } else {
            let root = table.roots.len() as u32;
            table.roots.push(HostRoot { path: "/dev/null".into(), readonly: true, recursive: false });
            table.mounts.push(spec(MountKind::Gofer { root }, "gofer"));
        }
    }
    for path in readonly {
        let Some(found) = find(table, rootfs, path, "readonlyPaths", log) else { continue };
        let root = table.roots.len() as u32;
        table.roots.push(HostRoot { path: found, readonly: true, recursive: true });
        table.mounts.push(MountSpec {
            destination: path.as_bytes().to_vec(),
            kind: MountKind::Gofer { root },
            flags: RDONLY,
            fstype: "gofer".into(),
            source: "gofer".into(),
            options: String::new(),
        });
    }
}

/// Where a path of the root file system is on the host. `None`: not there, in another mount, or led out of the root file system by a
/// link, where nothing of the host may be shown.
fn find(table: &MountTable, rootfs: &Path, path: &str, list: &str, log: &Log) -> Option<PathBuf> {
    let inner = Path::new(path);
    let mount = table
        .mounts
        .iter()
        .filter(|mount| inner.starts_with(Path::new(std::ffi::OsStr::from_bytes(&mount.destination))))
        .max_by_key(|mount| mount.destination.len())?;
    match mount.kind {
        MountKind::Foreign(_) => return None,
        _ if mount.destination == b"/" => {}
        _ => {
            log.warning(&format!("linux.{list}: {path} is in another mount, and stays as it is"));
            return None;
        }
    }
    let relative = inner.strip_prefix("/").ok()?;
    let found = fs::canonicalize(rootfs.join(relative)).ok()?;
    found.starts_with(rootfs).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_masked_gets_a_mount_and_links_lead_nowhere() {
        let rootfs = std::env::temp_dir().join(format!("bulkhead-hidden-{}", std::process::id()));
        fs::create_dir_all(rootfs.join("secret")).unwrap();
        fs::write(rootfs.join("file"), "x").unwrap();
        fs::write(rootfs.join("other"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", rootfs.join("out")).unwrap();
        let rootfs = fs::canonicalize(&rootfs).unwrap();
        let root = MountSpec {
            destination: b"/".to_vec(),
            kind: MountKind::Overlay { lower: 0 },
            flags: 0,
            fstype: String::new(),
            source: String::new(),
            options: String::new(),
        };
        let mut table = MountTable { mounts: vec![root], ..Default::default() };
        let paths = |list: &[&str]| list.iter().map(|path| path.to_string()).collect::<Vec<_>>();
        let (masked, readonly) = (paths(&["/secret", "/file", "/none", "/out/passwd"]), paths(&["/file", "/other", "/out"]));
        hide(&mut table, &rootfs, &masked, &readonly, &Log::stderr());
        let kinds: Vec<MountKind> = table.mounts[1..].iter().map(|mount| mount.kind).collect();
        assert_eq!(kinds, [MountKind::Tmpfs, MountKind::Gofer { root: 0 }, MountKind::Gofer { root: 1 }]);
        assert_eq!(table.roots[0].path, Path::new("/dev/null"));
        // What is masked needs no more.
        assert_eq!(table.roots[1].path, rootfs.join("other"));
        fs::remove_dir_all(&rootfs).unwrap();
    }
}
