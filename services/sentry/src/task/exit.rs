//! The end of threads and processes.
//!
//! A thread ends in its own future, after the guest has stopped. The last thread of a process makes it a zombie (or lets it
//! vanish, when its parent does not want to know), gives its children to the nearest reaper and tells the parent. When init
//! ends, everything does.

use std::sync::{Arc, atomic::Ordering};

use super::{Ended, Process, Task, Thread, pids::Table};
use crate::{
    abi::UserAddress,
    executor::{self, Readiness},
    fs::{self, FdTable},
    kernel::Kernel,
    memory::AddressSpace,
    signal::{SignalInfo, actions},
};

/// pid 1 of the container.
pub(crate) const INIT: i32 = 1;
/// How long init's end waits for the other processes to go.
const LAST_ORDERS: u64 = 10_000_000_000;

/// Ends the thread, and with the last one its process.
pub(super) async fn exit(thread: Thread) {
    let task = thread.task.clone();
    let (process, kernel) = (task.process.clone(), task.kernel.clone());
    if task.tid() == process.pid {
        process.leader_status.store(own_status(&thread), Ordering::Relaxed);
    }
    leave_memory(&task);
    leave_files(&task);

    if process.thread_count() == 1 {
        process.peak_resident.fetch_max(task.memory().peak_resident(), Ordering::Relaxed);
    }
    let left = process.retire(&task);
    task.hand_over_signals();
    process.thread_gone_while_stopping();
    let tid = task.tid();
    let credentials = task.credentials();
    let heirs = kernel.pids.with(|table| {
        table.remove_task(tid);
        if left == 0 { Vec::new() } else { pass_children_on(table, &process, tid) }
    });
    // The memory and the host thread go before anybody hears of the end.
    drop(thread);
    drop(task);
    for (child, signal) in heirs {
        child.send_signal(SignalInfo::user(signal, process.pid, credentials.uid));
    }
    if left > 0 {
        process.exit_events.wake(Readiness::IN | Readiness::HUP);
        return;
    }

    process.timers.stop();
    fs::locks::process_ended(&kernel.vfs, process.pid);
    *process.executable.write() = None;
    let terminal = crate::tty::job::process_ends(&process);
    let status = process.signals.exit_status().unwrap_or_else(|| process.leader_status.load(Ordering::Relaxed));
    if process.pid == INIT {
        close_container(&kernel, status).await;
    } else {
        bury(&kernel, &process, tid, status, credentials.uid);
        let on_end = process.on_end.lock().take();
        if let Some(on_end) = on_end {
            if let Some(terminal) = terminal {
                terminal.drain().await;
            }
            on_end(status);
        }
    }
}

/// The wait status of a process whose leader ends by exit(2).
fn own_status(leader: &Thread) -> i32 {
    (leader.exit_code & 0xff) << 8
}

/// The wait status of the process if this is its last thread, which has not ended yet.
pub(super) fn status(last: &Thread) -> i32 {
    let process = &last.process;
    let by_threads = || {
        if last.tid() == process.pid { own_status(last) } else { process.leader_status.load(Ordering::Relaxed) }
    };
    process.signals.exit_status().unwrap_or_else(by_threads)
}

/// What the guest asked to be told in its memory: robust futexes, the cleared tid; and the end of a vfork's loan.
pub(super) fn leave_memory(task: &Task) {
    let memory = task.memory();
    walk_robust_list(task, &memory);
    let address = UserAddress(task.clear_child_tid.swap(0, Ordering::Relaxed));
    // Nobody else can look when it is the last user of this memory (one reference is ours, one the task's).
    if !address.is_null() && Arc::strong_count(&memory) > 2 && memory.write_value(address, &0u32).is_ok() {
        let _ = task.kernel.futexes.wake(&memory, address, 1);
    }
    task.release_vfork();
}

/// FUTEX_OWNER_DIED for what the thread still holds (set_robust_list(2)). The list is the guest's: every step is checked, and
/// there are only so many.
fn walk_robust_list(task: &Task, memory: &AddressSpace) {
    const MOST: usize = 2048;
    let head = task.robust_list.swap(0, Ordering::Relaxed);
    if head == 0 {
        return;
    }
    let word = |address: u64| memory.read_value::<u64>(UserAddress(address));
    let (Ok(mut entry), Ok(offset), Ok(pending)) = (word(head), word(head.wrapping_add(8)), word(head.wrapping_add(16))) else {
        return;
    };
    let tid = task.tid();
    let died = |entry: u64| {
        let (address, pi) = ((entry & !1).wrapping_add(offset), entry & 1 != 0);
        let _ = task.kernel.futexes.owner_died(memory, UserAddress(address), tid, pi);
    };
    for _ in 0..MOST {
        if entry & !1 == head {
            break;
        }
        let next = word(entry & !1);
        if entry != pending {
            died(entry);
        }
        match next {
            Ok(next) => entry = next,
            Err(_) => break,
        }
    }
    if pending & !1 != 0 {
        died(pending);
    }
}

/// Gives up the fd table; closes all of it when nobody else uses it.
fn leave_files(task: &Task) {
    let files = std::mem::replace(&mut *task.files.write(), FdTable::new());
    if Arc::strong_count(&files) == 1 {
        for file in files.take_all() {
            fs::close(task, file);
        }
    }
}

impl Task {
    /// The parent of a vfork(2) goes on: this task no longer uses its memory.
    pub(super) fn release_vfork(&self) {
        if let Some(completion) = self.vfork.lock().take() {
            completion.complete();
        }
    }
}

/// Children that this thread made are another thread's of the process from now on. Returns who is to get which PR_SET_PDEATHSIG
/// signal.
fn pass_children_on(table: &mut Table, process: &Process, tid: i32) -> Vec<(Arc<Process>, i32)> {
    let Some(other) = process.leader().map(|task| task.tid()) else { return Vec::new() };
    let children = table.get(process.pid).map_or_else(Vec::new, |member| member.children.clone());
    let mut signals = Vec::new();
    for child in children {
        if let Some(member) = table.get_mut(child)
            && member.parent_tid == tid
        {
            member.parent_tid = other;
            signals.extend(death_signal(&member.process));
        }
    }
    signals
}

fn death_signal(child: &Arc<Process>) -> Option<(Arc<Process>, i32)> {
    let signal = child.with_threads(|threads| {
        threads.iter().map(|task| task.parent_death_signal.load(Ordering::Relaxed)).find(|signal| *signal != 0)
    })?;
    Some((child.clone(), signal))
}

/// A process without threads: its children get a new parent, it becomes a zombie or vanishes, and its parent is told.
fn bury(kernel: &Arc<Kernel>, process: &Arc<Process>, tid: i32, status: i32, uid: u32) {
    let own = process.cpu_times();
    let ended = Ended {
        status,
        uid,
        own,
        with_children: own + process.children_cpu_times(),
        peak_resident: process.peak_resident.load(Ordering::Relaxed).max(process.children_peak_resident.load(Ordering::Relaxed)),
    };
    let mut letters = Vec::new();
    let mut woken = Vec::new();
    kernel.pids.with(|table| {
        leave_children(table, process, tid, &mut letters, &mut woken);
        orphan_own_group(table, process.pid, &mut letters);
        if let Some(member) = table.get_mut(process.pid) {
            member.ended = Some(ended);
            member.relations.zombie = true;
        }
        announce(table, process.pid, &mut letters, &mut woken);
    });
    for (to, info) in letters {
        to.send_signal(info);
    }
    process.exit_events.wake(Readiness::IN | Readiness::HUP);
    for parent in woken {
        parent.child_events.wake(Readiness::IN);
    }
    kernel.pids.changes.wake(Readiness::IN);
}

type Letters = Vec<(Arc<Process>, SignalInfo)>;

/// Children go to the nearest ancestor that asked for it (PR_SET_CHILD_SUBREAPER), or to init.
fn leave_children(table: &mut Table, process: &Arc<Process>, tid: i32, letters: &mut Letters, woken: &mut Vec<Arc<Process>>) {
    let children = table.get(process.pid).map_or_else(Vec::new, |member| member.children.clone());
    if children.is_empty() {
        return;
    }
    let reaper = find_reaper(table, process.pid);
    let reaper_tid = table.get(reaper).and_then(|member| member.process.leader()).map_or(reaper, |task| task.tid());
    let my_group = table.get(process.pid).map(|member| (member.relations.group, member.relations.session));
    for child in children {
        let Some(member) = table.get(child) else { continue };
        let (relations, child_process, zombie) = (member.relations, member.process.clone(), member.ended.is_some());
        if member.parent_tid == tid
            && let Some((to, signal)) = death_signal(&child_process)
        {
            letters.push((to, SignalInfo::user(signal, process.pid, 0)));
        }
        table.reparent(child, reaper, reaper_tid);
        child_process.exit_signal.store(libc::SIGCHLD, Ordering::Relaxed);
        if zombie {
            announce(table, child, letters, woken);
        }
        // A stopped group that loses its last link to its session's shell would stay stopped for ever.
        if my_group.is_some_and(|(group, session)| group != relations.group && session == relations.session) {
            wake_orphans(table, relations.group, 0, letters);
        }
    }
}

fn find_reaper(table: &Table, pid: i32) -> i32 {
    let mut at = table.get(pid).map_or(INIT, |member| member.relations.parent);
    while let Some(member) = table.get(at) {
        if at == INIT || member.process.child_subreaper.load(Ordering::Relaxed) && member.process.thread_count() > 0 {
            return at;
        }
        at = member.relations.parent;
    }
    INIT
}

/// The own group may lose its link by this exit.
fn orphan_own_group(table: &Table, pid: i32, letters: &mut Letters) {
    let Some(member) = table.get(pid) else { return };
    let relations = member.relations;
    let linked = table
        .get(relations.parent)
        .is_some_and(|parent| parent.relations.group != relations.group && parent.relations.session == relations.session);
    if linked {
        wake_orphans(table, relations.group, pid, letters);
    }
}

/// SIGHUP and SIGCONT for an orphaned group that has stopped members.
fn wake_orphans(table: &Table, group: i32, except: i32, letters: &mut Letters) {
    if !table.is_orphaned(group, except) {
        return;
    }
    let members: Vec<_> = table.members().filter(|m| m.relations.group == group && m.ended.is_none()).collect();
    if members.iter().any(|member| member.process.is_stopped()) {
        for member in members {
            letters.push((member.process.clone(), SignalInfo::kernel(libc::SIGHUP)));
            letters.push((member.process.clone(), SignalInfo::kernel(libc::SIGCONT)));
        }
    }
}

/// Tells the parent of a zombie; takes the zombie away when the parent ignores SIGCHLD.
fn announce(table: &mut Table, pid: i32, letters: &mut Letters, woken: &mut Vec<Arc<Process>>) {
    let Some(member) = table.get(pid) else { return };
    let Some(ended) = member.ended else { return };
    let signal = member.process.exit_signal.load(Ordering::Relaxed);
    let Some(parent) = table.get(member.relations.parent).map(|parent| parent.process.clone()) else {
        table.remove_process(pid);
        return;
    };
    let action = parent.signals.actions().get(libc::SIGCHLD);
    let ignores = action.handler == actions::IGNORE;
    let unwanted = signal == libc::SIGCHLD && (ignores || action.flags.contains(actions::ActionFlags::NOCLDWAIT));
    if (1..=64).contains(&signal) && !(signal == libc::SIGCHLD && ignores) {
        letters.push((parent.clone(), SignalInfo { signal, ..child_info(pid, &ended) }));
    }
    woken.push(parent);
    if unwanted || table.is_closing() {
        table.remove_process(pid);
    }
}

/// siginfo of SIGCHLD for a process that has ended.
pub(super) fn child_info(pid: i32, ended: &Ended) -> SignalInfo {
    let (code, status) = super::wait::exit_code(ended.status);
    SignalInfo::child(code, pid, ended.uid, status, ticks(ended.own.user), ticks(ended.own.system))
}

/// USER_HZ.
pub(crate) fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds / 10_000_000
}

/// Init has ended: nothing goes on without it.
async fn close_container(kernel: &Arc<Kernel>, status: i32) {
    let others = kernel.pids.with(|table| {
        table.close();
        table.members().map(|member| member.process.clone()).filter(|p| p.pid != INIT).collect::<Vec<_>>()
    });
    for process in others {
        process.begin_exit(libc::SIGKILL);
    }
    let gone = executor::wait_for(&kernel.pids.changes, Readiness::IN, || (kernel.pids.task_count() == 0).then_some(()));
    if !before(executor::now().saturating_add(LAST_ORDERS), gone).await {
        tracing::warn!(threads = kernel.pids.task_count(), "threads are left though init has ended and all were killed");
    }
    crate::tty::console::drain(kernel).await;
    kernel.tracer.finish().await;
    (kernel.on_exit)(status);
}

/// Whether `future` completes before the deadline.
async fn before(deadline: u64, future: impl Future<Output = ()>) -> bool {
    let (mut future, mut timeout) = (std::pin::pin!(future), std::pin::pin!(executor::sleep_until(deadline)));
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(()) => std::task::Poll::Ready(true),
        std::task::Poll::Pending => timeout.as_mut().poll(cx).map(|()| false),
    })
    .await
}

impl Process {
    /// Takes an ending thread out of the group and keeps its CPU time; how many are left.
    fn retire(&self, task: &Arc<Task>) -> usize {
        let mut ended = self.ended_threads.lock();
        let left = self.remove_thread(task);
        *ended = *ended + task.cpu_times();
        left
    }

    /// Tells the parent that this process stopped or goes on (`code` is CLD_*): SIGCHLD unless it has SA_NOCLDSTOP, and whoever
    /// waits is woken. Takes the pid table.
    pub(crate) fn notify_parent(&self, code: i32, status: i32) {
        let Some(parent) = self.kernel.pids.parent(self.pid) else { return };
        let action = parent.signals.actions().get(libc::SIGCHLD);
        if action.handler != actions::IGNORE && !action.flags.contains(actions::ActionFlags::NOCLDSTOP) {
            let times = self.cpu_times();
            let uid = self.leader().map_or(0, |task| task.credentials().uid);
            parent.send_signal(SignalInfo::child(code, self.pid, uid, status, ticks(times.user), ticks(times.system)));
        }
        parent.child_events.wake(Readiness::IN);
    }
}
