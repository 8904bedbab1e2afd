//! /sys: what programs read of it about the CPUs and the memory.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::vfs::Attributes;

use super::{
    node::{entry, inode, plain},
    process::ranges,
    text::Text,
};
use crate::{
    Errno,
    executor::Executor,
    fs::special::{SpecialEntry, SpecialNode},
    kernel::Kernel,
    task::Thread,
};

/// Directories that are there even when nothing is in them.
const DIRECTORIES: &[&str] =
    &["block", "bus", "class", "class/net", "dev", "devices", "firmware", "fs", "fs/cgroup", "module", "power"];

/// The root of a sysfs.
pub fn root(_: &Arc<Kernel>) -> Arc<dyn SpecialNode> {
    Arc::new(Directory { path: String::new() })
}

/// (path, text) of every file, ascending.
fn files() -> Vec<(String, String)> {
    let cpus = Executor::cpus();
    let all = ranges(u64::MAX >> (64 - cpus.clamp(1, 64)));
    let mut files = Vec::new();
    let system = "devices/system/cpu";
    for cpu in 0..cpus {
        let topology = format!("{system}/cpu{cpu}/topology");
        for (name, value) in [
            ("core_cpus_list", cpu.to_string()),
            ("core_id", cpu.to_string()),
            ("core_siblings_list", all.clone()),
            ("package_cpus_list", all.clone()),
            ("physical_package_id", "0".to_owned()),
            ("thread_siblings_list", cpu.to_string()),
        ] {
            files.push((format!("{topology}/{name}"), value));
        }
    }
    for (name, value) in [
        ("kernel_max", "63".to_owned()),
        ("offline", String::new()),
        ("online", all.clone()),
        ("possible", all.clone()),
        ("present", all.clone()),
    ] {
        files.push((format!("{system}/{name}"), value));
    }
    files.push(("devices/system/node/node0/cpulist".to_owned(), all));
    files.push(("devices/system/node/online".to_owned(), "0".to_owned()));
    files.push(("devices/system/node/possible".to_owned(), "0".to_owned()));
    files.push(("kernel/mm/transparent_hugepage/enabled".to_owned(), "always madvise [never]".to_owned()));
    files
}

/// Whether `path` lies in directory `parent`, and what is left of it.
fn beneath<'a>(parent: &str, path: &'a str) -> Option<&'a str> {
    if parent.is_empty() { Some(path) } else { path.strip_prefix(parent)?.strip_prefix('/') }
}

/// A directory of /sys.
struct Directory {
    path: String,
}

impl SpecialNode for Directory {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(Attributes { links: 2, ..plain(&format!("sysfs/{}", self.path), libc::S_IFDIR | 0o755, (0, 0)) })
    }

    fn lookup(&self, _: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        let files = files();
        if let Some((_, text)) = files.iter().find(|(file, _)| *file == path) {
            let text = format!("{text}\n").into_bytes();
            return Ok(Arc::new(Text {
                inode: inode(&format!("sysfs/{path}")),
                permissions: 0o444,
                owner: (0, 0),
                make: Arc::new(move || Ok(text.clone())),
                store: None,
                readonly: true,
            }));
        }
        let directory = DIRECTORIES.contains(&path.as_str()) || files.iter().any(|(file, _)| beneath(&path, file).is_some());
        if directory { Ok(Arc::new(Directory { path })) } else { Err(Errno::ENOENT) }
    }

    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let files = files();
        let paths = files.iter().map(|(path, _)| path.as_str()).chain(DIRECTORIES.iter().copied());
        let mut names: Vec<&str> = paths.filter_map(|path| beneath(&self.path, path)?.split('/').next()).collect();
        names.sort_unstable();
        names.dedup();
        let entries = names.into_iter().map(|name| {
            let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
            let kind = if files.iter().any(|(file, _)| *file == path) { libc::DT_REG } else { libc::DT_DIR };
            entry(name, &format!("sysfs/{path}"), kind)
        });
        Ok(entries.collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
