//! Making threads and processes (clone(2)).

use std::sync::{
    Arc,
    atomic::{AtomicI32, AtomicU64, Ordering},
};

use bulkhead_ipc::Errno;
use parking_lot::{Mutex, RwLock};

use super::{
    Credentials, PidFd, Process, Scheduling, Task, TaskCpu, Thread, capability,
    pids::{Member, Relations, Table},
    process::Completion,
};
use crate::{
    abi::UserAddress,
    executor::{self, Executor},
    fs::OpenFile,
    memory::AddressSpace,
    platform::Registers,
    signal::ProcessSignals,
};

bitflags::bitflags! {
    /// CLONE_*.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct CloneFlags: u64 {
        const NEWTIME = 0x80;
        const VM = 0x100;
        const FS = 0x200;
        const FILES = 0x400;
        const SIGHAND = 0x800;
        const PIDFD = 0x1000;
        const PTRACE = 0x2000;
        const VFORK = 0x4000;
        const PARENT = 0x8000;
        const THREAD = 0x1_0000;
        const NEWNS = 0x2_0000;
        const SYSVSEM = 0x4_0000;
        const SETTLS = 0x8_0000;
        const PARENT_SETTID = 0x10_0000;
        const CHILD_CLEARTID = 0x20_0000;
        const DETACHED = 0x40_0000;
        const UNTRACED = 0x80_0000;
        const CHILD_SETTID = 0x100_0000;
        const NEWCGROUP = 0x200_0000;
        const NEWUTS = 0x400_0000;
        const NEWIPC = 0x800_0000;
        const NEWUSER = 0x1000_0000;
        const NEWPID = 0x2000_0000;
        const NEWNET = 0x4000_0000;
        const IO = 0x8000_0000;
        const CLEAR_SIGHAND = 0x1_0000_0000;
        const INTO_CGROUP = 0x2_0000_0000;

        /// New namespaces but a user namespace.
        const NAMESPACES = Self::NEWTIME.bits() | Self::NEWNS.bits() | Self::NEWCGROUP.bits() | Self::NEWUTS.bits()
            | Self::NEWIPC.bits() | Self::NEWPID.bits() | Self::NEWNET.bits();
    }
}

/// What clone(2) and its kin ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest {
    /// CLONE_*, without the exit signal.
    pub flags: CloneFlags,
    /// What the parent gets when the child ends.
    pub exit_signal: i32,
    /// New stack pointer; 0 keeps.
    pub stack: u64,
    /// With CLONE_SETTLS.
    pub tls: u64,
    /// With CLONE_PARENT_SETTID.
    pub parent_tid: UserAddress,
    /// With CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID.
    pub child_tid: UserAddress,
    /// With CLONE_PIDFD.
    pub pidfd: UserAddress,
}

/// Checks the combination of flags as Linux does. `init` says that pid 1 asks.
fn check(flags: CloneFlags, init: bool, credentials: &Credentials) -> Result<(), Errno> {
    use CloneFlags as F;
    let both = |a: F, b: F| flags.contains(a) && flags.contains(b);
    let needs = |a: F, b: F| flags.contains(a) && !flags.contains(b);
    if both(F::NEWNS, F::FS)
        || both(F::NEWUSER, F::FS)
        || needs(F::THREAD, F::SIGHAND)
        || needs(F::SIGHAND, F::VM)
        || both(F::THREAD, F::NEWUSER)
        || both(F::THREAD, F::NEWPID)
        || flags.contains(F::PARENT) && init
        || both(F::SIGHAND, F::CLEAR_SIGHAND)
        || both(F::PIDFD, F::DETACHED)
        || both(F::PIDFD, F::THREAD)
        || flags.contains(F::INTO_CGROUP)
    {
        return Err(Errno::EINVAL);
    }
    if flags.contains(F::NEWUSER) || flags.intersects(F::NAMESPACES) && !credentials.has(capability::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if flags.intersects(F::NAMESPACES) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Makes the thread or process and starts it; its tid. With CLONE_VFORK waits until it has executed a program or ended.
pub(crate) async fn clone(thread: &mut Thread, request: CloneRequest) -> Result<i32, Errno> {
    let flags = request.flags;
    check(flags, thread.process.pid == 1, &thread.credentials())?;
    // A signal for the whole process that has arrived is taken first: it is meant for the child no more than once.
    if thread.has_pending_signal() {
        return Err(Errno::ERESTARTNOINTR);
    }
    let home = Executor::choose_home();
    let (child, completion) = make(thread, &request, home)?;
    let tid = child.tid();
    if thread.kernel.tracer.is_on() {
        thread.kernel.tracer.forked(thread.process.pid, child.process.pid);
    }
    super::run::spawn(child, home);
    if let Some(completion) = completion {
        // Only death ends this wait.
        let _ = thread.killable(completion.wait()).await;
    }
    Ok(tid)
}

/// Everything but starting it, on the worker where it is to live.
fn make(thread: &mut Thread, request: &CloneRequest, home: usize) -> Result<(Thread, Option<Arc<Completion>>), Errno> {
    use CloneFlags as F;
    let flags = request.flags;
    let mut registers = thread.registers;
    registers.rax = 0;
    if request.stack != 0 {
        registers.rsp = request.stack;
    }
    if flags.contains(F::SETTLS) {
        if request.tls >= thread.kernel.platform.guest_end() {
            return Err(Errno::EPERM);
        }
        registers.fs_base = request.tls;
    }

    let memory = if flags.contains(F::VM) { thread.memory() } else { copy_memory(thread, &registers)? };
    let mut context = memory.space().new_context(home)?;
    context.set_extended_state(thread.context.extended_state())?;
    let files = if flags.contains(F::FILES) { thread.files() } else { thread.files().fork() };
    let fs = if flags.contains(F::FS) { thread.fs() } else { thread.fs().fork() };
    let completion = flags.contains(F::VFORK).then(Arc::<Completion>::default);
    // When this fails, the table of files goes after the lock: the last close of a terminal sends signals.
    let _files = files.clone();

    let task = thread.kernel.pids.with(|table| {
        let tid = table.allocate()?;
        check_count(table, thread)?;
        let process = if flags.contains(F::THREAD) { thread.process.clone() } else { new_process(thread, request, tid) };
        let address = |flag, address: UserAddress| if flags.contains(flag) { address.0 } else { 0 };
        let task = Arc::new(Task {
            tid: AtomicI32::new(tid),
            process: process.clone(),
            kernel: thread.kernel.clone(),
            memory: RwLock::new(memory.clone()),
            files: RwLock::new(files),
            fs: RwLock::new(fs),
            credentials: RwLock::new(thread.credentials()),
            name: Mutex::new(thread.name.lock().clone()),
            signals: thread.signals.fork(flags.contains(F::VM) && !flags.contains(F::VFORK)),
            cpu: TaskCpu::default(),
            clear_child_tid: AtomicU64::new(address(F::CHILD_CLEARTID, request.child_tid)),
            robust_list: AtomicU64::new(0),
            parent_death_signal: AtomicI32::new(0),
            scheduling: Mutex::new(inherited(&thread.scheduling.lock())),
            personality: AtomicU64::new(thread.personality.load(Ordering::Relaxed)),
            started: executor::now(),
            vfork: Mutex::new(completion.clone()),
        });
        task.signals.attach(context.interrupter());
        let affinity = task.scheduling.lock().affinity;
        task.signals.set_affinity(affinity);
        if !process.add_thread(task.clone()) {
            return Err(Errno::ERESTARTNOINTR);
        }
        if !flags.contains(F::THREAD) {
            table.insert_process(membership(table, thread, &process, flags.contains(F::PARENT)));
        }
        table.insert_task(task.clone());
        Ok(task)
    })?;
    let tid = task.tid();
    let child = Thread { task, registers, context, call: None, exit_code: 0 };

    if flags.contains(F::PIDFD)
        && let Err(errno) = give_pidfd(thread, &child.process, request.pidfd)
    {
        abandon(child);
        return Err(errno);
    }
    // As under Linux, a bad address here does not make the call fail.
    if flags.contains(F::PARENT_SETTID) {
        let _ = thread.memory().write_value(request.parent_tid, &tid);
    }
    if flags.contains(F::CHILD_SETTID) {
        let _ = memory.write_value(request.child_tid, &tid);
    }
    Ok((child, completion))
}

/// The child's memory. A process with one thread writes to its stack and its thread's data at once, in both copies.
fn copy_memory(thread: &Thread, registers: &Registers) -> Result<Arc<AddressSpace>, Errno> {
    if thread.process.thread_count() == 1 {
        thread.memory().fork(&[registers.rsp, registers.fs_base])
    } else {
        thread.memory().fork(&[])
    }
}

/// RLIMIT_NPROC, which root and those who may exceed resources do not have.
fn check_count(table: &Table, thread: &Thread) -> Result<(), Errno> {
    let credentials = thread.credentials();
    let (limit, _) = thread.limit(libc::RLIMIT_NPROC);
    let exempt = credentials.uid == 0 || credentials.has(capability::SYS_RESOURCE) || credentials.has(capability::SYS_ADMIN);
    if exempt || limit == super::limits::INFINITY {
        return Ok(());
    }
    let count = table.tasks().filter(|task| task.credentials.read().uid == credentials.uid).count();
    if count as u64 >= limit { Err(Errno::EAGAIN) } else { Ok(()) }
}

fn new_process(thread: &Thread, request: &CloneRequest, pid: i32) -> Arc<Process> {
    let parent = &thread.process;
    let signals = if request.flags.contains(CloneFlags::CLEAR_SIGHAND) {
        ProcessSignals::new(Arc::new(parent.signals.actions().for_exec()), false)
    } else {
        parent.signals.fork(request.flags.contains(CloneFlags::SIGHAND))
    };
    let exit_signal =
        if request.flags.contains(CloneFlags::PARENT) { parent.exit_signal.load(Ordering::Relaxed) } else { request.exit_signal };
    let process = Process::new(&thread.kernel, pid, signals, *parent.limits.lock(), exit_signal);
    process.dumpable.store(parent.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    process.oom_score_adjust.store(parent.oom_score_adjust.load(Ordering::Relaxed), Ordering::Relaxed);
    *process.executable.write() = parent.executable.read().clone();
    *process.terminal.lock() = parent.terminal.lock().clone();
    let process = Arc::new(process);
    super::cpu_limit::watch(&process);
    process
}

/// Where the new process stands: in its parent's group and session, beneath it, or beside it (CLONE_PARENT).
fn membership(table: &Table, thread: &Thread, process: &Arc<Process>, beside: bool) -> Member {
    let creator = table.get(thread.process.pid);
    let (group, session) =
        creator.map_or((process.pid, process.pid), |member| (member.relations.group, member.relations.session));
    let (parent, parent_tid) = match creator {
        Some(member) if beside => (member.relations.parent, member.parent_tid),
        _ => (thread.process.pid, thread.tid()),
    };
    Member {
        process: process.clone(),
        relations: Relations { parent, group, session, zombie: false },
        parent_tid,
        children: Vec::new(),
        ended: None,
    }
}

fn inherited(scheduling: &Scheduling) -> Scheduling {
    let mut child = scheduling.clone();
    if scheduling.reset_on_fork {
        child.reset_on_fork = false;
        child.nice = child.nice.max(0);
        if matches!(child.policy, libc::SCHED_FIFO | libc::SCHED_RR) {
            (child.policy, child.priority) = (libc::SCHED_OTHER, 0);
        }
    }
    child
}

fn give_pidfd(thread: &Thread, process: &Arc<Process>, address: UserAddress) -> Result<(), Errno> {
    let file: Arc<OpenFile> = PidFd::open(process, false);
    let files = thread.files();
    let fd = files.install(file, true, 0, thread.limit(libc::RLIMIT_NOFILE).0)?;
    if let Err(errno) = thread.memory().write_value(address, &fd.0) {
        let _ = files.remove(fd);
        return Err(errno);
    }
    Ok(())
}

/// Takes back a process that has never run.
fn abandon(child: Thread) {
    let (pids, tid, pid) = (&child.kernel.pids, child.tid(), child.process.pid);
    child.process.remove_thread(&child.task);
    pids.with(|table| {
        table.remove_task(tid);
        table.remove_process(pid);
    });
}

#[cfg(test)]
mod tests {
    use super::{CloneFlags as F, *};

    fn ask(flags: F) -> Result<(), Errno> {
        check(flags, false, &Credentials::default())
    }

    #[test]
    fn flag_combinations_are_refused_as_linux_refuses_them() {
        assert_eq!(ask(F::empty()), Ok(()));
        assert_eq!(ask(F::VM | F::VFORK), Ok(()));
        assert_eq!(ask(F::VM | F::SIGHAND | F::THREAD | F::FS | F::FILES | F::SETTLS), Ok(()));
        for bad in [
            F::THREAD,
            F::THREAD | F::VM,
            F::SIGHAND,
            F::THREAD | F::SIGHAND,
            F::FS | F::NEWNS,
            F::VM | F::SIGHAND | F::CLEAR_SIGHAND,
            F::PIDFD | F::DETACHED,
        ] {
            assert_eq!(ask(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(check(F::PARENT, true, &Credentials::default()), Err(Errno::EINVAL));
    }

    #[test]
    fn namespaces_are_refused_without_the_capability_and_unknown_with_it() {
        assert_eq!(ask(F::NEWNET), Err(Errno::EPERM));
        assert_eq!(ask(F::NEWUSER), Err(Errno::EPERM));
        let mut root = Credentials::default();
        root.capabilities.effective = 1 << capability::SYS_ADMIN;
        assert_eq!(check(F::NEWNET, false, &root), Err(Errno::EINVAL));
    }
}
