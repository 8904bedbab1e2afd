//! Advisory locks: vfs keeps and checks them, the sentry waits for them.
//!
//! Invariants: who unlocks wakes those who wait for the same inode; a process's record locks on an inode go when it closes
//! any number of that inode; a description's locks go with the description.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use bulkhead_ipc::{
    Errno,
    vfs::{Lock, LockFamily, LockKind, Reply, Request},
};
use parking_lot::Mutex;

use super::{
    Location, OpenFile,
    directory::DirectoryFile,
    pipe::PipeFile,
    regular::RegularFile,
    vfs,
    vfs::{NodeHandle, VfsClient},
};
use crate::{
    executor::{Readiness, WaitQueue, wait_for},
    task::Task,
};

/// (device, inode).
type Inode = (u64, u64);

/// What this sentry knows of locks.
#[derive(Default)]
pub(super) struct LockBook {
    /// Processes (by owner number) that may hold record locks on an inode, and a node of it.
    held: Mutex<HashMap<(u64, Inode), Arc<NodeHandle>>>,
    /// Those who wait.
    waiting: Mutex<HashMap<Inode, Arc<WaitQueue>>>,
}

impl LockBook {
    fn queue(&self, inode: Inode) -> Arc<WaitQueue> {
        self.waiting.lock().entry(inode).or_insert_with(|| Arc::new(WaitQueue::new())).clone()
    }

    fn wake(&self, inode: Inode) {
        let queue = {
            let mut waiting = self.waiting.lock();
            // Nobody but the map refers to the queue of an inode that nobody waits for.
            waiting.retain(|key, queue| *key == inode || Arc::strong_count(queue) > 1);
            waiting.get(&inode).cloned()
        };
        if let Some(queue) = queue {
            queue.wake(Readiness::IN);
        }
    }
}

/// The node and inode of a file that can be locked.
fn lockable(file: &OpenFile) -> Result<(&Arc<NodeHandle>, Inode), Errno> {
    let Some(Location::Vfs(handle)) = &file.location else { return Err(Errno::ENOLCK) };
    let inode = if let Some(regular) = file.downcast::<RegularFile>() {
        regular.inode()
    } else if let Some(directory) = file.downcast::<DirectoryFile>() {
        directory.inode()
    } else if let Some(pipe) = file.downcast::<PipeFile>() {
        pipe.inode()
    } else {
        (0, handle.node.0)
    };
    Ok((handle, inode))
}

/// Sets or clears a lock; with `wait`, waits until it can be set (ERESTARTSYS when a signal comes first).
pub async fn set(task: &Task, file: &OpenFile, lock: Lock, wait: bool) -> Result<(), Errno> {
    let (handle, inode) = lockable(file)?;
    let client = handle.client();
    let request = Request::SetLock { node: handle.node, lock };
    if lock.owner == file.id {
        file.locked.store(true, Ordering::Relaxed);
    } else if lock.kind != LockKind::Unlock {
        client.locks.held.lock().insert((lock.owner, inode), handle.clone());
    }
    match client.order(&request) {
        Err(Errno::EAGAIN) if wait => {
            let queue = client.locks.queue(inode);
            let attempt = || match client.order(&request) {
                Err(Errno::EAGAIN) => None,
                outcome => Some(outcome),
            };
            task.interruptible(wait_for(&queue, Readiness::IN, attempt)).await??;
        }
        outcome => outcome?,
    }
    // A read lock in place of a write lock lets others in as well.
    if lock.kind != LockKind::Write {
        client.locks.wake(inode);
    }
    Ok(())
}

/// F_GETLK: a lock that `lock` would conflict with.
pub fn get(file: &OpenFile, lock: Lock) -> Result<Option<Lock>, Errno> {
    let (handle, _) = lockable(file)?;
    match handle.client().call(&Request::GetLock { node: handle.node, lock })?.0 {
        Reply::Lock(found) => Ok(found),
        other => Err(vfs::unexpected(&other)),
    }
}

/// A process closed a number of `file`: its record locks on the inode go.
pub(super) fn closed_by(owner: u64, file: &OpenFile) {
    let Ok((handle, inode)) = lockable(file) else { return };
    let client = handle.client();
    let held = client.locks.held.lock().remove(&(owner, inode));
    if held.is_some() {
        drop_all(handle, LockFamily::Record, owner);
        client.locks.wake(inode);
    }
}

/// A process has ended: all its record locks go, whoever else still uses its fd table.
pub fn process_ended(client: &VfsClient, pid: i32) {
    let owner = pid as u64;
    let held: Vec<_> = client.locks.held.lock().extract_if(|key, _| key.0 == owner).collect();
    for ((_, inode), handle) in held {
        drop_all(&handle, LockFamily::Record, owner);
        client.locks.wake(inode);
    }
}

/// The last reference to a description that may hold locks went.
pub(super) fn release_description(file: &OpenFile) {
    let Ok((handle, inode)) = lockable(file) else { return };
    drop_all(handle, LockFamily::Flock, file.id);
    drop_all(handle, LockFamily::Record, file.id);
    handle.client().locks.wake(inode);
}

fn drop_all(handle: &NodeHandle, family: LockFamily, owner: u64) {
    if let Err(errno) = handle.client().order(&Request::DropLocks { node: handle.node, family, owner }) {
        tracing::warn!(%errno, "vfs did not drop locks");
    }
}
