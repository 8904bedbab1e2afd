//! Processes, and what they have.

use std::sync::{Arc, atomic::Ordering};

use bulkhead_ipc::vfs::NodeId;

use super::proto;
use crate::{
    abi::UserAddress,
    executor,
    fs::{Location, OpenFile, regular},
    kernel::Kernel,
    memory::{AddressSpace, MapLine},
    syscalls::table,
    task::{Process, Task},
    trace,
};

/// Arguments that are shown, and bytes of each.
const MOST_ARGUMENTS: usize = 16;
const MOST_BYTES: usize = 256;

/// `None` when it has just gone.
pub(super) fn describe(kernel: &Kernel, process: &Process) -> Option<proto::Process> {
    let relations = kernel.pids.relations(process.pid)?;
    let tasks = process.threads();
    let leader = tasks.iter().find(|task| task.tid() == process.pid).or(tasks.first());
    let usage = leader.map(|task| task.memory().usage()).unwrap_or_default();
    let times = process.cpu_times();
    Some(proto::Process {
        pid: process.pid,
        parent: relations.parent,
        group: relations.group,
        session: relations.session,
        name: leader.map_or_else(String::new, |task| name(task)),
        state: leader.map_or("zombie", |task| task.cpu.state().word()).to_owned(),
        threads: tasks.iter().map(|task| describe_thread(task)).collect(),
        uid: leader.map_or(0, |task| task.credentials().euid),
        user_microseconds: times.user / 1000,
        system_microseconds: times.system / 1000,
        resident_bytes: usage.resident,
        virtual_bytes: usage.virtual_size,
        age_microseconds: executor::now().saturating_sub(process.started) / 1000,
        arguments: leader.map(|task| arguments(&task.memory())).unwrap_or_default(),
    })
}

fn name(task: &Task) -> String {
    String::from_utf8_lossy(&task.name.lock()).into_owned()
}

fn describe_thread(task: &Task) -> proto::Thread {
    proto::Thread {
        tid: task.tid(),
        name: name(task),
        state: task.cpu.state().word().to_owned(),
        waits_in: task.cpu.waits_in().map(table::name).unwrap_or_default().to_owned(),
    }
}

fn arguments(memory: &AddressSpace) -> Vec<String> {
    let (start, end) = memory.layout().arguments;
    let mut bytes = vec![0; end.saturating_sub(start).min((MOST_ARGUMENTS * MOST_BYTES) as u64) as usize];
    let length = memory.read_some(UserAddress(start), &mut bytes).unwrap_or(0);
    let text = bytes[..length].strip_suffix(&[0]).unwrap_or(&bytes[..length]);
    if text.is_empty() {
        return Vec::new();
    }
    let shown = text.split(|&byte| byte == 0).take(MOST_ARGUMENTS);
    shown.map(|argument| String::from_utf8_lossy(&argument[..argument.len().min(MOST_BYTES)]).into_owned()).collect()
}

/// A process at length. On a worker: it asks vfs for paths.
pub(super) fn inspect(task: &Arc<Task>) -> proto::GetTaskResponse {
    let (process, credentials, fs) = (&task.process, task.credentials(), task.fs());
    let executable = process.executable.read().clone();
    let (ignored, caught) = process.signals.actions().summary();
    let limits = *process.limits.lock();
    let capabilities = &credentials.capabilities;
    proto::GetTaskResponse {
        process: describe(&task.kernel, process),
        executable: executable.map(|file| what(&file)).unwrap_or_default(),
        working_directory: path(&fs.directory.read().clone()),
        root_directory: path(&fs.root.read().clone()),
        umask: fs.umask.load(Ordering::Relaxed),
        credentials: Some(proto::Credentials {
            uid: credentials.uid,
            euid: credentials.euid,
            suid: credentials.suid,
            fsuid: credentials.fsuid,
            gid: credentials.gid,
            egid: credentials.egid,
            sgid: credentials.sgid,
            fsgid: credentials.fsgid,
            groups: credentials.groups.to_vec(),
            permitted: capabilities.permitted,
            effective: capabilities.effective,
            inheritable: capabilities.inheritable,
            bounding: capabilities.bounding,
            ambient: capabilities.ambient,
            no_new_privileges: credentials.no_new_privileges,
        }),
        signals: Some(proto::Signals {
            pending: task.signals.pending().0,
            pending_for_process: process.signals.pending().0,
            blocked: task.signals.mask().0,
            ignored: ignored.0,
            caught: caught.0,
        }),
        nice: task.scheduling.lock().nice,
        open_files: task.files().list().len() as u32,
        limits: trace::resources()
            .map(|(resource, name)| {
                let (soft, hard) = limits.get(resource);
                proto::Limit { name: name.to_owned(), soft, hard }
            })
            .collect(),
    }
}

/// The open files of a process. On a worker: it asks vfs for paths.
pub(super) fn fds(task: &Task) -> Vec<proto::Fd> {
    let files = task.files().list().into_iter();
    let fds = files.map(|(number, close_on_exec, file)| proto::Fd {
        number: number.0,
        what: what(&file),
        flags: trace::open_flags(file.status().into()),
        close_on_exec,
        position: *file.position.lock(),
        open_file: file.id,
    });
    fds.collect()
}

fn what(file: &OpenFile) -> String {
    match &file.location {
        Some(location) => path(location),
        None => String::from_utf8_lossy(&file.ops.describe()).into_owned(),
    }
}

/// As seen from the container's root.
fn path(location: &Location) -> String {
    let path = match location {
        Location::Vfs(handle) => regular::path_of(handle, NodeId::ROOT).unwrap_or_else(|errno| format!("({errno})").into_bytes()),
        Location::Special(place) => place.path(NodeId::ROOT),
    };
    String::from_utf8_lossy(&path).into_owned()
}

pub(super) fn mapping(line: MapLine) -> proto::Mapping {
    proto::Mapping {
        start: line.start,
        end: line.end,
        access: line.access(),
        offset: line.offset,
        name: String::from_utf8_lossy(&line.name).into_owned(),
        resident_bytes: line.resident,
    }
}
