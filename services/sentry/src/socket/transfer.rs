//! Sending, receiving, accepting and connecting with patience: the one place where a socket's calls wait.

use std::sync::Arc;

use bulkhead_ipc::Errno;

use super::{Address, Incoming, Outgoing, Socket, SocketFile};
use crate::{
    executor::{self, Readiness, wait_for},
    fs::{OpenFile, UserBuffers, io::broken_pipe},
    task::{Task, Thread},
};

const READS: Readiness = Readiness::IN.union(Readiness::RDNORM).union(Readiness::RDHUP);
const WRITES: Readiness = Readiness::OUT.union(Readiness::WRNORM);

/// How long a call waits.
struct Patience {
    /// Not at all.
    none: bool,
    /// SO_RCVTIMEO or SO_SNDTIMEO, in nanoseconds.
    limit: Option<u64>,
    /// When it ends, once it began to wait.
    deadline: Option<u64>,
}

impl Patience {
    fn new(file: &OpenFile, flags: i32, limit: Option<u64>) -> Patience {
        Patience { none: flags & libc::MSG_DONTWAIT != 0 || file.nonblocking() || limit == Some(0), limit, deadline: None }
    }

    fn receiving(file: &OpenFile, socket: &dyn Socket, flags: i32) -> Patience {
        Patience::new(file, flags, socket.core().settings.lock().receive_timeout)
    }

    fn sending(file: &OpenFile, socket: &dyn Socket, flags: i32) -> Patience {
        Patience::new(file, flags, socket.core().settings.lock().send_timeout)
    }

    /// Calls `attempt` until it gives something else than EAGAIN. A signal is ERESTARTSYS, or EINTR where a time-out was set,
    /// because starting anew would begin it anew.
    async fn until<T>(
        &mut self,
        task: &Task,
        socket: &dyn Socket,
        interest: Readiness,
        mut attempt: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match attempt() {
            Err(Errno::EAGAIN) if !self.none => {}
            outcome => return outcome,
        }
        if self.deadline.is_none() {
            self.deadline = self.limit.map(|limit| executor::now().saturating_add(limit));
        }
        let check = || match attempt() {
            Err(Errno::EAGAIN) => None,
            outcome => Some(outcome),
        };
        match task.interruptible_until(self.deadline, wait_for(&socket.core().queue, interest, check)).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(Errno::EAGAIN),
            Err(errno) => Err(if self.limit.is_some() { Errno::EINTR } else { errno }),
        }
    }
}

/// Sends: all of a stream's bytes, or one message. EPIPE of a stream comes with SIGPIPE, unless MSG_NOSIGNAL.
pub async fn send(task: &Task, file: &OpenFile, socket: &dyn Socket, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
    let mut patience = Patience::sending(file, socket, message.flags);
    let stream = socket.core().is_stream();
    let mut total = 0;
    loop {
        match patience.until(task, socket, WRITES, || socket.send(message)).await {
            Ok(sent) => {
                total += sent;
                if !stream || sent == 0 || message.data.remaining() == 0 {
                    return Ok(total);
                }
            }
            Err(_) if total > 0 => return Ok(total),
            Err(errno) => {
                if errno == Errno::EPIPE && stream && message.flags & libc::MSG_NOSIGNAL == 0 {
                    broken_pipe(task);
                }
                return Err(errno);
            }
        }
    }
}

/// Receives: what there is, at least SO_RCVLOWAT bytes of a stream, or all that was asked for (MSG_WAITALL); or one message.
pub async fn receive(task: &Task, file: &OpenFile, socket: &dyn Socket, message: &mut Incoming<'_>) -> Result<usize, Errno> {
    let mut patience = Patience::receiving(file, socket, message.flags);
    let wanted = message.data.remaining();
    let enough = match message.flags & libc::MSG_WAITALL {
        _ if !socket.core().is_stream() => 0,
        0 => wanted.min(socket.core().settings.lock().receive_low as usize),
        _ => wanted,
    };
    let mut total = 0;
    loop {
        match patience.until(task, socket, READS, || socket.receive(message)).await {
            Ok(0) => return Ok(total),
            Ok(received) => {
                total += received;
                let ends = message.flags & libc::MSG_PEEK != 0 || !message.control.rights.is_empty();
                if total >= enough || ends {
                    return Ok(total);
                }
            }
            Err(_) if total > 0 => return Ok(total),
            Err(errno) => return Err(errno),
        }
    }
}

/// read(2) and its kin.
pub async fn read(thread: &Thread, file: &OpenFile, socket: &dyn Socket, buffers: &mut UserBuffers<'_>) -> Result<usize, Errno> {
    if buffers.remaining() == 0 {
        return Ok(0);
    }
    let flags = message_flags(buffers);
    receive(&thread.task, file, socket, &mut Incoming::bytes(buffers, flags)).await
}

/// write(2) and its kin.
pub async fn write(thread: &Thread, file: &OpenFile, socket: &dyn Socket, buffers: &mut UserBuffers<'_>) -> Result<usize, Errno> {
    let flags = message_flags(buffers);
    send(&thread.task, file, socket, &mut Outgoing::bytes(Some(thread), buffers, flags)).await
}

fn message_flags(buffers: &UserBuffers<'_>) -> i32 {
    if buffers.flags & libc::RWF_NOWAIT != 0 { libc::MSG_DONTWAIT } else { 0 }
}

/// accept(2).
pub async fn accept(task: &Task, file: &OpenFile, socket: &dyn Socket) -> Result<Arc<dyn Socket>, Errno> {
    let mut patience = Patience::receiving(file, socket, 0);
    patience.until(task, socket, READS, || socket.accept()).await
}

/// connect(2).
pub async fn connect(thread: &Thread, file: &OpenFile, socket: &dyn Socket, address: &Address) -> Result<(), Errno> {
    let mut patience = Patience::sending(file, socket, 0);
    let waits = !patience.none;
    let mut again = false;
    let attempt = || {
        let outcome = socket.connect(thread, address, std::mem::replace(&mut again, true));
        // To wait for what is under way is to wait.
        if waits && outcome == Err(Errno::EINPROGRESS) { Err(Errno::EAGAIN) } else { outcome }
    };
    patience.until(&thread.task, socket, WRITES, attempt).await
}

/// The socket behind a file; ENOTSOCK.
pub fn socket_of(file: &OpenFile) -> Result<&Arc<dyn Socket>, Errno> {
    file.downcast::<SocketFile>().map(|file| &file.socket).ok_or(Errno::ENOTSOCK)
}
