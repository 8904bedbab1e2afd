use super::*;
use proptest::prelude::*;
use std::{
    io::{Read, Seek, Write},
    os::fd::AsFd,
    thread,
    time::Instant,
};

fn connected() -> (Client, Server) {
    let (client, server) = pair().unwrap();
    (Client::new(client).unwrap(), Server::new(server).unwrap())
}

/// Answers with the request backwards and the fds it came with, until the client has gone.
fn mirror(mut server: Server) -> RpcError {
    let mut message = Vec::new();
    loop {
        let fds = match server.receive(&mut message) {
            Ok(fds) => fds,
            Err(error) => return error,
        };
        message.reverse();
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        if let Err(error) = server.reply(&message, &fds) {
            return error;
        }
    }
}

#[test]
fn calls_of_every_size_are_answered_and_the_end_is_noticed_at_once() {
    let (mut client, server) = connected();
    let answering = thread::spawn(move || mirror(server));
    let mut reply = Vec::new();
    for size in [0, 1, 7, 8, 9, 4096, MAX_MESSAGE - 1, MAX_MESSAGE, 3] {
        let mut message: Vec<u8> = (0..size).map(|n| n as u8).collect();
        assert!(client.call(&message, &[], &mut reply).unwrap().is_empty());
        message.reverse();
        assert_eq!(reply, message);
    }
    let start = Instant::now();
    drop(client);
    assert!(matches!(answering.join().unwrap(), RpcError::Closed));
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[test]
fn fds_travel_with_their_call() {
    let (mut client, server) = connected();
    let answering = thread::spawn(move || mirror(server));
    let mut reply = Vec::new();
    for n in 0..10u8 {
        let file = nix::sys::memfd::memfd_create(c"test", nix::sys::memfd::MFdFlags::empty()).unwrap();
        std::fs::File::from(file.try_clone().unwrap()).write_all(&[n]).unwrap();
        let mut fds = client.call(b"here", &[file.as_fd()], &mut reply).unwrap();
        let mut back = std::fs::File::from(fds.pop().unwrap());
        back.rewind().unwrap();
        let mut content = Vec::new();
        back.read_to_end(&mut content).unwrap();
        assert_eq!(content, [n]);
        assert!(client.call(b"nothing", &[], &mut reply).unwrap().is_empty());
    }
    drop(client);
    answering.join().unwrap();
}

#[test]
fn a_caller_notices_that_the_server_has_died_without_a_word() {
    let (client, server) = pair().unwrap();
    let mut client = Client::new(client).unwrap();
    // As when the process is killed: the socket closes, nobody touches the ring.
    let dying = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(server);
    });
    let mut reply = Vec::new();
    assert!(matches!(client.call(b"hello?", &[], &mut reply), Err(RpcError::Closed)));
    assert!(matches!(client.call(b"hello??", &[], &mut reply), Err(RpcError::Closed)));
    dying.join().unwrap();
}

#[test]
fn too_much_is_refused_without_breaking_the_connection() {
    let (mut client, server) = connected();
    let answering = thread::spawn(move || mirror(server));
    let mut reply = Vec::new();
    assert!(matches!(client.call(&vec![0; MAX_MESSAGE + 1], &[], &mut reply), Err(RpcError::TooLarge(_))));
    let null = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(client.call(b"", &vec![null.as_fd(); MAX_FDS + 1], &mut reply), Err(RpcError::TooLarge(_))));
    assert_eq!(client.call(b"", &vec![null.as_fd(); MAX_FDS], &mut reply).unwrap().len(), MAX_FDS);
    drop(client);
    answering.join().unwrap();
}

#[test]
fn a_reply_that_nobody_asked_for_is_refused() {
    let (_client, mut server) = connected();
    assert!(matches!(server.reply(b"surprise", &[]), Err(RpcError::NotAsked)));
}

/// What a hostile client may do to the connection between two looks of the server.
#[derive(Clone, Debug)]
enum Trick {
    Scribble { at: usize, bytes: Vec<u8> },
    Request { length: usize, fds: usize },
    Packet { bytes: Vec<u8>, fds: usize },
}

fn trick() -> impl Strategy<Value = Trick> {
    prop_oneof![
        (0..1024usize, prop::collection::vec(any::<u8>(), 1..64)).prop_map(|(at, bytes)| Trick::Scribble { at, bytes }),
        (0..200usize, 0..3usize).prop_map(|(length, fds)| Trick::Request { length, fds }),
        (prop::collection::vec(any::<u8>(), 1..64), 0..3usize).prop_map(|(bytes, fds)| Trick::Packet { bytes, fds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    /// A server whose client writes whatever it likes into the ring and the socket gets bounded messages or an error, never
    /// waits for something that does not come, and never panics.
    #[test]
    fn a_scribbling_client_gets_errors(tricks in prop::collection::vec(trick(), 1..12)) {
        let (client, server) = pair().unwrap();
        let scribble = std::fs::File::from(client.ring.try_clone().unwrap());
        let socket = client.socket.try_clone().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut server = Server::new(server).unwrap();
        let mut link = Client::new(client).unwrap().link;
        let mut request = Vec::new();
        for trick in tricks {
            match trick {
                Trick::Scribble { at, bytes } => {
                    std::os::unix::fs::FileExt::write_all_at(&scribble, &bytes, at as u64).unwrap();
                }
                Trick::Request { length, fds } => {
                    let _ = link.send(&vec![7; length], &vec![null.as_fd(); fds]);
                }
                Trick::Packet { bytes, fds } => {
                    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
                    use std::os::fd::AsRawFd;
                    let fds = vec![null.as_raw_fd(); fds];
                    let rights = [ControlMessage::ScmRights(&fds)];
                    let _ = sendmsg::<()>(
                        socket.as_raw_fd(),
                        &[std::io::IoSlice::new(&bytes)],
                        if fds.is_empty() { &[] } else { &rights },
                        MsgFlags::MSG_DONTWAIT,
                        None,
                    );
                }
            }
            if server.link.incoming.wait(Duration::ZERO) == Waited::Ready {
                match server.receive(&mut request) {
                    Ok(fds) => {
                        prop_assert!(request.len() <= MAX_MESSAGE && fds.len() <= MAX_FDS);
                        let _ = server.reply(&request, &[]);
                    }
                    Err(_) => break,
                }
            }
        }
    }
}
