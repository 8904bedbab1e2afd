//! Job control: which terminal controls which session, which group is in its foreground, and who is told what.
//!
//! A process points to its controlling terminal, and the terminal names its session and foreground group by number. Numbers may
//! have gone to others meanwhile, so a group is signalled only as far as it is in the terminal's session.

use std::sync::{Arc, atomic::Ordering};

use bulkhead_ipc::Errno;

use super::pty::{Foreground, Pty};
use crate::{
    kernel::Kernel,
    signal::{SignalInfo, actions},
    task::{INIT, Process, Task, Thread, capability},
};

/// Sends to the foreground group, if there is one.
pub(super) fn signal_foreground(kernel: &Kernel, foreground: Foreground, signal: i32) {
    if foreground.group != 0 {
        signal_group(kernel, foreground, signal);
    }
}

fn signal_group(kernel: &Kernel, Foreground { session, group }: Foreground, signal: i32) {
    for process in kernel.pids.group_in_session(group, session) {
        process.send_signal(SignalInfo::kernel(signal));
    }
}

/// Whether it is the process's controlling terminal.
pub(super) fn controls(pty: &Arc<Pty>, process: &Process) -> bool {
    process.terminal.lock().as_ref().is_some_and(|own| Arc::ptr_eq(own, pty))
}

/// A background process reads, writes or changes settings: it is stopped by `signal` (SIGTTIN, SIGTTOU), or if that cannot be, goes
/// on or gets EIO. ERESTARTSYS when it was stopped: it tries again when it goes on.
pub(super) fn check_background(task: &Task, pty: &Arc<Pty>, signal: i32) -> Result<(), Errno> {
    if !controls(pty, &task.process) {
        return Ok(());
    }
    let Some(relations) = task.kernel.pids.relations(task.process.pid) else { return Ok(()) };
    let foreground = pty.foreground().group;
    if foreground == 0 || foreground == relations.group {
        return Ok(());
    }
    let ignored = task.signals.mask().contains(signal) || task.process.signals.actions().get(signal).handler == actions::IGNORE;
    if ignored {
        return if signal == libc::SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
    }
    if task.kernel.pids.is_orphaned(relations.group) {
        return Err(Errno::EIO);
    }
    signal_group(&task.kernel, Foreground { session: relations.session, group: relations.group }, signal);
    Err(Errno::ERESTARTSYS)
}

/// A session's leader without a terminal opened one that is free: it has it from now on.
pub(super) fn acquire_by_opening(thread: &Thread, pty: &Arc<Pty>) {
    let Some(relations) = thread.kernel.pids.relations(thread.process.pid) else { return };
    if relations.session == thread.process.pid && thread.process.terminal.lock().is_none() && pty.foreground().session == 0 {
        give(&thread.process, pty, relations.session, relations.group);
    }
}

/// Makes it the controlling terminal of a process that leads its session.
pub fn give(process: &Process, pty: &Arc<Pty>, session: i32, group: i32) {
    pty.set_foreground(Foreground { session, group });
    process.earlier_foreground.store(0, Ordering::Relaxed);
    *process.terminal.lock() = Some(pty.clone());
}

/// TIOCSCTTY; `steal` from another session is for the privileged.
pub(super) fn acquire(thread: &Thread, pty: &Arc<Pty>, readable: bool, steal: bool) -> Result<(), Errno> {
    let process = &thread.process;
    let relations = thread.kernel.pids.relations(process.pid).ok_or(Errno::EPERM)?;
    let session = pty.foreground().session;
    let leads = relations.session == process.pid;
    if leads && session == relations.session {
        return Ok(());
    }
    if !leads || process.terminal.lock().is_some() {
        return Err(Errno::EPERM);
    }
    let privileged = thread.credentials().has(capability::SYS_ADMIN);
    if session != 0 {
        if !steal || !privileged {
            return Err(Errno::EPERM);
        }
        forget(&thread.kernel, session, pty);
    }
    if !readable && !privileged {
        return Err(Errno::EPERM);
    }
    give(process, pty, relations.session, relations.group);
    Ok(())
}

/// No process of the session has it any more.
fn forget(kernel: &Kernel, session: i32, pty: &Arc<Pty>) {
    for process in kernel.pids.session(session) {
        process.terminal.lock().take_if(|own| Arc::ptr_eq(own, pty));
    }
}

/// TIOCNOTTY.
pub(super) fn give_up(thread: &Thread, pty: &Arc<Pty>) -> Result<(), Errno> {
    if !controls(pty, &thread.process) {
        return Err(Errno::ENOTTY);
    }
    let leads = thread.kernel.pids.relations(thread.process.pid).is_some_and(|r| r.session == thread.process.pid);
    if leads {
        let foreground = pty.foreground();
        signal_foreground(&thread.kernel, foreground, libc::SIGHUP);
        signal_foreground(&thread.kernel, foreground, libc::SIGCONT);
        pty.set_foreground(Foreground::default());
        forget(&thread.kernel, foreground.session, pty);
    }
    *thread.process.terminal.lock() = None;
    Ok(())
}

/// The last thread of a process has ended. If it led a session, its terminal is free, and those in the foreground are told.
/// Returns its terminal.
pub(crate) fn process_ends(process: &Process) -> Option<Arc<Pty>> {
    let kernel = &process.kernel;
    let terminal = process.terminal.lock().take();
    let earlier = process.earlier_foreground.swap(0, Ordering::Relaxed);
    if kernel.pids.relations(process.pid).is_none_or(|relations| relations.session != process.pid) {
        return None;
    }
    if let Some(pty) = &terminal {
        let foreground = pty.foreground();
        signal_foreground(kernel, foreground, libc::SIGHUP);
        pty.set_foreground(Foreground::default());
        forget(kernel, process.pid, pty);
        if process.pid != INIT {
            pty.release_console();
        }
    } else if earlier != 0 {
        let foreground = Foreground { session: process.pid, group: earlier };
        signal_foreground(kernel, foreground, libc::SIGHUP);
        signal_foreground(kernel, foreground, libc::SIGCONT);
    }
    terminal
}

/// The terminal of this session was hung up: it has none any more, and its leader is told. Whoever was in the foreground is told
/// when the leader ends.
pub(super) fn hung_up(pty: &Arc<Pty>, foreground: Foreground) {
    if foreground.session == 0 {
        return;
    }
    for process in pty.kernel.pids.session(foreground.session) {
        if process.terminal.lock().take_if(|own| Arc::ptr_eq(own, pty)).is_none() || process.pid != foreground.session {
            continue;
        }
        process.earlier_foreground.store(foreground.group, Ordering::Relaxed);
        process.send_signal(SignalInfo::kernel(libc::SIGHUP));
        process.send_signal(SignalInfo::kernel(libc::SIGCONT));
    }
}

/// TIOCSPGRP.
pub(super) fn set_group(thread: &Thread, pty: &Arc<Pty>, group: i32) -> Result<(), Errno> {
    check_background(&thread.task, pty, libc::SIGTTOU).map_err(|errno| match errno {
        Errno::EIO => Errno::ENOTTY,
        errno => errno,
    })?;
    let pids = &thread.kernel.pids;
    let session = pids.relations(thread.process.pid).ok_or(Errno::ENOTTY)?.session;
    if !controls(pty, &thread.process) || pty.foreground().session != session {
        return Err(Errno::ENOTTY);
    }
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    if pids.group_in_session(group, session).is_empty() {
        return Err(if pids.group(group).is_empty() { Errno::ESRCH } else { Errno::EPERM });
    }
    pty.set_foreground(Foreground { session, group });
    Ok(())
}
