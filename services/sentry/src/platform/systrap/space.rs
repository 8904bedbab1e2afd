//! Guest address spaces.

use std::sync::Arc;

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{
    context::Context,
    intervals::Intervals,
    layout::{BATCH, GUEST_END},
    stub::{Command, Shared, Stub},
};
use crate::{
    executor,
    platform::{MapOp, Protection},
};

/// One guest address space, on its host process. Dropping the last reference ends the host process.
pub struct Space {
    pub(super) shared: Arc<Shared>,
    pub(super) stub: Arc<Stub>,
    mapped: Mutex<Intervals>,
}

impl Space {
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Arc<Space>, Errno> {
        let stub = shared.fresh_stub()?;
        Ok(Arc::new(Space { shared: shared.clone(), stub, mapped: Mutex::default() }))
    }

    /// Carries out changes in order, and returns when they are done. An error says that the host refused one of them
    /// (ENOMEM), or that the space is gone (ESRCH); the rest may have been carried out.
    pub fn apply(&self, changes: &[MapOp]) -> Result<(), Errno> {
        self.carry_out(changes, &mut self.mapped.lock(), Vec::with_capacity(changes.len()))
    }

    /// Carries out `commands`, and then the changes.
    fn carry_out(&self, changes: &[MapOp], mapped: &mut Intervals, mut commands: Vec<Command>) -> Result<(), Errno> {
        for change in changes {
            plan(change, mapped, &mut commands)?;
        }
        for batch in commands.chunks(BATCH) {
            self.stub.run(&self.shared, batch)?;
        }
        Ok(())
    }

    /// Removes every mapping of the guest and then carries out changes (execve), as [`Space::apply`] does. The space stays on its host
    /// process, whose threads the old program may have led astray: for a program with more privileges than the old one take a new space.
    pub fn replace(&self, changes: &[MapOp]) -> Result<(), Errno> {
        let mut mapped = self.mapped.lock();
        let mut commands: Vec<Command> = Vec::with_capacity(changes.len() + 1);
        if !mapped.is_empty() {
            mapped.clear();
            commands.push([libc::SYS_munmap as u64, 0, GUEST_END, 0, 0, 0, 0]);
        }
        self.carry_out(changes, &mut mapped, commands)
    }

    /// Ends the host process in the background, and calls `then` when it is dead.
    pub fn end(&self, then: impl FnOnce() + Send + 'static) {
        let (shared, stub) = (self.shared.clone(), self.stub.clone());
        let away = shared.quiet_cpu();
        executor::submit(Box::new(move || {
            shared.end_stub(&stub, away);
            then();
        }));
    }

    /// A guest thread in this address space, stopped, with clean extended state. `cpu` is the index of its home CPU.
    pub fn new_context(self: &Arc<Self>, cpu: usize) -> Result<Context, Errno> {
        Context::new(self, cpu)
    }

    /// Host process id, for diagnostics.
    pub fn host_pid(&self) -> i32 {
        self.stub.pid
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.stub.kill();
    }
}

/// Turns one change into commands, and notes what is mapped then.
fn plan(change: &MapOp, mapped: &mut Intervals, commands: &mut Vec<Command>) -> Result<(), Errno> {
    let range = |address: u64, length: u64| match address.checked_add(length) {
        Some(end) if end <= GUEST_END => Ok(address..end),
        _ => Err(Errno::EINVAL),
    };
    match *change {
        MapOp::Map { address, length, protection, fd, offset, private, populate } => {
            let range = range(address, length)?;
            if !range.is_empty() {
                let mut flags = libc::MAP_FIXED | if private { libc::MAP_PRIVATE } else { libc::MAP_SHARED };
                if populate {
                    flags |= libc::MAP_POPULATE;
                }
                let (flags, fd) = (flags as u64, fd as u64);
                commands.push([libc::SYS_mmap as u64, address, length, bits(protection), flags, fd, offset]);
                mapped.insert(range);
            }
        }
        MapOp::Unmap { address, length } => {
            let range = range(address, length)?;
            if mapped.within(range.clone()).next().is_some() {
                commands.push([libc::SYS_munmap as u64, address, length, 0, 0, 0, 0]);
                mapped.remove(range);
            }
        }
        MapOp::Protect { address, length, protection } => {
            for part in mapped.within(range(address, length)?) {
                let length = part.end - part.start;
                commands.push([libc::SYS_mprotect as u64, part.start, length, bits(protection), 0, 0, 0]);
            }
        }
    }
    Ok(())
}

fn bits(protection: Protection) -> u64 {
    u64::from(protection.bits())
}
