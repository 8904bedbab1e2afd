use super::*;

fn sample() -> (Vec<Request>, Vec<Reply>) {
    let socket = SocketId::new(7, 9);
    let v4: SocketAddr = "10.0.0.1:80".parse().expect("an address");
    let v6: SocketAddr = "[fe80::1%4]:443".parse().expect("an address");
    let requests = vec![
        Request::Open { family: 2, kind: 1, protocol: 6, owner: 1000 },
        Request::Close { socket },
        Request::Bind { socket, address: v6 },
        Request::Connect { socket, peer: Some(v4) },
        Request::Connect { socket, peer: None },
        Request::Listen { socket, backlog: 128 },
        Request::Accept { socket },
        Request::Shutdown { socket, read: false, write: true },
        Request::LocalName { socket },
        Request::PeerName { socket },
        Request::Send { socket, data: vec![1; 3], to: Some(v4), flags: SEND_MORE },
        Request::Receive { socket, room: 100, flags: RECEIVE_PEEK },
        Request::TakeError { socket },
        Request::SetOption { socket, level: 6, name: 1, value: vec![1, 0, 0, 0] },
        Request::Option { socket, level: 0, name: 2 },
        Request::Interfaces,
    ];
    let interface = Interface {
        index: 2,
        name: "eth0".into(),
        hardware_address: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        up: true,
        addresses: vec![(v4.ip(), 24), (v6.ip(), 64)],
    };
    let replies = vec![
        Reply::Error(Errno::EAGAIN),
        Reply::Done,
        Reply::Opened(socket),
        Reply::Accepted { socket, peer: v6 },
        Reply::Name(v4),
        Reply::Sent(5),
        Reply::Received { data: vec![9; DATA_LIMIT], length: 70_000, from: Some(v6) },
        Reply::Received { data: vec![], length: 0, from: None },
        Reply::Pending(None),
        Reply::Pending(Some(Errno::ECONNREFUSED)),
        Reply::Value(vec![1]),
        Reply::Interfaces(vec![interface.clone(), Interface { hardware_address: None, ..interface }]),
    ];
    (requests, replies)
}

#[test]
fn messages_survive_the_wire() {
    let (requests, replies) = sample();
    let mut bytes = Vec::new();
    for request in requests {
        request.encode(&mut bytes);
        assert_eq!(Request::decode(&bytes), Ok(request));
    }
    for reply in replies {
        reply.encode(&mut bytes);
        assert_eq!(Reply::decode(&bytes), Ok(reply));
        assert!(bytes.len() <= crate::rpc::MAX_MESSAGE);
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let socket = SocketId::new(1, 1);
    let mut bytes = Vec::new();
    Request::Send { socket, data: vec![0; DATA_LIMIT + 1], to: None, flags: 0 }.encode(&mut bytes);
    assert!(Request::decode(&bytes).is_err());
    Request::SetOption { socket, level: 0, name: 0, value: vec![0; VALUE_LIMIT + 1] }.encode(&mut bytes);
    assert!(Request::decode(&bytes).is_err());
}

proptest::proptest! {
    #[test]
    fn a_damaged_message_is_an_error_or_another_message(at in 0_usize..4096, bit in 0_u32..8) {
        let (requests, replies) = sample();
        for bytes in requests.iter().map(|r| { let mut b = Vec::new(); r.encode(&mut b); b }) {
            let _ = Request::decode(&damaged(bytes, at, bit));
        }
        for bytes in replies.iter().map(|r| { let mut b = Vec::new(); r.encode(&mut b); b }) {
            let _ = Reply::decode(&damaged(bytes, at, bit));
        }
    }
}

fn damaged(mut bytes: Vec<u8>, at: usize, bit: u32) -> Vec<u8> {
    let at = at % bytes.len();
    bytes[at] ^= 1 << bit;
    bytes
}
