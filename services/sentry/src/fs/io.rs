//! The one place where a read or write waits: tries, waits for readiness unless O_NONBLOCK is set, is interrupted by signals.

use bulkhead_ipc::Errno;

use super::{Offset, OpenFile, UserBuffers};
use crate::{
    executor::{self, Readiness, wait_for},
    signal::SignalInfo,
    task::Task,
};

/// Calls `attempt` until it gives something else than EAGAIN, waiting for `interest` in between. EAGAIN when the file is
/// non-blocking (or `nonblocking` says so); ERESTARTSYS when a signal comes first.
pub async fn retry<T>(
    task: &Task,
    file: &OpenFile,
    interest: Readiness,
    nonblocking: bool,
    mut attempt: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match attempt() {
        Err(Errno::EAGAIN) if !nonblocking && !file.nonblocking() => {}
        outcome => return outcome,
    }
    let Some(queue) = file.ops.wait_queue() else { return Err(Errno::EAGAIN) };
    let check = || match attempt() {
        Err(Errno::EAGAIN) => {
            file.ops.prepare_wait(interest);
            None
        }
        outcome => Some(outcome),
    };
    task.interruptible(wait_for(queue, interest, check)).await?
}

/// read(2) and its kin.
pub async fn read(task: &Task, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
    if !file.readable() {
        return Err(Errno::EBADF);
    }
    let result = match file.ops.read(file, buffers, offset) {
        Err(Errno::EAGAIN) if buffers.flags & libc::RWF_NOWAIT == 0 && !file.nonblocking() => {
            keep_reading(task, file, buffers, offset).await
        }
        outcome => outcome,
    };
    match result {
        // What was got before the end, the signal or the error.
        Err(_) if buffers.done > 0 => Ok(buffers.done),
        result => result,
    }
}

/// Reads a file that had too little to give, with as much patience as it has.
async fn keep_reading(task: &Task, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
    const INTEREST: Readiness = Readiness::IN.union(Readiness::RDNORM);
    let Some(queue) = file.ops.wait_queue() else { return Err(Errno::EAGAIN) };
    loop {
        let before = buffers.done;
        let deadline = file.ops.patience(before).map(|patience| executor::now().saturating_add(patience));
        let check = || match file.ops.read(file, buffers, offset) {
            Err(Errno::EAGAIN) if buffers.done == before => {
                file.ops.prepare_wait(INTEREST);
                None
            }
            outcome => Some(outcome),
        };
        match task.interruptible_until(deadline, wait_for(queue, INTEREST, check)).await? {
            // Something came, so that patience begins anew.
            Some(Err(Errno::EAGAIN)) => {}
            Some(outcome) => return outcome,
            None => return Ok(buffers.done),
        }
    }
}

/// write(2) and its kin. A file that can block is written until all is done; a signal or an error after some bytes gives a
/// short count. EPIPE comes with SIGPIPE.
pub async fn write(task: &Task, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<usize, Errno> {
    if !file.writable() {
        return Err(Errno::EBADF);
    }
    let nowait = buffers.flags & libc::RWF_NOWAIT != 0;
    let mut total = 0;
    loop {
        let step = retry(task, file, Readiness::OUT | Readiness::WRNORM, nowait, || file.ops.write(file, buffers, offset));
        match step.await {
            Ok(n) => {
                total += n;
                let goes_on = n > 0 && buffers.remaining() > 0 && file.ops.wait_queue().is_some();
                if !goes_on || nowait || file.nonblocking() {
                    return Ok(total);
                }
            }
            Err(errno) => {
                if errno == Errno::EPIPE {
                    broken_pipe(task);
                }
                return if total > 0 { Ok(total) } else { Err(errno) };
            }
        }
    }
}

/// SIGPIPE to the thread that wrote.
pub fn broken_pipe(task: &Task) {
    task.send_signal(SignalInfo::user(libc::SIGPIPE, task.process.pid, task.credentials().uid));
}
