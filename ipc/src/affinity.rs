//! Threads that stay on one CPU. A hand-over to a sleeper is cheap only where it runs already, so that every service that is
//! asked synchronously has a thread per CPU.
#![forbid(unsafe_code)]

use crate::Errno;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use std::{sync::mpsc, thread};

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

/// Starts a thread that stays on `cpu`, and returns once it runs there: what starting a thread needs of the host is then over,
/// and the process can be sealed. A CPU that went offline meanwhile is no reason to fail: the thread then runs where it may.
pub fn spawn_on<F, T>(cpu: u32, name: &str, body: F) -> std::io::Result<thread::JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (started, has_started) = mpsc::sync_channel::<()>(1);
    let handle = thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = pin_to(cpu) {
            tracing::warn!(cpu, %error, "cannot pin a thread to its CPU");
        }
        let _ = started.send(());
        drop(started);
        body()
    })?;
    let _ = has_started.recv();
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_on_the_cpu_it_was_started_for() {
        let cpu = *allowed_cpus().unwrap().last().unwrap();
        let seen = spawn_on(cpu, "pinned", || allowed_cpus().unwrap()).unwrap().join().unwrap();
        assert_eq!(seen, [cpu]);
    }
}
