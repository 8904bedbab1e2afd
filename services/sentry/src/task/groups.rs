//! Process groups and sessions (setpgid(2), setsid(2)).

use std::sync::atomic::Ordering;

use bulkhead_ipc::Errno;

use super::PidTable;

impl PidTable {
    /// setpgid(2): `caller` moves itself or a child into a group of its session, or makes it the leader of a new one.
    pub fn set_group(&self, caller: i32, pid: i32, group: i32) -> Result<(), Errno> {
        let pid = if pid == 0 { caller } else { pid };
        let group = if group == 0 { pid } else { group };
        if group < 0 {
            return Err(Errno::EINVAL);
        }
        self.with(|table| {
            let session = table.get(caller).ok_or(Errno::ESRCH)?.relations.session;
            let Some(member) = table.get(pid) else {
                // A thread that is not a leader is no process.
                return Err(if table.has_task(pid) { Errno::EINVAL } else { Errno::ESRCH });
            };
            if member.relations.parent == caller {
                if member.relations.session != session {
                    return Err(Errno::EPERM);
                }
                if member.process.has_executed.load(Ordering::Relaxed) {
                    return Err(Errno::EACCES);
                }
            } else if pid != caller {
                return Err(Errno::ESRCH);
            }
            if member.relations.session == pid {
                return Err(Errno::EPERM);
            }
            let exists = || table.members().any(|m| m.relations.group == group && m.relations.session == session);
            if group != pid && !exists() {
                return Err(Errno::EPERM);
            }
            if let Some(member) = table.get_mut(pid) {
                member.relations.group = group;
            }
            Ok(())
        })
    }

    /// setsid(2): a new session and group with the caller alone in them.
    pub fn new_session(&self, caller: i32) -> Result<i32, Errno> {
        self.with(|table| {
            let leads = |m: &super::pids::Member| m.relations.group == caller || m.relations.session == caller;
            if table.members().any(leads) {
                return Err(Errno::EPERM);
            }
            let member = table.get_mut(caller).ok_or(Errno::ESRCH)?;
            (member.relations.group, member.relations.session) = (caller, caller);
            Ok(caller)
        })
    }

    /// The group and session of a process; a thread's number stands for its process, as for getpgid(2).
    pub fn group_and_session(&self, pid: i32) -> Result<(i32, i32), Errno> {
        let pid = self.task(pid).map_or(pid, |task| task.process.pid);
        self.relations(pid).map(|relations| (relations.group, relations.session)).ok_or(Errno::ESRCH)
    }
}
