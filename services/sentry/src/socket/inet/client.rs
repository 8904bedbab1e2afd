//! The sentry's side of the protocol with netstack: calls, and news of sockets.

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Weak},
};

use bulkhead_ipc::{
    Errno,
    net::{
        Reply, Request, SocketId,
        readiness::{Board, Ready},
    },
    rpc::{Answered, Asker, Client},
};
use parking_lot::Mutex;

use crate::executor::{Executor, HostPoller, Readiness, WaitQueue, wait_for};

/// One connection per worker; calls are synchronous (netstack answers on the same CPU).
pub struct NetClient {
    connections: Vec<Mutex<Asker>>,
    board: Board,
    /// Who waits at the sockets in netstack's slots.
    waiting: Mutex<HashMap<u32, Weak<WaitQueue>>>,
}

impl NetClient {
    /// With one connection per worker.
    pub fn new(clients: Vec<Client>, board: Board) -> Arc<NetClient> {
        Arc::new(NetClient {
            connections: clients.into_iter().map(|client| Mutex::new(Asker::new(client))).collect(),
            board,
            waiting: Mutex::default(),
        })
    }

    /// Sends and waits. `Reply::Error` comes back as `Err`; EIO says that netstack has gone or talks nonsense.
    pub fn call(&self, request: &Request) -> Result<Reply, Errno> {
        let outcome = self.exchange(request);
        // What the request has brought about, to others' sockets too.
        if self.board.has_news() {
            self.spread_news();
        }
        outcome
    }

    /// As `call`, for requests whose answer is `Done`.
    pub fn order(&self, request: &Request) -> Result<(), Errno> {
        match self.call(request)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn exchange(&self, request: &Request) -> Result<Reply, Errno> {
        let connection = self.connections.get(Executor::current_cpu()).or(self.connections.first()).ok_or(Errno::EIO)?;
        match connection.lock().ask(request) {
            Ok(Answered { reply: Reply::Error(errno), .. }) => Err(errno),
            Ok(Answered { reply, .. }) => Ok(reply),
            Err(error) => {
                tracing::warn!(%error, "netstack does not answer");
                Err(Errno::EIO)
            }
        }
    }

    /// What a socket is ready for.
    pub fn ready(&self, socket: SocketId) -> Ready {
        self.board.ready(socket.slot())
    }

    /// How many bytes a stream would take now.
    pub fn room(&self, socket: SocketId) -> usize {
        self.board.room(socket.slot())
    }

    /// Has `queue` woken when something happens to a socket, from now until [`forget`](NetClient::forget).
    pub fn watch(&self, socket: SocketId, queue: &Arc<WaitQueue>) {
        self.waiting.lock().insert(socket.slot(), Arc::downgrade(queue));
    }

    /// It was closed.
    pub fn forget(&self, socket: SocketId) {
        self.waiting.lock().remove(&socket.slot());
    }

    fn spread_news(&self) {
        self.board.take_news(|slot, edges| {
            let queue = self.waiting.lock().get(&slot).and_then(Weak::upgrade);
            if let Some(queue) = queue {
                queue.wake(readiness(edges));
            }
        });
    }

    /// Starts the task that spreads news which nobody's own request brought.
    pub fn start(self: &Arc<Self>) {
        let client = self.clone();
        let bell = Arc::new(WaitQueue::new());
        Executor::spawn(0, async move {
            loop {
                let rung = || {
                    client.board.silence();
                    if client.board.has_news() {
                        return Some(());
                    }
                    HostPoller::arm(client.board.as_fd().as_raw_fd(), Readiness::IN, bell.clone());
                    None
                };
                wait_for(&bell, Readiness::IN, rung).await;
                client.spread_news();
            }
        });
    }
}

/// As poll(2) has it.
pub(super) fn readiness(ready: Ready) -> Readiness {
    let mut all = Readiness::from_bits_truncate(ready.bits());
    all.set(Readiness::RDNORM, ready.contains(Ready::IN));
    all.set(Readiness::WRNORM | Readiness::WRBAND, ready.contains(Ready::OUT));
    all
}

/// An answer to something else.
pub(super) fn unexpected(reply: &Reply) -> Errno {
    tracing::warn!(?reply, "netstack answers something else");
    Errno::EIO
}
