//! Scripts of segments, in the spirit of packetdrill: one side is an engine, the other is the script.
//!
//! A line is one of
//! - `+0.2`, time passes, and nothing may be sent meanwhile; or in front of one of the others, which then has to happen just then;
//! - `< FLAGS FROM:TO(LENGTH) [ack N] [win N] [urg N] [<OPTIONS>]`, the script sends;
//! - `> FLAGS FROM:TO(LENGTH) [ack N] [win N] [urg N] [<OPTIONS>]`, the engine has sent; what is not written is not looked at, but
//!   SACK blocks have to be written where there are any;
//! - `> nothing`, the engine sends nothing now;
//! - `# …`, a remark.
//!
//! Flags are `S F R . U E W` as in tcpdump (`.` acknowledges, `E` is ECE, `W` is CWR). Numbers count from each side's SYN.
//! Options are `mss N`, `wscale N`, `sackok`, `ts VALUE ECHO` (an echo of `.` is the engine's last value), `sack A:B C:D`.

use super::{Host, Options, host_with, mac, v4};
use bulkhead_netstack::{
    WriteOptions,
    link::offload::Received,
    socket::{Family, Handle, Kind},
    time::Instant,
};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpOption, TcpPacket, TcpSeqNumber};
use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

const PEER_ISS: u32 = 0xffff_f000;
const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// An engine and the script that plays its peer.
pub struct Script {
    pub host: Host,
    pub now: Instant,
    /// The engine's socket: the listener, then what it accepted; or the one that connects.
    pub socket: Handle,
    pub listener: Option<Handle>,
    engine_port: u16,
    peer_port: u16,
    pub engine_iss: Option<u32>,
    pub last_stamp: u32,
    sent: VecDeque<(Instant, Vec<u8>)>,
    /// TOS of what the script sends, and of the last that the engine sent.
    pub tos: u8,
    pub seen_tos: u8,
}

#[derive(Debug, Default, PartialEq, Clone)]
struct Line {
    flags: String,
    from: u32,
    length: u32,
    ack: Option<u32>,
    window: Option<u16>,
    urgent: Option<u16>,
    options: Option<String>,
}

impl Script {
    /// An engine that listens on port 80.
    pub fn server(options: Options) -> Script {
        let mut script = Script::new(options, 80, 5000);
        let stack = &mut script.host.stack;
        script.socket = stack.socket(Family::V4, Kind::Stream, 0).unwrap();
        stack.bind(script.socket, "0.0.0.0:80".parse().unwrap()).unwrap();
        stack.listen(script.socket, 1).unwrap();
        script.listener = Some(script.socket);
        script
    }

    /// An engine that connects to port 80 of the script.
    pub fn client(options: Options) -> Script {
        let mut script = Script::new(options, 4000, 80);
        let (stack, now) = (&mut script.host.stack, script.now);
        script.socket = stack.socket(Family::V4, Kind::Stream, 0).unwrap();
        stack.bind(script.socket, "0.0.0.0:4000".parse().unwrap()).unwrap();
        let error = stack.connect(script.socket, "10.0.0.2:80".parse().unwrap(), now).unwrap_err();
        assert_eq!(error, bulkhead_netstack::Error::InProgress);
        script
    }

    /// A server whose handshake is made, with these options in the script's SYN, and accepted.
    pub fn connected(syn: &str) -> Script {
        Script::connected_with(Options::new(1), syn)
    }

    pub fn connected_with(options: Options, syn: &str) -> Script {
        Script::connected_after(options, syn, 0.0)
    }

    /// One whose handshake takes so many seconds.
    pub fn connected_after(options: Options, syn: &str, pause: f64) -> Script {
        let mut script = Script::server(options);
        let stamps = syn.contains("ts");
        script.run(&format!("< S 0:0(0) win 65535 <{syn}>\n> S. 0:0(0) ack 1"));
        script.run(&format!("+{pause} < . 1:1(0) ack 1 win 65535{}", if stamps { " <ts 100 .>" } else { "" }));
        script.accept();
        script
    }

    pub fn accept(&mut self) {
        self.socket = self.host.stack.accept(self.listener.unwrap()).unwrap().0;
    }

    fn new(options: Options, engine_port: u16, peer_port: u16) -> Script {
        let mut host = host_with(1, options);
        let now = Instant::from_millis(1000);
        let socket = host.stack.socket(Family::V4, Kind::Datagram, 0).unwrap();
        host.stack.set_neighbour(host.eth, v4(2), mac(2), now).unwrap();
        Script {
            host,
            now,
            socket,
            listener: None,
            engine_port,
            peer_port,
            engine_iss: None,
            last_stamp: 0,
            sent: VecDeque::new(),
            tos: 0,
            seen_tos: 0,
        }
    }

    /// The script begins anew from another port, with the engine as it is.
    pub fn reconnect(&mut self, peer_port: u16) {
        self.peer_port = peer_port;
        self.engine_iss = None;
    }

    /// The script goes on with an earlier connection, of which it knows the engine's first number.
    pub fn resume(&mut self, peer_port: u16, engine_iss: Option<u32>) {
        self.peer_port = peer_port;
        self.engine_iss = engine_iss;
    }

    pub fn write(&mut self, length: usize) -> usize {
        self.write_with(length, WriteOptions::default())
    }

    pub fn write_with(&mut self, length: usize, options: WriteOptions) -> usize {
        let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
        self.host.stack.send(self.socket, &bytes, options, self.now).unwrap()
    }

    pub fn read(&mut self, most: usize) -> Result<usize, bulkhead_netstack::Error> {
        self.host.stack.recv(self.socket, &mut vec![0; most], false, self.now)
    }

    /// Runs lines.
    pub fn run(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            self.line(line);
        }
    }

    fn line(&mut self, line: &str) {
        self.collect();
        let mut rest = line;
        if let Some(time) = line.strip_prefix('+') {
            let (seconds, after) = time.split_once(' ').unwrap_or((time, ""));
            let pause = Duration::from_secs_f64(seconds.parse().unwrap());
            assert!(self.sent.is_empty(), "`{line}`: before it was sent: {}", self.waiting());
            let until = self.now + pause;
            while let Some(at) = self.host.stack.next_deadline().filter(|at| *at < until) {
                self.now = self.now.max(at);
                self.host.stack.advance(self.now);
                self.collect();
                assert!(self.sent.is_empty(), "`{line}`: too early, at {:?}: {}", until.since(self.now), self.waiting());
            }
            self.now = until;
            self.host.stack.advance(self.now);
            self.collect();
            rest = after.trim();
            if rest.starts_with("> ") && rest != "> nothing" && self.sent.is_empty() {
                self.tolerate();
            }
        }
        match rest.split_once(' ') {
            Some(("<", segment)) => self.inject(&parse(segment)),
            Some((">", "nothing")) => assert!(self.sent.is_empty(), "`{line}`: was sent: {}", self.waiting()),
            Some((">", segment)) => {
                let (_, frame) = self.sent.pop_front().unwrap_or_else(|| panic!("`{line}`: nothing was sent"));
                let (seen, text) = self.describe(&frame);
                self.compare(&parse(segment), &seen, line, &text);
            }
            None if rest.is_empty() => {}
            _ => panic!("`{line}` is no line of a script"),
        }
    }

    /// What is due within a few milliseconds is in time.
    fn tolerate(&mut self) {
        let until = self.now + Duration::from_millis(4);
        while self.sent.is_empty()
            && let Some(at) = self.host.stack.next_deadline().filter(|at| *at <= until)
        {
            self.now = self.now.max(at);
            self.host.stack.advance(self.now);
            self.collect();
        }
    }

    pub fn collect(&mut self) {
        let now = self.now;
        for frame in self.host.drain(now) {
            self.sent.push_back((now, frame));
        }
    }

    /// What the engine has sent and the script has not looked at.
    pub fn waiting(&mut self) -> String {
        let frames: Vec<Vec<u8>> = self.sent.iter().map(|(_, frame)| frame.clone()).collect();
        frames.iter().map(|frame| self.describe(frame).1).collect::<Vec<_>>().join("; ")
    }

    /// Forgets what was sent; says how many payload bytes there were.
    pub fn skip(&mut self) -> usize {
        self.collect();
        let frames = std::mem::take(&mut self.sent);
        frames.iter().map(|(_, frame)| self.describe(frame).0.length as usize).sum()
    }

    fn describe(&mut self, frame: &[u8]) -> (Line, String) {
        let ip = Ipv4Packet::new_checked(EthernetFrame::new_checked(frame).unwrap().payload()).unwrap();
        assert!(ip.verify_checksum());
        self.seen_tos = ip.dscp() << 2 | ip.ecn();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        let seq = tcp.seq_number().0.cast_unsigned();
        if tcp.syn() {
            self.engine_iss = Some(seq);
        }
        let iss = self.engine_iss.unwrap_or(if tcp.rst() { 0 } else { seq });
        let mut flags = String::new();
        for (set, letter) in [
            (tcp.syn(), 'S'),
            (tcp.fin(), 'F'),
            (tcp.rst(), 'R'),
            (tcp.ack(), '.'),
            (tcp.urg(), 'U'),
            (tcp.ece(), 'E'),
            (tcp.cwr(), 'W'),
        ] {
            if set {
                flags.push(letter);
            }
        }
        let mut options = Vec::new();
        let mut bytes = tcp.options();
        while let Ok((after, option)) = TcpOption::parse(bytes) {
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(mss) => options.push(format!("mss {mss}")),
                TcpOption::WindowScale(shift) => options.push(format!("wscale {shift}")),
                TcpOption::SackPermitted => options.push("sackok".into()),
                TcpOption::TimeStamp { tsval, tsecr } => {
                    self.last_stamp = tsval;
                    options.push(format!("ts {tsecr}"));
                }
                TcpOption::SackRange(ranges) => {
                    let relative = |number: u32| number.wrapping_sub(PEER_ISS);
                    let ranges: Vec<String> =
                        ranges.iter().flatten().map(|&(from, to)| format!("{}:{}", relative(from), relative(to))).collect();
                    options.push(format!("sack {}", ranges.join(" ")));
                }
                _ => {}
            }
            bytes = after;
        }
        let seen = Line {
            flags,
            from: seq.wrapping_sub(iss),
            length: tcp.payload().len() as u32,
            ack: tcp.ack().then(|| tcp.ack_number().0.cast_unsigned().wrapping_sub(PEER_ISS)),
            window: Some(tcp.window_len()),
            urgent: tcp.urg().then(|| tcp.urgent_at()),
            options: Some(options.join(", ")),
        };
        let text = format!("{seen:?}");
        (seen, text)
    }

    fn compare(&self, want: &Line, seen: &Line, line: &str, text: &str) {
        let same = want.flags == seen.flags && want.from == seen.from && want.length == seen.length;
        assert!(same, "`{line}`: but was {text}");
        for (wanted, is) in [
            (want.ack, seen.ack),
            (want.window.map(u32::from), seen.window.map(u32::from)),
            (want.urgent.map(u32::from), seen.urgent.map(u32::from)),
        ] {
            assert!(wanted.is_none() || wanted == is, "`{line}`: but was {text}");
        }
        let of = |options: &Option<String>| -> Vec<String> {
            options.iter().flat_map(|all| all.split(',')).map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
        };
        let (wanted, is) = (of(&want.options), of(&seen.options));
        for option in &wanted {
            let found = if option == "ts" { is.iter().any(|one| one.starts_with("ts")) } else { is.contains(option) };
            assert!(found, "`{line}`: but was {text}");
        }
        let sacks = |all: &[String]| all.iter().any(|one| one.starts_with("sack "));
        assert_eq!(sacks(&wanted), sacks(&is), "`{line}`: but was {text}");
    }

    fn inject(&mut self, line: &Line) {
        let frame = self.frame(line);
        let eth = self.host.eth;
        self.host.stack.receive(eth, &frame, Received::default(), self.now);
    }

    fn frame(&self, line: &Line) -> Vec<u8> {
        let iss = self.engine_iss.unwrap_or(0);
        let mut options = vec![];
        let mut add = |option: TcpOption<'_>| {
            let mut bytes = vec![1; option.buffer_len()];
            option.emit(&mut bytes);
            options.extend(bytes);
        };
        for option in line.options.iter().flat_map(|all| all.split(',')).map(str::trim).filter(|one| !one.is_empty()) {
            let words: Vec<&str> = option.split_whitespace().collect();
            match words[..] {
                ["mss", mss] => add(TcpOption::MaxSegmentSize(mss.parse().unwrap())),
                ["wscale", shift] => add(TcpOption::WindowScale(shift.parse().unwrap())),
                ["sackok"] => add(TcpOption::SackPermitted),
                ["ts", value, echo] => {
                    let tsecr = if echo == "." { self.last_stamp } else { echo.parse().unwrap() };
                    add(TcpOption::TimeStamp { tsval: value.parse().unwrap(), tsecr });
                }
                ["sack", ref ranges @ ..] => {
                    let mut blocks = [None; 3];
                    for (block, range) in blocks.iter_mut().zip(ranges) {
                        let (from, to) = range.split_once(':').unwrap();
                        let wire = |number: &str| iss.wrapping_add(number.parse().unwrap());
                        *block = Some((wire(from), wire(to)));
                    }
                    add(TcpOption::SackRange(blocks));
                }
                _ => panic!("`{option}` is no option"),
            }
        }
        while !options.len().is_multiple_of(4) {
            options.push(1);
        }
        let header = 20 + options.len();
        let total = 20 + header + line.length as usize;
        let mut frame = vec![0; 14 + total];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        ethernet.set_dst_addr(mac(1));
        ethernet.set_src_addr(mac(2));
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        let mut ip = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        ip.set_version(4);
        ip.set_header_len(20);
        ip.set_dscp(self.tos >> 2);
        ip.set_ecn(self.tos & 3);
        ip.set_total_len(total as u16);
        ip.set_hop_limit(64);
        ip.set_next_header(IpProtocol::Tcp);
        ip.set_src_addr(PEER);
        ip.set_dst_addr(ENGINE);
        ip.fill_checksum();
        let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
        tcp.set_src_port(self.peer_port);
        tcp.set_dst_port(self.engine_port);
        tcp.set_seq_number(TcpSeqNumber(PEER_ISS.wrapping_add(line.from).cast_signed()));
        tcp.set_ack_number(TcpSeqNumber(line.ack.map_or(0, |ack| iss.wrapping_add(ack)).cast_signed()));
        tcp.set_header_len(header as u8);
        let has = |letter| line.flags.contains(letter);
        tcp.set_syn(has('S'));
        tcp.set_fin(has('F'));
        tcp.set_rst(has('R'));
        tcp.set_ack(has('.'));
        tcp.set_urg(has('U'));
        tcp.set_ece(has('E'));
        tcp.set_cwr(has('W'));
        tcp.set_window_len(line.window.unwrap_or(65_535));
        tcp.set_urgent_at(line.urgent.unwrap_or(0));
        tcp.options_mut().copy_from_slice(&options);
        for (at, byte) in tcp.payload_mut().iter_mut().enumerate() {
            *byte = (line.from + at as u32) as u8;
        }
        tcp.fill_checksum(&PEER.into(), &ENGINE.into());
        frame
    }

    /// A router says that a segment beginning at `from` was too long for it.
    pub fn too_big(&mut self, from: u32, mtu: u16) {
        let mut quoted = vec![0x45, 0, 5, 220, 0, 0, 0x40, 0, 64, 6, 0, 0];
        quoted.extend(ENGINE.octets());
        quoted.extend(PEER.octets());
        quoted.extend(self.engine_port.to_be_bytes());
        quoted.extend(self.peer_port.to_be_bytes());
        quoted.extend(self.engine_iss.unwrap().wrapping_add(from).to_be_bytes());
        let total = 20 + 8 + quoted.len();
        let mut frame = vec![0; 14 + total];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        ethernet.set_dst_addr(mac(1));
        ethernet.set_src_addr(mac(2));
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        let mut ip = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        ip.set_version(4);
        ip.set_header_len(20);
        ip.set_total_len(total as u16);
        ip.set_hop_limit(64);
        ip.set_next_header(IpProtocol::Icmp);
        ip.set_src_addr(Ipv4Addr::new(10, 0, 0, 9));
        ip.set_dst_addr(ENGINE);
        ip.fill_checksum();
        let message = ip.payload_mut();
        message[8..].copy_from_slice(&quoted);
        message[..2].copy_from_slice(&[3, 4]);
        message[6..8].copy_from_slice(&mtu.to_be_bytes());
        smoltcp::wire::Icmpv4Packet::new_unchecked(message).fill_checksum();
        let eth = self.host.eth;
        self.host.stack.receive(eth, &frame, Received::default(), self.now);
    }
}

fn parse(text: &str) -> Line {
    let (text, options) = match text.split_once('<') {
        Some((text, options)) => (text, Some(options.trim_end_matches('>').to_owned())),
        None => (text, None),
    };
    let mut words = text.split_whitespace();
    let flags = words.next().unwrap().to_owned();
    let range = words.next().unwrap_or_else(|| panic!("`{text}` has no range"));
    let (from, rest) = range.split_once(':').unwrap();
    let (to, length) = rest.trim_end_matches(')').split_once('(').unwrap();
    let (from, to, length): (u32, u32, u32) = (from.parse().unwrap(), to.parse().unwrap(), length.parse().unwrap());
    assert_eq!(to - from, length, "`{text}` does not add up");
    let mut line = Line { flags, from, length, options, ..Line::default() };
    while let Some(word) = words.next() {
        let number: u32 = words.next().unwrap().parse().unwrap();
        match word {
            "ack" => line.ack = Some(number),
            "win" => line.window = Some(number as u16),
            "urg" => line.urgent = Some(number as u16),
            _ => panic!("`{word}` in `{text}`"),
        }
    }
    line
}
