//! Connections that are counted, so that the server knows when the last one has gone.

use super::{
    authority::Rewriter,
    reactor::{self, Reactor},
};
use nix::{errno::Errno, poll::PollFlags};
use parking_lot::Mutex;
use std::{
    any::Any,
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use tonic::transport::server::Connected;

/// How many connections are open.
#[derive(Clone)]
pub(super) struct Count(watch::Sender<usize>);

impl Count {
    pub(super) fn new() -> Count {
        Count(watch::Sender::new(0))
    }

    /// Waits until there has been no connection for `linger`.
    pub(super) async fn idle_for(self, linger: Duration) {
        let mut count = self.0.subscribe();
        loop {
            if count.wait_for(|&open| open == 0).await.is_err() {
                return;
            }
            if tokio::time::timeout(linger, count.wait_for(|&open| open > 0)).await.is_err() {
                return;
            }
        }
    }
}

/// Keeps things for as long as a connection is open. Every request has its connection's in its extensions.
#[derive(Clone, Default)]
pub struct Keeper(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

impl Keeper {
    /// Lets go of `thing` when the connection has ended.
    pub fn keep(&self, thing: impl Any + Send) {
        self.0.lock().push(Box::new(thing));
    }
}

/// An open connection.
pub(super) struct Connection {
    socket: Arc<OwnedFd>,
    reactor: Arc<Reactor>,
    rewriter: Rewriter,
    count: Count,
    keeper: Keeper,
}

impl Connection {
    /// Of a socket that the reactor has accepted.
    pub(super) fn new(socket: Arc<OwnedFd>, reactor: Arc<Reactor>, count: &Count) -> Connection {
        count.0.send_modify(|open| *open += 1);
        Connection { socket, reactor, rewriter: Rewriter::new(), count: count.clone(), keeper: Keeper::default() }
    }

    /// What was tried, or a wait for the socket to be ready.
    fn outcome<T>(&self, tried: Result<T, Errno>, events: PollFlags, context: &Context<'_>) -> Poll<io::Result<T>> {
        match tried {
            Err(Errno::EAGAIN | Errno::EINTR) => {
                self.reactor.wait(&self.socket, events, context.waker());
                Poll::Pending
            }
            result => Poll::Ready(result.map_err(io::Error::from)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reactor.forget(&self.socket);
        self.count.0.send_modify(|open| *open -= 1);
    }
}

impl Connected for Connection {
    type ConnectInfo = Keeper;

    fn connect_info(&self) -> Keeper {
        self.keeper.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let received = reactor::receive(&self.socket, buffer.initialize_unfilled());
        self.outcome(received, PollFlags::POLLIN, context).map_ok(|length| {
            let before = buffer.filled().len();
            buffer.advance(length);
            self.rewriter.rewrite(&mut buffer.filled_mut()[before..]);
        })
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The other side sees the end when the connection is dropped, which follows: HTTP/2 has its own farewell.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // The host takes no more than so many at a time (IOV_MAX).
        let bytes = &bytes[..bytes.len().min(1024)];
        self.outcome(reactor::send(&self.socket, bytes), PollFlags::POLLOUT, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
