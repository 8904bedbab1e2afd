//! Threads that stay on one CPU. A hand-over to a sleeper is cheap only where it runs already, so that every service that is
//! asked synchronously has a thread per CPU.
#![forbid(unsafe_code)]

use crate::Errno;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use std::{hash::RandomState, sync::mpsc, thread};

/// Pins the calling thread to a CPU.
pub fn pin_to(cpu: u32) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(cpu as usize)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// The CPUs that the calling thread may run on, in ascending order.
pub fn allowed_cpus() -> Result<Vec<u32>, Errno> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).map(|cpu| cpu as u32).collect())
}

/// As [`spawn`], with a thread that stays on `cpu`. A CPU that went offline meanwhile is no reason to fail: the thread then runs where
/// it may.
pub fn spawn_on(cpu: u32, name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    start(Some(cpu), name, body)
}

/// Starts a thread for the life of the process, and returns once it runs.
///
/// What starting a thread needs of the host is then over, and the process can be sealed. What ending one needs is not allowed either,
/// so that the thread sleeps for ever when `body` returns.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    start(None, name, body)
}

fn start(cpu: Option<u32>, name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let (started, has_started) = mpsc::sync_channel::<()>(1);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Some(cpu) = cpu
            && let Err(error) = pin_to(cpu)
        {
            tracing::warn!(cpu, %error, "cannot pin a thread to its CPU");
        }
        own_hash_key();
        let _ = started.send(());
        drop(started);
        body();
        loop {
            thread::park();
        }
    })?;
    let _ = has_started.recv();
    Ok(())
}

/// Takes the key of this thread's hash tables from the host, which would be asked for it with the first table.
pub(crate) fn own_hash_key() {
    let _ = RandomState::new();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_on_the_cpu_it_was_started_for() {
        let cpu = *allowed_cpus().unwrap().last().unwrap();
        let (sender, seen) = mpsc::channel();
        spawn_on(cpu, "pinned", move || sender.send(allowed_cpus().unwrap()).unwrap()).unwrap();
        assert_eq!(seen.recv().unwrap(), [cpu]);
    }
}
