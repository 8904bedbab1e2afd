//! /proc itself: what tells of the system, and a directory per process.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::vfs::Attributes;

use super::{
    node::{TextLink, entry, inode, plain},
    pids::ProcessDirectory,
    sysctl, system,
    text::Text,
};
use crate::{
    Errno,
    executor::Executor,
    fs::special::{SpecialEntry, SpecialNode},
    kernel::Kernel,
    task::Thread,
};

/// How a text is made.
type MakeText = fn(&Kernel) -> Vec<u8>;

/// The files of /proc.
const FILES: &[(&str, MakeText)] = &[
    ("cmdline", |_| b"\n".to_vec()),
    ("cpuinfo", |kernel| kernel.proc.facts.cpuinfo(Executor::cpus())),
    ("devices", |_| system::devices()),
    ("filesystems", |_| system::filesystems()),
    ("loadavg", system::load_average),
    ("meminfo", system::meminfo),
    ("stat", system::stat),
    ("swaps", |_| b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()),
    ("uptime", system::uptime),
    ("version", |_| system::version()),
];

/// The links of /proc.
const LINKS: &[(&str, &str)] = &[("mounts", "self/mounts"), ("net", "self/net")];

/// /proc.
pub struct Root {
    kernel: Arc<Kernel>,
}

impl Root {
    /// Of this kernel.
    pub fn new(kernel: Arc<Kernel>) -> Root {
        Root { kernel }
    }
}

impl SpecialNode for Root {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(Attributes { inode: 1, links: 2, ..plain("", libc::S_IFDIR | 0o555, (0, 0)) })
    }

    fn lookup(&self, thread: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let link = |target: String| {
            Ok(Arc::new(TextLink { path: name.to_owned(), owner: (0, 0), target: target.into_bytes() }) as Arc<dyn SpecialNode>)
        };
        if let Some(&(_, make)) = FILES.iter().find(|(file, _)| *file == name) {
            let kernel = self.kernel.clone();
            return Ok(Arc::new(Text {
                inode: inode(name),
                permissions: 0o444,
                owner: (0, 0),
                make: Arc::new(move || Ok(make(&kernel))),
                store: None,
                readonly: false,
            }));
        }
        if let Some((_, target)) = LINKS.iter().find(|(link, _)| *link == name) {
            return link((*target).to_owned());
        }
        match name {
            "self" => link(thread.process.pid.to_string()),
            "thread-self" => link(format!("{}/task/{}", thread.process.pid, thread.tid())),
            "sys" => Ok(Arc::new(Setting { kernel: self.kernel.clone(), path: String::new() })),
            _ => {
                let pid = number(name).ok_or(Errno::ENOENT)?;
                // A thread that is no leader can be named, though it is not listed.
                let process = self.kernel.pids.process(pid).or_else(|| Some(self.kernel.pids.task(pid)?.process.clone()));
                Ok(Arc::new(ProcessDirectory::new(process.ok_or(Errno::ENOENT)?)))
            }
        }
    }

    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let mut entries: Vec<SpecialEntry> = FILES.iter().map(|(name, _)| entry(*name, name, libc::DT_REG)).collect();
        entries.extend(LINKS.iter().map(|(name, _)| entry(*name, name, libc::DT_LNK)));
        entries.push(entry("self", "self", libc::DT_LNK));
        entries.push(entry("sys", "sys", libc::DT_DIR));
        entries.push(entry("thread-self", "thread-self", libc::DT_LNK));
        for process in self.kernel.pids.processes() {
            let name = process.pid.to_string();
            entries.push(entry(name.as_str(), &name, libc::DT_DIR));
        }
        Ok(entries)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A process or descriptor number as a file name: digits without a leading zero.
pub fn number(name: &str) -> Option<i32> {
    let canonical = name == "0" || !name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit());
    if canonical { name.parse().ok() } else { None }
}

/// A directory of /proc/sys; its values are [`Text`].
struct Setting {
    kernel: Arc<Kernel>,
    /// Beneath /proc/sys.
    path: String,
}

impl Setting {
    fn readonly(&self) -> bool {
        let own = format!("/proc/sys/{}", self.path);
        self.kernel.settings.readonly_paths.iter().any(|path| own.as_bytes().starts_with(path))
    }
}

impl SpecialNode for Setting {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(plain(&format!("sys/{}", self.path), libc::S_IFDIR | 0o555, (0, 0)))
    }

    fn lookup(&self, _: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        match sysctl::find(&path).ok_or(Errno::ENOENT)? {
            sysctl::Kind::Directory => Ok(Arc::new(Setting { kernel: self.kernel.clone(), path })),
            sysctl::Kind::Value { writable } => {
                let (reader, writer) = ((self.kernel.clone(), path.clone()), (self.kernel.clone(), path.clone()));
                Ok(Arc::new(Text {
                    inode: inode(&format!("sys/{path}")),
                    permissions: if writable { 0o644 } else { 0o444 },
                    owner: (0, 0),
                    make: Arc::new(move || sysctl::read(&reader.0, &reader.1)),
                    store: writable.then(|| {
                        Arc::new(move |capabilities, bytes: &[u8]| sysctl::write(&writer.0, capabilities, &writer.1, bytes))
                            as super::text::Store
                    }),
                    readonly: self.readonly(),
                }))
            }
        }
    }

    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let prefix = if self.path.is_empty() { String::new() } else { format!("{}/", self.path) };
        let entries = sysctl::list(&self.path).into_iter().map(|name| {
            let path = format!("{prefix}{name}");
            let directory = sysctl::find(&path) == Some(sysctl::Kind::Directory);
            entry(name, &format!("sys/{path}"), if directory { libc::DT_DIR } else { libc::DT_REG })
        });
        Ok(entries.collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn only_canonical_numbers_name_processes() {
        assert_eq!(number("12"), Some(12));
        assert_eq!(number("0"), Some(0));
        for name in ["012", "+1", "-1", "", "1x", "99999999999"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
