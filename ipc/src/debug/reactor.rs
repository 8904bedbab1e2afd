//! Waiting for sockets with nothing but poll(2): what the debug plane's runtime has instead of a reactor of its own, so that a
//! service's policy needs neither epoll nor eventfds for it.
//!
//! One thread runs [`Reactor::run`]: it accepts connections and wakes the futures that wait for one. Whoever changes what is waited for
//! rings a bell, a socket that the thread waits for as well.
#![forbid(unsafe_code)]

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Waker,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{self, MsgFlags, SockFlag},
};
use parking_lot::Mutex;

/// Connections at a time at most.
const MOST: usize = 64;
/// How long nothing is accepted after it failed, so that a lasting failure does not make the thread spin.
const RETRY: Duration = Duration::from_secs(1);

/// What is waited for.
pub(super) struct Reactor {
    state: Mutex<State>,
    bell: UnixDatagram,
    heard: UnixDatagram,
    rung: AtomicBool,
}

#[derive(Default)]
struct State {
    waits: Vec<Wait>,
    open: usize,
}

struct Wait {
    socket: Arc<OwnedFd>,
    events: PollFlags,
    waker: Waker,
}

impl Reactor {
    pub(super) fn new() -> io::Result<Reactor> {
        let (bell, heard) = UnixDatagram::pair()?;
        Ok(Reactor { state: Mutex::default(), bell, heard, rung: AtomicBool::new(false) })
    }

    /// Wakes `waker` once the socket is ready for any of `events`, or broken.
    pub(super) fn wait(&self, socket: &Arc<OwnedFd>, events: PollFlags, waker: &Waker) {
        let mut state = self.state.lock();
        match state.waits.iter_mut().find(|wait| Arc::ptr_eq(&wait.socket, socket) && wait.events == events) {
            Some(wait) => wait.waker.clone_from(waker),
            None => state.waits.push(Wait { socket: socket.clone(), events, waker: waker.clone() }),
        }
        drop(state);
        self.ring();
    }

    /// This connection is over: lets go of its socket.
    pub(super) fn forget(&self, socket: &Arc<OwnedFd>) {
        let mut state = self.state.lock();
        state.open -= 1;
        state.waits.retain(|wait| !Arc::ptr_eq(&wait.socket, socket));
        drop(state);
        self.ring();
    }

    fn ring(&self) {
        if !self.rung.swap(true, SeqCst) {
            let _ = send(&self.bell, &[io::IoSlice::new(&[0])]);
        }
    }

    /// Serves for ever. `accepted` gets each connection; it has to be [forgotten](Reactor::forget) later.
    pub(super) fn run(&self, listener: &UnixListener, accepted: impl Fn(Arc<OwnedFd>)) {
        let mut pause = false;
        loop {
            let (waits, open) = self.waits();
            let accepting = !pause && open < MOST;
            let mut entries = vec![PollFd::new(self.heard.as_fd(), PollFlags::POLLIN)];
            entries.extend(waits.iter().map(|(socket, events)| PollFd::new(socket.as_fd(), *events)));
            if accepting {
                entries.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            }
            let timeout = if pause { PollTimeout::try_from(RETRY).unwrap_or(PollTimeout::MAX) } else { PollTimeout::NONE };
            pause = false;
            match poll(&mut entries, timeout) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the debug plane ends: it cannot wait for connections");
                    return;
                }
            }
            let ready: Vec<bool> = entries.iter().map(|entry| entry.any() == Some(true)).collect();
            if ready[0] {
                let _ = receive(&self.heard, &mut [0]);
                self.rung.store(false, SeqCst);
            }
            for ((socket, events), _) in waits.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
                self.wake(socket, *events);
            }
            if accepting && ready.last() == Some(&true) {
                match socket::accept4(listener, SockFlag::SOCK_CLOEXEC) {
                    Ok(socket) => {
                        self.state.lock().open += 1;
                        accepted(Arc::new(socket));
                    }
                    Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => {}
                    Err(error) => {
                        tracing::warn!(%error, "the debug plane cannot accept a connection");
                        pause = true;
                    }
                }
            }
        }
    }

    fn waits(&self) -> (Vec<(Arc<OwnedFd>, PollFlags)>, usize) {
        let state = self.state.lock();
        (state.waits.iter().map(|wait| (wait.socket.clone(), wait.events)).collect(), state.open)
    }

    fn wake(&self, socket: &Arc<OwnedFd>, events: PollFlags) {
        let mut state = self.state.lock();
        let place = state.waits.iter().position(|wait| Arc::ptr_eq(&wait.socket, socket) && wait.events == events);
        if let Some(wait) = place.map(|place| state.waits.swap_remove(place)) {
            drop(state);
            wait.waker.wake();
        }
    }
}

/// Sends without waiting; how many bytes went.
pub(super) fn send(socket: &impl AsFd, bytes: &[io::IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    socket::sendmsg::<()>(socket.as_fd().as_raw_fd(), bytes, &[], flags, None)
}

/// Receives without waiting; how many bytes came, 0 at the end.
pub(super) fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut into = [io::IoSliceMut::new(buffer)];
    let received = socket::recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut into, None, MsgFlags::MSG_DONTWAIT)?;
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::net::UnixStream,
        sync::mpsc,
        task::Wake,
        thread::{self, Thread},
    };

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// A reactor that runs, for the rest of the test program's life; its socket, and what it accepts.
    fn reactor(name: &str) -> (Arc<Reactor>, std::path::PathBuf, mpsc::Receiver<Arc<OwnedFd>>) {
        let path = std::env::temp_dir().join(format!("bulkhead-reactor-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let reactor = Arc::new(Reactor::new().unwrap());
        let (sender, accepted) = mpsc::channel();
        let running = reactor.clone();
        thread::spawn(move || running.run(&listener, |socket| sender.send(socket).unwrap()));
        (reactor, path, accepted)
    }

    #[test]
    fn who_waits_for_bytes_is_woken_when_they_come() {
        let (reactor, path, accepted) = reactor("bytes");
        let client = UnixStream::connect(&path).unwrap();
        let socket = accepted.recv().unwrap();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut buffer = [0; 8];
        for _ in 0..100 {
            assert_eq!(receive(&socket, &mut buffer), Err(Errno::EAGAIN));
            reactor.wait(&socket, PollFlags::POLLIN, &waker);
            assert_eq!(send(&client, &[io::IoSlice::new(b"ping")]), Ok(4));
            loop {
                match receive(&socket, &mut buffer) {
                    Err(Errno::EAGAIN) => thread::park(),
                    result => break assert_eq!(result, Ok(4)),
                }
            }
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_connection_that_is_forgotten_while_it_waits_is_closed() {
        let (reactor, path, accepted) = reactor("closed");
        let mut client = UnixStream::connect(&path).unwrap();
        let socket = accepted.recv().unwrap();
        reactor.wait(&socket, PollFlags::POLLIN, Waker::noop());
        reactor.forget(&socket);
        drop(socket);
        assert_eq!(io::Read::read(&mut client, &mut [0]).unwrap(), 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn no_more_than_so_many_are_accepted_at_a_time() {
        let (reactor, path, accepted) = reactor("many");
        let clients: Vec<_> = (0..=MOST).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let sockets: Vec<_> = (0..MOST).map(|_| accepted.recv().unwrap()).collect();
        assert!(accepted.recv_timeout(Duration::from_millis(50)).is_err());
        reactor.forget(&sockets[0]);
        accepted.recv().unwrap();
        drop(clients);
        std::fs::remove_file(path).unwrap();
    }
}
