//! Promises that need no guest: bytes in order, ends and errors, room and who is told of it.

use std::sync::Arc;

use bulkhead_ipc::Errno;

use super::{
    names::World,
    socket::{Link, MOST_DATAGRAMS, UnixSocket},
};
use crate::{
    executor::Readiness,
    fs::OpenFile,
    socket::{Incoming, Outgoing, Shutdown, Socket, SocketFile},
    task::Credentials,
};

fn pair(kind: i32) -> [(Arc<UnixSocket>, Arc<OpenFile>); 2] {
    let world = Arc::new(World::default());
    let [a, b] = [(); 2].map(|()| UnixSocket::new(&world, kind, &Credentials::default()));
    *a.link.lock() = Link::Connected(b.clone());
    *b.link.lock() = Link::Connected(a.clone());
    [a, b].map(|socket| (socket.clone(), SocketFile::open(socket, 0)))
}

fn send(socket: &UnixSocket, bytes: &[u8]) -> Result<usize, Errno> {
    let mut source = bytes;
    socket.send(&mut Outgoing::bytes(None, &mut source, 0))
}

fn receive(socket: &UnixSocket, most: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; most];
    let mut sink = &mut bytes[..];
    let n = socket.receive(&mut Incoming::bytes(&mut sink, 0))?;
    bytes.truncate(n);
    Ok(bytes)
}

#[test]
fn a_stream_keeps_its_order_whatever_the_sizes() {
    let [(a, _a), (b, _b)] = pair(libc::SOCK_STREAM);
    let (mut next_in, mut next_out) = (0u32, 0u32);
    for round in 1..300u32 {
        let block: Vec<u8> = (0..round * 131 % 50_000).map(|n| next_in.wrapping_add(n) as u8).collect();
        next_in = next_in.wrapping_add(send(&a, &block).unwrap_or(0) as u32);
        while let Ok(bytes) = receive(&b, (round as usize * 977) % 40_000 + 1) {
            for byte in bytes {
                assert_eq!(byte, next_out as u8);
                next_out = next_out.wrapping_add(1);
            }
        }
    }
    assert_eq!(next_in, next_out);
    assert_eq!(a.account.charged(), 0);
}

#[test]
fn a_sender_waits_for_room_and_is_writable_when_there_is_much() {
    let [(a, _a), (b, _b)] = pair(libc::SOCK_STREAM);
    while send(&a, &[7; 1000]).is_ok() {}
    assert_eq!(send(&a, &[7; 1]), Err(Errno::EAGAIN));
    assert!(!a.poll().contains(Readiness::OUT));
    receive(&b, 2000).unwrap();
    assert_eq!(send(&a, &[7; 1]), Ok(1));
    assert!(!a.poll().contains(Readiness::OUT));
    while receive(&b, 65_536).is_ok() {}
    assert!(a.poll().contains(Readiness::OUT));
}

#[test]
fn unread_bytes_reset_the_peer_of_a_closed_socket() {
    let [(a, a_file), (b, _b)] = pair(libc::SOCK_STREAM);
    send(&a, b"before").unwrap();
    send(&b, b"unread").unwrap();
    drop(a_file);
    assert!(b.poll().contains(Readiness::HUP | Readiness::RDHUP | Readiness::IN | Readiness::ERR));
    assert_eq!(receive(&b, 100).unwrap(), b"before");
    assert_eq!(receive(&b, 100), Err(Errno::ECONNRESET));
    assert_eq!(receive(&b, 100).unwrap(), b"");
    assert_eq!(send(&b, b"x"), Err(Errno::EPIPE));
    assert_eq!(b.account.charged(), 0);
}

#[test]
fn each_half_ends_by_itself() {
    let [(a, _a), (b, _b)] = pair(libc::SOCK_SEQPACKET);
    a.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receive(&b, 10).unwrap(), b"");
    assert_eq!(send(&a, b"x"), Err(Errno::EPIPE));
    assert_eq!(send(&b, b"back"), Ok(4));
    assert_eq!(receive(&a, 10).unwrap(), b"back");
}

#[test]
fn messages_stay_whole_and_empty_ones_count() {
    let [(a, _a), (b, _b)] = pair(libc::SOCK_DGRAM);
    for message in [&b"first"[..], b"", b"third"] {
        send(&a, message).unwrap();
    }
    assert_eq!(receive(&b, 2).unwrap(), b"fi");
    assert_eq!(receive(&b, 9).unwrap(), b"");
    assert_eq!(receive(&b, 9).unwrap(), b"third");
    assert_eq!(receive(&b, 9), Err(Errno::EAGAIN));
    assert_eq!(send(&a, &vec![0; 300_000]), Err(Errno::EMSGSIZE));
}

#[test]
fn who_finds_a_datagram_queue_full_is_writable_again_when_one_was_received() {
    let world = Arc::new(World::default());
    let [server, client] = [(); 2].map(|()| UnixSocket::new(&world, libc::SOCK_DGRAM, &Credentials::default()));
    let _files = [server.clone(), client.clone()].map(|socket| SocketFile::open(socket, 0));
    *client.link.lock() = Link::Connected(server.clone());
    for _ in 0..=MOST_DATAGRAMS {
        send(&client, b"x").unwrap();
    }
    assert_eq!(send(&client, b"x"), Err(Errno::EAGAIN));
    assert!(!client.poll().contains(Readiness::OUT));
    assert_eq!(server.inbox.lock().crowd.len(), 1);
    receive(&server, 1).unwrap();
    assert!(server.inbox.lock().crowd.is_empty());
    assert!(client.poll().contains(Readiness::OUT));
}
