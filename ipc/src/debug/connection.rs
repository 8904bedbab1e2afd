//! Connections that are counted, so that the server knows when the last one has gone.

use super::authority::Rewriter;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
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

/// The connections to `listener`, as they come.
pub(super) fn incoming(listener: UnixListener, count: Count) -> impl tokio_stream::Stream<Item = io::Result<Connection>> {
    Incoming { listener, count }
}

struct Incoming {
    listener: UnixListener,
    count: Count,
}

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.poll_accept(context).map(|accepted| Some(accepted.map(|(stream, _)| Connection::new(stream, &self.count))))
    }
}

/// An open connection.
pub(super) struct Connection {
    stream: UnixStream,
    rewriter: Rewriter,
    count: Count,
}

impl Connection {
    fn new(stream: UnixStream, count: &Count) -> Connection {
        count.0.send_modify(|open| *open += 1);
        Connection { stream, rewriter: Rewriter::new(), count: count.clone() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count.0.send_modify(|open| *open -= 1);
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.rewriter.rewrite(&mut buffer.filled_mut()[before..]);
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
