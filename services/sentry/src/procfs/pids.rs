//! /proc/PID, /proc/PID/task/TID and the directories below them.

use std::{
    any::Any,
    sync::{Arc, atomic::Ordering},
};

use bulkhead_ipc::vfs::Attributes;

use super::{
    network::Network,
    node::{MagicLink, TextLink, entry, inode, plain},
    process::Subject,
    root::number,
    text::{Make, Store, Text},
};
use crate::{
    Errno,
    abi::FdNumber,
    fs::{
        Location, OpenFile,
        special::{Link, SpecialEntry, SpecialNode},
    },
    task::{Process, Task, Thread, capability},
};

/// How a text of a process is made.
type MakeText = fn(&Subject) -> Result<Vec<u8>, Errno>;

/// Files that a process and each of its threads have: name, permission bits, contents.
const FILES: &[(&str, u32, MakeText)] =
    &[
        ("auxv", 0o400, Subject::auxiliary),
        ("cgroup", 0o444, |_| Ok(b"0::/\n".to_vec())),
        ("cmdline", 0o444, Subject::command_line),
        ("comm", 0o644, |subject| Ok(subject.comm())),
        ("environ", 0o400, Subject::environment),
        ("io", 0o400, |subject| Ok(subject.io())),
        ("limits", 0o444, |subject| Ok(subject.limits())),
        ("maps", 0o444, Subject::maps),
        ("mountinfo", 0o444, |subject| subject.mounts(true)),
        ("mounts", 0o444, |subject| subject.mounts(false)),
        ("oom_score", 0o444, |_| Ok(b"0\n".to_vec())),
        ("oom_score_adj", 0o644, |subject| {
            Ok(format!("{}\n", subject.process.oom_score_adjust.load(Ordering::Relaxed)).into_bytes())
        }),
        ("personality", 0o400, |subject| {
            let personality = subject.task.as_ref().map_or(0, |task| task.personality.load(Ordering::Relaxed));
            Ok(format!("{personality:08x}\n").into_bytes())
        }),
        ("sched_policy", 0o444, |subject| {
            Ok(format!("{}\n", subject.task.as_ref().map_or(0, |task| task.scheduling.lock().policy)).into_bytes())
        }),
        ("setgroups", 0o444, |_| Ok(b"allow\n".to_vec())),
        ("gid_map", 0o444, |_| Ok(IDENTITY.to_vec())),
        ("uid_map", 0o444, |_| Ok(IDENTITY.to_vec())),
        ("smaps", 0o444, Subject::smaps),
        ("smaps_rollup", 0o444, Subject::smaps_rollup),
        ("statm", 0o444, |subject| Ok(subject.statm())),
        ("status", 0o444, |subject| Ok(subject.status())),
        ("wchan", 0o444, |_| Ok(b"0".to_vec())),
    ];

/// user_namespaces(7): every id is itself.
const IDENTITY: &[u8] = b"         0          0 4294967295\n";

/// Namespaces, as /proc/PID/ns shows them.
const NAMESPACES: [(&str, u64); 7] = [
    ("cgroup", 4_026_531_835),
    ("ipc", 4_026_531_839),
    ("mnt", 4_026_531_841),
    ("net", 4_026_531_840),
    ("pid", 4_026_531_836),
    ("user", 4_026_531_837),
    ("uts", 4_026_531_838),
];

/// /proc/PID.
pub struct ProcessDirectory {
    process: Arc<Process>,
}

impl ProcessDirectory {
    /// Of this process.
    pub fn new(process: Arc<Process>) -> ProcessDirectory {
        ProcessDirectory { process }
    }

    fn subject(&self) -> Result<Subject, Errno> {
        // Its number may be gone, or be another's by now.
        match self.process.kernel.pids.process(self.process.pid) {
            Some(process) if Arc::ptr_eq(&process, &self.process) => {
                Ok(Subject { task: self.process.leader(), process: self.process.clone() })
            }
            _ => Err(Errno::ENOENT),
        }
    }
}

/// Who owns what belongs to a process: its effective ids, or root for one that must not be looked into.
fn owner(subject: &Subject) -> (u32, u32) {
    match &subject.task {
        Some(task) if subject.process.dumpable.load(Ordering::Relaxed) == 1 => {
            let credentials = task.credentials();
            (credentials.euid, credentials.egid)
        }
        _ => (0, 0),
    }
}

/// Whether a thread may look into another's files and memory (ptrace(2)'s access check).
fn may_inspect(thread: &Thread, subject: &Subject) -> Result<(), Errno> {
    let Some(task) = &subject.task else { return Err(Errno::ENOENT) };
    if Arc::ptr_eq(&task.process, &thread.process) {
        return Ok(());
    }
    let (mine, theirs) = (thread.credentials(), task.credentials());
    let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|&uid| uid == mine.fsuid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|&gid| gid == mine.fsgid)
        && theirs.capabilities.permitted & !mine.capabilities.permitted == 0
        && subject.process.dumpable.load(Ordering::Relaxed) == 1;
    if same || mine.has(capability::SYS_PTRACE) { Ok(()) } else { Err(Errno::EACCES) }
}

/// A file of [`FILES`], or `stat`.
fn file(subject: &Subject, path: &str, name: &str, whole_process: bool) -> Option<Arc<dyn SpecialNode>> {
    let (permissions, make): (u32, Make) = if name == "stat" {
        let subject = subject.clone();
        (0o444, Arc::new(move || Ok(subject.stat(whole_process))))
    } else {
        let &(_, permissions, make) = FILES.iter().find(|(file, ..)| *file == name)?;
        let subject = subject.clone();
        (permissions, Arc::new(move || make(&subject)))
    };
    let store: Option<Store> = match name {
        "comm" => Some(Arc::new({
            let subject = subject.clone();
            move |_, bytes| set_name(&subject, bytes)
        })),
        "oom_score_adj" => Some(Arc::new({
            let process = subject.process.clone();
            move |capabilities, bytes| adjust(&process, capabilities, bytes)
        })),
        _ => None,
    };
    Some(Arc::new(Text {
        inode: inode(&format!("{path}/{name}")),
        permissions,
        owner: owner(subject),
        make,
        store,
        readonly: false,
    }))
}

fn set_name(subject: &Subject, bytes: &[u8]) -> Result<(), Errno> {
    let task = subject.task.as_ref().ok_or(Errno::ESRCH)?;
    let name = bytes.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
    *task.name.lock() = name.iter().copied().take(15).collect();
    Ok(())
}

fn adjust(process: &Process, capabilities: u64, bytes: &[u8]) -> Result<(), Errno> {
    let value: i32 = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok()).ok_or(Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    if value < process.oom_score_adjust.load(Ordering::Relaxed) && capabilities & 1 << capability::SYS_RESOURCE == 0 {
        return Err(Errno::EACCES);
    }
    process.oom_score_adjust.store(value, Ordering::Relaxed);
    Ok(())
}

/// The path of a place, as `thread` sees it.
fn path_of(thread: &Thread, location: &Location) -> Result<Vec<u8>, Errno> {
    let root = thread.fs().root_node();
    match location {
        Location::Vfs(handle) => crate::fs::regular::path_of(handle, root),
        Location::Special(place) => Ok(place.path(root)),
    }
}

/// How an open file reads as a link.
fn name_of(thread: &Thread, file: &OpenFile) -> Result<Vec<u8>, Errno> {
    match &file.location {
        Some(location) => path_of(thread, location),
        None => Ok(file.ops.describe()),
    }
}

/// exe, cwd and root.
fn place_link(subject: &Subject, path: &str, name: &'static str) -> Arc<dyn SpecialNode> {
    let target = subject.clone();
    Arc::new(MagicLink {
        path: format!("{path}/{name}"),
        permissions: 0o777,
        owner: owner(subject),
        resolve: Box::new(move |thread| {
            may_inspect(thread, &target)?;
            let task = target.task.as_ref().ok_or(Errno::ENOENT)?;
            if name == "exe" {
                let file = target.process.executable.read().clone().ok_or(Errno::ENOENT)?;
                let text = name_of(thread, &file)?;
                return Ok((file.location.clone().map_or(Link::File(file), Link::Place), text));
            }
            let fs = task.fs();
            let location = if name == "cwd" { fs.directory.read().clone() } else { fs.root.read().clone() };
            let text = path_of(thread, &location)?;
            Ok((Link::Place(location), text))
        }),
    })
}

/// What a process and a thread have alike.
fn common(subject: &Subject, path: &str, name: &str, whole_process: bool) -> Result<Arc<dyn SpecialNode>, Errno> {
    if let Some(file) = file(subject, path, name, whole_process) {
        return Ok(file);
    }
    match name {
        "exe" => Ok(place_link(subject, path, "exe")),
        "cwd" => Ok(place_link(subject, path, "cwd")),
        "root" => Ok(place_link(subject, path, "root")),
        "fd" | "fdinfo" => {
            let path = format!("{path}/{name}");
            Ok(Arc::new(Descriptors { subject: subject.clone(), path, information: name == "fdinfo" }))
        }
        "net" => Ok(Arc::new(Network { kernel: subject.process.kernel.clone(), path: format!("{path}/net") })),
        "ns" => Ok(Arc::new(Namespaces { subject: subject.clone(), path: format!("{path}/ns") })),
        _ => Err(Errno::ENOENT),
    }
}

fn common_entries(path: &str) -> Vec<SpecialEntry> {
    let of = |name: &str, kind| entry(name, &format!("{path}/{name}"), kind);
    let mut entries: Vec<SpecialEntry> = FILES.iter().map(|(name, ..)| of(name, libc::DT_REG)).collect();
    entries.push(of("stat", libc::DT_REG));
    entries.extend(["exe", "cwd", "root"].map(|name| of(name, libc::DT_LNK)));
    entries.extend(["fd", "fdinfo", "net", "ns"].map(|name| of(name, libc::DT_DIR)));
    entries
}

impl SpecialNode for ProcessDirectory {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        let subject = self.subject()?;
        Ok(Attributes { links: 9, ..plain(&self.process.pid.to_string(), libc::S_IFDIR | 0o555, owner(&subject)) })
    }

    fn lookup(&self, _: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let subject = self.subject()?;
        if name == "task" {
            return Ok(Arc::new(Threads { process: self.process.clone() }));
        }
        common(&subject, &self.process.pid.to_string(), name, true)
    }

    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let path = self.process.pid.to_string();
        let mut entries = common_entries(&path);
        entries.push(entry("task", &format!("{path}/task"), libc::DT_DIR));
        Ok(entries)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// /proc/PID/task.
struct Threads {
    process: Arc<Process>,
}

impl SpecialNode for Threads {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        let subject = Subject { task: self.process.leader(), process: self.process.clone() };
        let links = 2 + self.process.thread_count() as u32;
        Ok(Attributes { links, ..plain(&format!("{}/task", self.process.pid), libc::S_IFDIR | 0o555, owner(&subject)) })
    }

    fn lookup(&self, _: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        let tid = std::str::from_utf8(name).ok().and_then(number).ok_or(Errno::ENOENT)?;
        let task = self.process.threads().into_iter().find(|task| task.tid() == tid).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(ThreadDirectory { task }))
    }

    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let path = format!("{}/task", self.process.pid);
        let entries = self.process.threads().into_iter().map(|task| {
            let name = task.tid().to_string();
            entry(name.as_str(), &format!("{path}/{name}"), libc::DT_DIR)
        });
        Ok(entries.collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// /proc/PID/task/TID.
struct ThreadDirectory {
    task: Arc<Task>,
}

impl ThreadDirectory {
    fn subject(&self) -> Subject {
        Subject { process: self.task.process.clone(), task: Some(self.task.clone()) }
    }
    fn path(&self) -> String {
        format!("{}/task/{}", self.task.process.pid, self.task.tid())
    }
}

impl SpecialNode for ThreadDirectory {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(Attributes { links: 6, ..plain(&self.path(), libc::S_IFDIR | 0o555, owner(&self.subject())) })
    }

    fn lookup(&self, _: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        if name == "children" {
            let (task, owner) = (self.task.clone(), owner(&self.subject()));
            return Ok(Arc::new(Text {
                inode: inode(&format!("{}/children", self.path())),
                permissions: 0o444,
                owner,
                make: Arc::new(move || {
                    let children = task.kernel.pids.children(task.process.pid);
                    Ok(children.iter().map(|pid| format!("{pid} ")).collect::<String>().into_bytes())
                }),
                store: None,
                readonly: false,
            }));
        }
        common(&self.subject(), &self.path(), name, false)
    }

    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let path = self.path();
        let mut entries = common_entries(&path);
        entries.push(entry("children", &format!("{path}/children"), libc::DT_REG));
        Ok(entries)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// /proc/PID/fd, or fdinfo.
struct Descriptors {
    subject: Subject,
    path: String,
    information: bool,
}

impl SpecialNode for Descriptors {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        let permissions = if self.information { 0o555 } else { 0o500 };
        Ok(Attributes { links: 2, ..plain(&self.path, libc::S_IFDIR | permissions, owner(&self.subject)) })
    }

    fn lookup(&self, thread: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        may_inspect(thread, &self.subject)?;
        let fd = std::str::from_utf8(name).ok().and_then(number).map(FdNumber).ok_or(Errno::ENOENT)?;
        let task = self.subject.task.clone().ok_or(Errno::ENOENT)?;
        let open = task.files().get(fd).map_err(|_| Errno::ENOENT)?;
        let path = format!("{}/{}", self.path, fd.0);
        if self.information {
            let subject = self.subject.clone();
            return Ok(Arc::new(Text {
                inode: inode(&path),
                permissions: 0o400,
                owner: owner(&self.subject),
                make: Arc::new(move || Ok(subject.fd_info(&open))),
                store: None,
                readonly: false,
            }));
        }
        let permissions = 0o100 | if open.readable() { 0o400 } else { 0 } | if open.writable() { 0o200 } else { 0 };
        Ok(Arc::new(MagicLink {
            path,
            permissions,
            owner: owner(&self.subject),
            resolve: Box::new(move |thread| {
                let file = task.files().get(fd).map_err(|_| Errno::ENOENT)?;
                let text = name_of(thread, &file)?;
                Ok((Link::File(file), text))
            }),
        }))
    }

    fn entries(&self, thread: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        may_inspect(thread, &self.subject)?;
        let task = self.subject.task.as_ref().ok_or(Errno::ENOENT)?;
        let kind = if self.information { libc::DT_REG } else { libc::DT_LNK };
        let entries = task.files().list().into_iter().map(|(fd, ..)| {
            let name = fd.0.to_string();
            entry(name.as_str(), &format!("{}/{name}", self.path), kind)
        });
        Ok(entries.collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// /proc/PID/ns: the names only; there is nothing to enter.
struct Namespaces {
    subject: Subject,
    path: String,
}

impl SpecialNode for Namespaces {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(Attributes { links: 2, ..plain(&self.path, libc::S_IFDIR | 0o511, owner(&self.subject)) })
    }

    fn lookup(&self, _: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        let (name, number) = NAMESPACES.iter().find(|(known, _)| known.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let path = format!("{}/{name}", self.path);
        Ok(Arc::new(TextLink { path, owner: owner(&self.subject), target: format!("{name}:[{number}]").into_bytes() }))
    }

    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let path = |name| format!("{}/{name}", self.path);
        Ok(NAMESPACES.iter().map(|(name, _)| entry(*name, &path(name), libc::DT_LNK)).collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
