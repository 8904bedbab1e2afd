//! Waiting for children (wait(2)).

use std::sync::{Arc, atomic::Ordering};

use bulkhead_ipc::Errno;

use super::{
    CpuTimes, Process, Task,
    pids::{Member, Table},
};
use crate::executor::{self, Readiness};

bitflags::bitflags! {
    /// Options of wait4(2) and waitid(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct WaitOptions: u32 {
        const NOHANG = 1;
        /// WSTOPPED too.
        const UNTRACED = 2;
        const EXITED = 4;
        const CONTINUED = 8;
        const NOWAIT = 0x0100_0000;
        const NOTHREAD = 0x2000_0000;
        const ALL = 0x4000_0000;
        const CLONE = 0x8000_0000;
    }
}

/// Which children.
#[derive(Clone)]
pub enum Which {
    /// Any.
    Any,
    /// The one with this pid.
    Pid(i32),
    /// Those in this group.
    Group(i32),
    /// This one.
    Process(Arc<Process>),
}

impl Which {
    fn matches(&self, member: &Member) -> bool {
        match self {
            Which::Any => true,
            Which::Pid(pid) => member.process.pid == *pid,
            Which::Group(group) => member.relations.group == *group,
            Which::Process(process) => Arc::ptr_eq(&member.process, process),
        }
    }
}

/// What was waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waited {
    /// The child.
    pub pid: i32,
    /// Its real user id.
    pub uid: u32,
    /// As wait4(2) gives it.
    pub status: i32,
    /// Its CPU time, that of its waited-for children included.
    pub times: CpuTimes,
    /// Bytes.
    pub peak_resident: u64,
}

/// (CLD_*, si_status) for a wait status.
pub fn exit_code(status: i32) -> (i32, i32) {
    if status == 0xffff {
        (libc::CLD_CONTINUED, libc::SIGCONT)
    } else if status & 0xff == 0x7f {
        (libc::CLD_STOPPED, status >> 8 & 0xff)
    } else if status & 0x7f == 0 {
        (libc::CLD_EXITED, status >> 8 & 0xff)
    } else if status & 0x80 != 0 {
        (libc::CLD_DUMPED, status & 0x7f)
    } else {
        (libc::CLD_KILLED, status & 0x7f)
    }
}

/// Waits for a child to change state as `options` ask. `Ok(None)` with NOHANG when none has. ECHILD when there is no such child.
pub async fn wait(task: &Task, which: Which, options: WaitOptions) -> Result<Option<Waited>, Errno> {
    // The common case first: there is something, or one does not wait.
    match look(task, &which, options) {
        Ok(None) if !options.contains(WaitOptions::NOHANG) => {}
        result => return result,
    }
    let queue = task.process.child_events.clone();
    let found = executor::wait_for(&queue, Readiness::IN, || look(task, &which, options).transpose());
    task.interruptible(found).await?.map(Some)
}

/// Looks through the children once.
fn look(task: &Task, which: &Which, options: WaitOptions) -> Result<Option<Waited>, Errno> {
    let consume = !options.contains(WaitOptions::NOWAIT);
    let mut exists = false;
    let found = task.kernel.pids.with(|table| {
        let me = table.get(task.process.pid)?;
        for child in &me.children {
            let Some(member) = table.get(*child) else { continue };
            if !which.matches(member) || !is_eligible(member, task, options) {
                continue;
            }
            exists = true;
            if let Some(ended) = member.ended {
                if options.contains(WaitOptions::EXITED) {
                    let waited = Waited {
                        pid: *child,
                        uid: ended.uid,
                        status: ended.status,
                        times: ended.with_children,
                        peak_resident: ended.peak_resident,
                    };
                    if consume {
                        reap(table, task, &waited);
                    }
                    return Some(waited);
                }
                continue;
            }
            let status = if options.contains(WaitOptions::UNTRACED)
                && let Some(signal) = member.process.signals.stop_report(consume)
            {
                signal << 8 | 0x7f
            } else if options.contains(WaitOptions::CONTINUED) && member.process.signals.continue_report(consume) {
                0xffff
            } else {
                continue;
            };
            return Some(Waited {
                pid: *child,
                uid: member.process.leader().map_or(0, |task| task.credentials.read().uid),
                status,
                times: member.process.cpu_times() + member.process.children_cpu_times(),
                peak_resident: member.process.peak_resident.load(Ordering::Relaxed),
            });
        }
        None
    });
    if found.is_none() && !exists { Err(Errno::ECHILD) } else { Ok(found) }
}

fn is_eligible(member: &Member, task: &Task, options: WaitOptions) -> bool {
    if options.contains(WaitOptions::NOTHREAD) && member.parent_tid != task.tid() {
        return false;
    }
    let is_clone = member.process.exit_signal.load(Ordering::Relaxed) != libc::SIGCHLD;
    options.contains(WaitOptions::ALL) || is_clone == options.contains(WaitOptions::CLONE)
}

/// The zombie goes; its parent keeps its CPU time.
fn reap(table: &mut Table, task: &Task, waited: &Waited) {
    table.remove_process(waited.pid);
    let process = &task.process;
    let mut children = process.waited_children.lock();
    *children = *children + waited.times;
    process.children_peak_resident.fetch_max(waited.peak_resident, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_says_how_a_child_ended() {
        assert_eq!(exit_code(7 << 8), (libc::CLD_EXITED, 7));
        assert_eq!(exit_code(libc::SIGTERM), (libc::CLD_KILLED, libc::SIGTERM));
        assert_eq!(exit_code(libc::SIGSEGV | 0x80), (libc::CLD_DUMPED, libc::SIGSEGV));
        assert_eq!(exit_code(libc::SIGTSTP << 8 | 0x7f), (libc::CLD_STOPPED, libc::SIGTSTP));
        assert_eq!(exit_code(0xffff), (libc::CLD_CONTINUED, libc::SIGCONT));
    }
}
