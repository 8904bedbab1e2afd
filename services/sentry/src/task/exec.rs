//! Running another program (execve(2)).

use std::sync::{Arc, atomic::Ordering};

use bulkhead_ipc::Errno;

use super::{Process, Thread};
use crate::{
    abi::{FdNumber, UserAddress},
    executor::{self, Executor, Readiness},
    fs::{self, OpenFile},
    loader::{self, Loaded},
    memory::AddressSpace,
    platform::Context,
};

/// Longest single argument (MAX_ARG_STRLEN).
const LONGEST_STRING: usize = 32 * 4096;
/// Arguments and environment always may have this many bytes.
const LEAST_SPACE: u64 = LONGEST_STRING as u64;
/// And never more than this (3/4 of the default stack limit).
const MOST_SPACE: u64 = 6 << 20;

/// Reads argv and envp, loads the program, and becomes it. An error leaves the caller as it was.
pub(crate) async fn execute(
    thread: &mut Thread,
    directory: FdNumber,
    path: &[u8],
    flags: i32,
    argv: UserAddress,
    envp: UserAddress,
) -> Result<u64, Errno> {
    let (arguments, environment) = {
        let memory = thread.memory();
        let mut space = (thread.limit(libc::RLIMIT_STACK).0 / 4).clamp(LEAST_SPACE, MOST_SPACE);
        (read_vector(&memory, argv, &mut space)?, read_vector(&memory, envp, &mut space)?)
    };
    // Without any argument the program gets an empty one, so that it cannot mistake envp for argv.
    let arguments = if arguments.is_empty() { vec![Vec::new()] } else { arguments };
    let file = fs::open_executable(thread, directory, path, flags)?;
    let name = shown_path(directory, path);
    let (loaded, context) = load(thread, file, &name, arguments, environment)?;
    leave_siblings(thread).await?;
    super::exit::leave_memory(thread);
    become_program(thread, loaded, context).inspect_err(|errno| {
        tracing::warn!(pid = thread.process.pid, %errno, "execve(2) failed when nothing was left of the old program");
        thread.process.begin_exit(libc::SIGKILL);
    })?;
    Ok(0)
}

/// Loads a program, with a CPU to run it, if the one at hand will not do.
pub(crate) fn load(
    thread: &Thread,
    file: Arc<OpenFile>,
    path: &[u8],
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> Result<(Loaded, Option<Context>), Errno> {
    let loaded = loader::load(thread, file, path, arguments, environment)?;
    let context = match loaded.memory.holds_stub() {
        true => Some(loaded.memory.space().new_context(Executor::current_cpu())?),
        false => None,
    };
    Ok((loaded, context))
}

/// The path as the program sees it in AT_EXECFN (and a script's interpreter in its arguments).
fn shown_path(directory: FdNumber, path: &[u8]) -> Vec<u8> {
    if directory == FdNumber::WORKING_DIRECTORY || path.first() == Some(&b'/') {
        return path.to_vec();
    }
    let mut shown = format!("/dev/fd/{}", directory.0).into_bytes();
    if !path.is_empty() {
        shown.push(b'/');
        shown.extend_from_slice(path);
    }
    shown
}

/// A NULL-terminated vector of strings; `space` is what is left for strings and their pointers.
fn read_vector(memory: &AddressSpace, address: UserAddress, space: &mut u64) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    if address.is_null() {
        return Ok(strings);
    }
    let mut at = address;
    loop {
        let pointer: u64 = memory.read_value(at)?;
        if pointer == 0 {
            return Ok(strings);
        }
        let string = memory.read_string(UserAddress(pointer), LONGEST_STRING).map_err(|errno| match errno {
            Errno::ENAMETOOLONG => Errno::E2BIG,
            other => other,
        })?;
        *space = space.checked_sub(string.len() as u64 + 1 + 8).ok_or(Errno::E2BIG)?;
        strings.push(string);
        at = at.offset(8);
    }
}

/// All other threads of the group end; the caller is the leader then.
async fn leave_siblings(thread: &mut Thread) -> Result<(), Errno> {
    let process = thread.process.clone();
    if process.thread_count() > 1 || thread.tid() != process.pid {
        if process.executing.swap(true, Ordering::SeqCst) {
            return Err(Errno::EAGAIN);
        }
        let result = wait_alone(thread, &process).await;
        process.executing.store(false, Ordering::SeqCst);
        result?;
        take_leaders_number(thread);
    }
    Ok(())
}

async fn wait_alone(thread: &Thread, process: &Process) -> Result<(), Errno> {
    for task in process.threads() {
        if !Arc::ptr_eq(&task, &thread.task) {
            task.signals.end_thread();
        }
    }
    let alone = executor::wait_for(&process.exit_events, Readiness::IN, || (process.thread_count() == 1).then_some(()));
    thread.killable(alone).await
}

fn take_leaders_number(thread: &Thread) {
    let (old, pid) = (thread.tid(), thread.process.pid);
    if old == pid {
        return;
    }
    thread.kernel.pids.with(|table| {
        table.remove_task(old);
        thread.task.tid.store(pid, Ordering::Relaxed);
        table.insert_task(thread.task.clone());
        let children = table.get(pid).map_or_else(Vec::new, |member| member.children.clone());
        for child in children {
            if let Some(member) = table.get_mut(child) {
                member.parent_tid = pid;
            }
        }
    });
}

/// The point of no return: what execve(2) says becomes of everything that a process has. After an error the process has to end.
pub(crate) fn become_program(thread: &mut Thread, loaded: Loaded, context: Option<Context>) -> Result<(), Errno> {
    loaded.memory.take_over(&thread.memory())?;
    let process = thread.process.clone();
    let old = thread.credentials();
    let (new, secure) = old.after_exec(loaded.set_uid, loaded.set_gid);

    *thread.task.memory.write() = loaded.memory;
    match context {
        Some(context) => {
            thread.signals.attach(context.interrupter());
            let affinity = thread.scheduling.lock().affinity;
            thread.signals.set_affinity(affinity);
            thread.context = context;
        }
        None => thread.context.reset_extended_state(),
    }
    thread.registers = loaded.registers;
    thread.call = None;

    let files = thread.files();
    // One reference is the task's, one ours.
    let files = if Arc::strong_count(&files) > 2 {
        let own = files.fork();
        *thread.task.files.write() = own.clone();
        own
    } else {
        files
    };
    for file in files.take_close_on_exec() {
        fs::close(thread, file);
    }

    thread.signals.reset_for_exec();
    process.signals.reset_for_exec();
    process.timers.reset_for_exec();
    thread.clear_child_tid.store(0, Ordering::Relaxed);
    thread.robust_list.store(0, Ordering::Relaxed);
    *thread.name.lock() = loaded.name;
    *process.executable.write() = Some(loaded.executable);
    let plain = !loaded.unreadable && new.euid == old.euid && new.egid == old.egid && new.uid == new.euid && new.gid == new.egid;
    process.dumpable.store(i32::from(plain), Ordering::Relaxed);
    if secure {
        thread.parent_death_signal.store(0, Ordering::Relaxed);
    }
    process.exit_signal.store(libc::SIGCHLD, Ordering::Relaxed);
    process.has_executed.store(true, Ordering::Relaxed);
    *thread.task.credentials.write() = Arc::new(new);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_run_by_descriptor_is_shown_under_dev_fd() {
        assert_eq!(shown_path(FdNumber(5), b""), b"/dev/fd/5");
        assert_eq!(shown_path(FdNumber(5), b"bin/sh"), b"/dev/fd/5/bin/sh");
        assert_eq!(shown_path(FdNumber(5), b"/bin/sh"), b"/bin/sh");
        assert_eq!(shown_path(FdNumber::WORKING_DIRECTORY, b"sh"), b"sh");
    }
}
