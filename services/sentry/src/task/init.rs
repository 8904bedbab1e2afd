//! Processes that come from outside: the container's first, and those that `exec` adds. They are made from what the supervisor
//! said, not by clone and execve, but end up as if.

use std::sync::{
    Arc,
    atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering},
};

use bulkhead_ipc::{
    Errno,
    setup::Program,
    vfs::{At, Caller, NodeId, Request},
};
use parking_lot::{Mutex, RwLock};

use super::{
    Credentials, Limits, Process, Scheduling, Task, TaskCpu, Thread, capability, exec,
    exit::INIT,
    home,
    pids::{Member, Relations, Table},
};
use crate::{
    abi::FdNumber,
    executor::{self, Executor},
    fs::{
        self, FdTable, FsContext, Location, Offset, OpenFile,
        path::{self, Walk},
        table::MAX_NUMBERS,
    },
    kernel::Kernel,
    loader::Loaded,
    memory::AddressSpace,
    platform::{Context, Registers},
    signal::{ProcessSignals, SignalActions, SignalSet, TaskSignals},
};

/// Why the container's program cannot be run; in the words that runc has for it, because container managers look at them.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No such program in PATH.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    /// A path that leads nowhere.
    #[error("exec: {0:?}: stat {0}: no such file or directory")]
    Missing(String),
    /// A file that may not be run.
    #[error("exec: {0:?}: permission denied")]
    Denied(String),
    /// It is there, but does not load.
    #[error("exec {0}: {1}")]
    NotLoaded(String, &'static str),
    /// process.cwd.
    #[error("chdir to cwd ({0:?}) set in config.json failed: {1}")]
    Directory(String, &'static str),
    /// Nothing to run.
    #[error("process.args must not be empty")]
    Empty,
    /// Memory, a guest thread and the like.
    #[error("cannot {0}: {1}")]
    Host(&'static str, Errno),
}

/// Init, whose program was found and is not loaded yet.
pub struct Prepared {
    thread: Thread,
    file: Arc<OpenFile>,
    path: Vec<u8>,
    errors: Option<Arc<OpenFile>>,
}

/// Makes init and finds its program. Must be called on a worker.
pub fn prepare(kernel: &Arc<Kernel>, files: Vec<Arc<OpenFile>>) -> Result<Prepared, StartError> {
    let program = &kernel.settings.program;
    let errors = files.get(libc::STDERR_FILENO as usize).cloned();
    let thread = make(kernel, program, files, Role::Init)?;
    match enter_directory(&thread, &program.directory, true).and_then(|()| find_program(&thread, program)) {
        Ok((file, path)) => Ok(Prepared { thread, file, path, errors }),
        Err(error) => Err(unmake(thread, error)),
    }
}

impl Prepared {
    /// The process.
    pub fn process(&self) -> &Arc<Process> {
        &self.thread.process
    }

    /// Loads the program. A file that turns out not to be one ends the process as it does under runc: with a message on its
    /// standard error and exit status 1. Must be called on the worker that has prepared it.
    pub fn load(self) -> Thread {
        let Prepared { mut thread, file, path, errors } = self;
        let kernel = thread.kernel.clone();
        let loaded = load_program(&thread, &kernel.settings.program, file, &path);
        if let Err(error) = loaded.and_then(|(loaded, context)| become_program(&mut thread, loaded, context)) {
            let told = errors.map(|file| file.ops.write_bytes(&file, format!("{error}\n").as_bytes(), Offset::Current));
            tracing::warn!(%error, ?told, "the container's program cannot be run");
            thread.process.begin_exit(1 << 8);
        }
        thread
    }
}

/// Makes init, with a program that `load` brings instead of the one that the settings name. Must be called on a worker.
pub fn start_with(
    kernel: &Arc<Kernel>,
    files: Vec<Arc<OpenFile>>,
    load: impl FnOnce(&Thread) -> Result<(Loaded, Option<Context>), StartError>,
) -> Result<Thread, StartError> {
    let thread = make(kernel, &kernel.settings.program, files, Role::Init)?;
    become_loaded(thread, load)
}

/// Makes a further process, whose parent is nobody that the container can see, and loads its program. `on_end` is called with its
/// wait status when it has ended. Must be called on a worker.
pub fn enter(
    kernel: &Arc<Kernel>,
    program: &Program,
    files: Vec<Arc<OpenFile>>,
    on_end: Box<dyn FnOnce(i32) + Send>,
) -> Result<Thread, StartError> {
    let thread = make(kernel, program, files, Role::Further)?;
    let thread = become_loaded(thread, |thread| {
        enter_directory(thread, &program.directory, false)?;
        let (file, path) = find_program(thread, program)?;
        load_program(thread, program, file, &path)
    })?;
    *thread.process.on_end.lock() = Some(on_end);
    Ok(thread)
}

fn become_loaded(
    mut thread: Thread,
    load: impl FnOnce(&Thread) -> Result<(Loaded, Option<Context>), StartError>,
) -> Result<Thread, StartError> {
    let ready = load(&thread).and_then(|(loaded, context)| become_program(&mut thread, loaded, context));
    match ready {
        Ok(()) => Ok(thread),
        Err(error) => Err(unmake(thread, error)),
    }
}

fn become_program(thread: &mut Thread, loaded: Loaded, context: Option<Context>) -> Result<(), StartError> {
    exec::become_program(thread, loaded, context).map_err(|errno| StartError::Host("show the program to its stub", errno))
}

/// Without a program, a process has never been; `why` there is none.
fn unmake(thread: Thread, why: StartError) -> StartError {
    thread.process.remove_thread(&thread.task);
    thread.kernel.pids.with(|table| {
        table.remove_task(thread.tid());
        table.remove_process(thread.process.pid);
    });
    why
}

impl Thread {
    /// Runs the guest until this thread ends.
    pub async fn run(self) {
        super::run::run(self).await;
    }
}

/// What a process from outside is to the container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// pid 1.
    Init,
    /// Any other.
    Further,
}

/// A process without a program, with everything else. `files` become fds 0, 1, 2 and so on.
fn make(kernel: &Arc<Kernel>, program: &Program, files: Vec<Arc<OpenFile>>, role: Role) -> Result<Thread, StartError> {
    let memory = AddressSpace::new(&kernel.platform, &kernel.memory).map_err(|e| StartError::Host("make guest memory", e))?;
    let context = memory.space().new_context(Executor::current_cpu()).map_err(|e| StartError::Host("make a guest thread", e))?;
    let table = FdTable::new();
    for file in files {
        table.install(file, false, 0, MAX_NUMBERS).map_err(|e| StartError::Host("set up stdio", e))?;
    }
    let root = Location::Vfs(kernel.vfs.root());
    let fs = Arc::new(FsContext {
        root: RwLock::new(root.clone()),
        directory: RwLock::new(root),
        umask: AtomicU32::new(program.umask.unwrap_or(0o022) & 0o777),
    });

    let pid = match role {
        Role::Init => INIT,
        Role::Further => kernel.pids.with(Table::allocate).map_err(|e| StartError::Host("make a process", e))?,
    };
    let signals = ProcessSignals::new(Arc::new(SignalActions::default()), role == Role::Init);
    let process = Process::new(kernel, pid, signals, Limits::configured(&program.limits), 0);
    process.oom_score_adjust.store(program.oom_score_adjust, Ordering::Relaxed);
    let process = Arc::new(process);
    let task = Arc::new(Task {
        tid: AtomicI32::new(pid),
        process: process.clone(),
        kernel: kernel.clone(),
        memory: RwLock::new(memory),
        files: RwLock::new(table),
        fs: RwLock::new(fs),
        credentials: RwLock::new(Arc::new(credentials(program))),
        name: Mutex::new(b"init".to_vec()),
        signals: TaskSignals::new(SignalSet::EMPTY),
        cpu: TaskCpu::default(),
        clear_child_tid: AtomicU64::new(0),
        robust_list: AtomicU64::new(0),
        parent_death_signal: AtomicI32::new(0),
        scheduling: Mutex::new(Scheduling::default()),
        personality: AtomicU64::new(program.personality.into()),
        started: executor::now(),
        vfork: Mutex::new(None),
    });
    task.signals.attach(context.interrupter());
    process.add_thread(task.clone());
    kernel.pids.with(|table| {
        if table.is_closing() {
            return Err(StartError::Host("make a process", Errno::ESRCH));
        }
        table.insert_process(Member {
            process: process.clone(),
            relations: Relations { parent: 0, group: pid, session: pid, zombie: false },
            parent_tid: 0,
            children: Vec::new(),
            ended: None,
        });
        table.insert_task(task.clone());
        Ok(())
    })?;
    super::cpu_limit::watch(&process);
    Ok(Thread { task, registers: Registers::default(), context, call: None, exit_code: 0 })
}

fn credentials(program: &Program) -> Credentials {
    let mut capabilities = program.capabilities;
    for set in [
        &mut capabilities.bounding,
        &mut capabilities.effective,
        &mut capabilities.inheritable,
        &mut capabilities.permitted,
        &mut capabilities.ambient,
    ] {
        *set &= capability::ALL;
    }
    // The kernel raises no others (PR_CAP_AMBIENT_RAISE), and runc leaves it at that.
    capabilities.ambient &= capabilities.permitted & capabilities.inheritable;
    Credentials {
        uid: program.uid,
        euid: program.uid,
        suid: program.uid,
        fsuid: program.uid,
        gid: program.gid,
        egid: program.gid,
        sgid: program.gid,
        fsgid: program.gid,
        groups: program.groups.clone(),
        capabilities,
        securebits: 0,
        no_new_privileges: program.no_new_privileges,
    }
}

/// process.cwd; `make` says whether it is made when it is not there.
fn enter_directory(thread: &Thread, directory: &[u8], make: bool) -> Result<(), StartError> {
    let directory = if directory.is_empty() { b"/" } else { directory };
    let fail = |errno| StartError::Directory(text(directory), describe(errno));
    let mut found = lookup(thread, directory);
    if make && matches!(found, Err(Errno::ENOENT)) {
        make_directories(thread, directory).map_err(fail)?;
        found = lookup(thread, directory);
    }
    let place = found.map_err(fail)?;
    *thread.fs().directory.write() = place;
    Ok(())
}

/// A directory, reached as the container's root: like runc, which goes there before it becomes the program's user.
fn lookup(thread: &Thread, path: &[u8]) -> Result<Location, Errno> {
    let mut walk = Walk::new(thread);
    walk.caller = root();
    let target = walk.resolve(FdNumber::WORKING_DIRECTORY, path, true, false)?;
    path::locate(&mut walk, target, true).map(|(place, _)| place)
}

pub(super) fn root() -> Caller {
    Caller { capabilities: capability::ALL, ..Caller::default() }
}

pub(super) fn at(caller: &Caller, path: &[u8]) -> At {
    At { caller: caller.clone(), root: NodeId::ROOT, base: NodeId::ROOT, path: path.to_vec(), follow: true }
}

/// mkdir -p, as the container's root.
fn make_directories(thread: &Thread, path: &[u8]) -> Result<(), Errno> {
    let root = root();
    let ends = path.iter().enumerate().filter(|(i, byte)| **byte == b'/' && *i > 0).map(|(i, _)| i).chain([path.len()]);
    for end in ends {
        match thread.kernel.vfs.call(&Request::Mkdir { at: at(&root, &path[..end]), mode: 0o755 }) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn find_program(thread: &Thread, program: &Program) -> Result<(Arc<OpenFile>, Vec<u8>), StartError> {
    let name = program.arguments.first().ok_or(StartError::Empty)?;
    find(name, search_path(&program.environment), |path| fs::open_executable(thread, FdNumber::WORKING_DIRECTORY, path, 0))
}

fn load_program(
    thread: &Thread,
    program: &Program,
    file: Arc<OpenFile>,
    path: &[u8],
) -> Result<(Loaded, Option<Context>), StartError> {
    let mut environment = program.environment.clone();
    home::provide(&thread.kernel.vfs, program.uid, &mut environment);
    exec::load(thread, file, path, program.arguments.clone(), environment)
        .map_err(|errno| StartError::NotLoaded(text(path), describe(errno)))
}

/// PATH of an environment; the last one counts, as it does for runc.
fn search_path(environment: &[Vec<u8>]) -> &[u8] {
    environment.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or_default()
}

/// Opens a program by name: as it is when it has a slash, else the first of the search path that can be run.
fn find<T>(name: &[u8], search: &[u8], open: impl Fn(&[u8]) -> Result<T, Errno>) -> Result<(T, Vec<u8>), StartError> {
    if name.is_empty() {
        return Err(StartError::NotInPath(String::new()));
    }
    if name.contains(&b'/') {
        return match open(name) {
            Ok(file) => Ok((file, name.to_vec())),
            Err(Errno::EACCES | Errno::EPERM) => Err(StartError::Denied(text(name))),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Err(StartError::Missing(text(name))),
            Err(errno) => Err(StartError::NotLoaded(text(name), describe(errno))),
        };
    }
    for directory in search.split(|byte| *byte == b':').filter(|_| !search.is_empty()) {
        let directory = if directory.is_empty() { b"." } else { directory };
        let path = [directory, b"/", name].concat();
        if let Ok(file) = open(&path) {
            return Ok((file, path));
        }
    }
    Err(StartError::NotInPath(text(name)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// strerror(3), for the errors that running a program can have.
fn describe(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "no such file or directory",
        Errno::EACCES => "permission denied",
        Errno::EPERM => "operation not permitted",
        Errno::ENOTDIR => "not a directory",
        Errno::EISDIR => "is a directory",
        Errno::ENOEXEC => "exec format error",
        Errno::ELOOP => "too many levels of symbolic links",
        Errno::ENAMETOOLONG => "file name too long",
        Errno::ENOMEM => "cannot allocate memory",
        Errno::E2BIG => "argument list too long",
        Errno::ETXTBSY => "text file busy",
        Errno::ELIBBAD => "accessing a corrupted shared library",
        Errno::EROFS => "read-only file system",
        Errno::ENOSPC => "no space left on device",
        Errno::EINVAL => "invalid argument",
        _ => "input/output error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(path: &[u8]) -> Result<&'static str, Errno> {
        match path {
            b"/usr/bin/foo" => Ok("usr"),
            b"/bin/foo" => Ok("bin"),
            b"/bin/locked" => Err(Errno::EACCES),
            b"./here" => Ok("here"),
            _ => Err(Errno::ENOENT),
        }
    }

    #[test]
    fn the_first_match_in_the_path_is_run() {
        let found = find(b"foo", b"/sbin:/usr/bin:/bin", container).map(|found| found.1);
        assert_eq!(found.ok(), Some(b"/usr/bin/foo".to_vec()));
        assert_eq!(find(b"here", b"/bin::/sbin", container).map(|found| found.0).ok(), Some("here"));
    }

    #[test]
    fn a_missing_program_is_told_in_the_words_of_runc() {
        let message = |name: &[u8]| find(name, b"/bin", container).err().map(|error| error.to_string());
        assert_eq!(message(b"nope").as_deref(), Some("exec: \"nope\": executable file not found in $PATH"));
        assert_eq!(message(b"locked").as_deref(), Some("exec: \"locked\": executable file not found in $PATH"));
        assert_eq!(message(b"/nope").as_deref(), Some("exec: \"/nope\": stat /nope: no such file or directory"));
        assert_eq!(message(b"/bin/locked").as_deref(), Some("exec: \"/bin/locked\": permission denied"));
        assert!(find(b"foo", b"", container).is_err());
    }

    #[test]
    fn the_last_path_variable_counts() {
        let environment = [b"PATH=/a".to_vec(), b"HOME=/".to_vec(), b"PATH=/b".to_vec()];
        assert_eq!(search_path(&environment), b"/b");
        assert_eq!(search_path(&[]), b"");
    }
}
