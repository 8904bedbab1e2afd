//! The one place where a read or write waits: tries, waits for readiness unless O_NONBLOCK is set, is interrupted by signals.

use bulkhead_ipc::Errno;

use super::{Offset, OpenFile, UserBuffers};
use crate::{
    executor::{Readiness, wait_for},
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
    let nowait = buffers.flags & libc::RWF_NOWAIT != 0;
    retry(task, file, Readiness::IN | Readiness::RDNORM, nowait, || file.ops.read(file, buffers, offset)).await
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
