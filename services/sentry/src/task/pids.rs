//! Processes, threads, groups and sessions by number, and how they are related.

use std::{collections::BTreeMap, sync::Arc};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{CpuTimes, Process, Task, exit::INIT};
use crate::executor::WaitQueue;

/// Numbers of threads and processes are below this (/proc/sys/kernel/pid_max).
pub const PID_MAX: i32 = 32768;
/// Where numbers go on after [`PID_MAX`] was reached.
const AFTER_WRAP: i32 = 300;

/// Processes, groups and sessions by number.
#[derive(Default)]
pub struct PidTable {
    /// Woken (IN) when a process has ended.
    pub(super) changes: Arc<WaitQueue>,
    table: Mutex<Table>,
}

/// What a process is to others, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relations {
    /// Parent's pid; 0 for init and for processes that `exec` made.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// Whether it has ended and waits to be waited for.
    pub zombie: bool,
}

pub(super) struct Table {
    tasks: BTreeMap<i32, Arc<Task>>,
    processes: BTreeMap<i32, Member>,
    last: i32,
    /// Threads at most.
    limit: usize,
    /// Init has ended: nobody is born any more, and nobody stays as a zombie.
    closing: bool,
}

impl Default for Table {
    /// Empty. Init's number is given to nobody else.
    fn default() -> Self {
        Table { tasks: BTreeMap::new(), processes: BTreeMap::new(), last: INIT, limit: usize::MAX, closing: false }
    }
}

/// A process in the tree.
pub(super) struct Member {
    pub process: Arc<Process>,
    pub relations: Relations,
    /// The thread of the parent that made it (__WNOTHREAD, PR_SET_PDEATHSIG).
    pub parent_tid: i32,
    pub children: Vec<i32>,
    /// Of a zombie.
    pub ended: Option<Ended>,
}

/// What is left of a process that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Wait status.
    pub status: i32,
    /// Real user id, for siginfo.
    pub uid: u32,
    /// Own CPU time.
    pub own: CpuTimes,
    /// CPU time with that of its children.
    pub with_children: CpuTimes,
    /// Largest resident size in bytes, its children's included.
    pub peak_resident: u64,
}

impl Table {
    /// Chooses a free number: no thread, process, group or session has it. EAGAIN when there are as many threads as may be.
    pub fn allocate(&mut self) -> Result<i32, Errno> {
        if self.closing {
            return Err(Errno::ENOMEM);
        }
        if self.tasks.len() >= self.limit {
            return Err(Errno::EAGAIN);
        }
        for _ in 0..PID_MAX {
            self.last = if self.last + 1 >= PID_MAX { AFTER_WRAP } else { self.last + 1 };
            if !self.in_use(self.last) {
                return Ok(self.last);
            }
        }
        Err(Errno::EAGAIN)
    }
    fn in_use(&self, number: i32) -> bool {
        self.tasks.contains_key(&number)
            || self.processes.contains_key(&number)
            // Groups and sessions outlive their leader.
            || self.processes.values().any(|m| m.relations.group == number || m.relations.session == number)
    }
    /// No more processes (init has ended).
    pub fn close(&mut self) {
        self.closing = true;
    }
    /// Whether init has ended.
    pub fn is_closing(&self) -> bool {
        self.closing
    }
    pub fn insert_task(&mut self, task: Arc<Task>) {
        self.tasks.insert(task.tid(), task);
    }
    pub fn remove_task(&mut self, tid: i32) -> Option<Arc<Task>> {
        self.tasks.remove(&tid)
    }
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }
    pub fn has_task(&self, tid: i32) -> bool {
        self.tasks.contains_key(&tid)
    }
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }
    /// Puts a process under its parent.
    pub fn insert_process(&mut self, member: Member) {
        let pid = member.process.pid;
        if let Some(parent) = self.processes.get_mut(&member.relations.parent) {
            parent.children.push(pid);
        }
        self.processes.insert(pid, member);
    }
    /// Takes a process out of the tree.
    pub fn remove_process(&mut self, pid: i32) -> Option<Member> {
        let member = self.processes.remove(&pid)?;
        if let Some(parent) = self.processes.get_mut(&member.relations.parent) {
            parent.children.retain(|child| *child != pid);
        }
        Some(member)
    }
    pub fn get(&self, pid: i32) -> Option<&Member> {
        self.processes.get(&pid)
    }
    pub fn get_mut(&mut self, pid: i32) -> Option<&mut Member> {
        self.processes.get_mut(&pid)
    }
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.processes.values()
    }
    /// Gives a child to another parent.
    pub fn reparent(&mut self, pid: i32, parent: i32, parent_tid: i32) {
        let Some(member) = self.processes.get_mut(&pid) else { return };
        let old = std::mem::replace(&mut member.relations.parent, parent);
        member.parent_tid = parent_tid;
        if let Some(old) = self.processes.get_mut(&old) {
            old.children.retain(|child| *child != pid);
        }
        if let Some(new) = self.processes.get_mut(&parent) {
            new.children.push(pid);
        }
    }
    /// Whether a process group is orphaned: no living member has a parent in another group of the same session. `except` is a
    /// process that is about to exit and does not count.
    pub fn is_orphaned(&self, group: i32, except: i32) -> bool {
        !self.members().any(|member| {
            member.relations.group == group
                && member.process.pid != except
                && !member.relations.zombie
                && self
                    .get(member.relations.parent)
                    .is_some_and(|parent| parent.relations.group != group && parent.relations.session == member.relations.session)
        })
    }
}

impl PidTable {
    /// Puts the table to use by `f`, which must not call into the table nor wait.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Table) -> T) -> T {
        f(&mut self.table.lock())
    }
    /// The thread with this number.
    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.table.lock().tasks.get(&tid).cloned()
    }
    /// The process with this number, also when it is a zombie.
    pub fn process(&self, pid: i32) -> Option<Arc<Process>> {
        self.table.lock().get(pid).map(|member| member.process.clone())
    }
    /// Every process, zombies included, ascending by number.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.table.lock().members().map(|member| member.process.clone()).collect()
    }
    /// The members of a process group, zombies included (kill(2) succeeds on them); empty when there is no such group.
    pub fn group(&self, group: i32) -> Vec<Arc<Process>> {
        self.select(|relations| relations.group == group)
    }
    /// The members of a process group as far as they are in this session.
    pub fn group_in_session(&self, group: i32, session: i32) -> Vec<Arc<Process>> {
        self.select(|relations| relations.group == group && relations.session == session)
    }
    /// The members of a session.
    pub fn session(&self, session: i32) -> Vec<Arc<Process>> {
        self.select(|relations| relations.session == session)
    }
    /// Parent, group, session of a process.
    pub fn relations(&self, pid: i32) -> Option<Relations> {
        self.table.lock().get(pid).map(|member| member.relations)
    }
    /// Pids of the children of a process.
    pub fn children(&self, pid: i32) -> Vec<i32> {
        self.table.lock().get(pid).map_or_else(Vec::new, |member| member.children.clone())
    }
    /// What is left of a zombie.
    pub fn ended(&self, pid: i32) -> Option<Ended> {
        self.table.lock().get(pid).and_then(|member| member.ended)
    }
    /// The parent of a process; `None` for those that came from outside.
    pub fn parent(&self, pid: i32) -> Option<Arc<Process>> {
        let table = self.table.lock();
        table.get(pid).and_then(|member| table.get(member.relations.parent)).map(|member| member.process.clone())
    }
    /// Whether a process group is orphaned (setpgid(2)): the terminal and the stop signals ask.
    pub fn is_orphaned(&self, group: i32) -> bool {
        self.table.lock().is_orphaned(group, 0)
    }
    /// Lets there be so many threads at most from now on.
    pub fn set_limit(&self, threads: Option<u64>) {
        self.table.lock().limit = threads.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    }
    /// Number of threads there are.
    pub fn task_count(&self) -> usize {
        self.table.lock().task_count()
    }
    /// The number given out last (/proc/loadavg).
    pub fn last(&self) -> i32 {
        self.table.lock().last
    }

    fn select(&self, choose: impl Fn(&Relations) -> bool) -> Vec<Arc<Process>> {
        self.table.lock().members().filter(|member| choose(&member.relations)).map(|m| m.process.clone()).collect()
    }
}
