//! Structures in guest memory, in the layouts of the kernel's ABI on x86-64.

use std::fmt::Write;

use super::{
    decode::{Decoder, address, half, hex, octal, quoted, word},
    names,
    signatures::Structure,
};
use crate::{abi::UserAddress, signal::SignalInfo};

/// The structure at an address, or the address if it cannot be read. `count` is how many elements an array has, or how many bytes
/// something without a fixed size.
pub(super) fn structure(decoder: &Decoder<'_>, structure: Structure, at: u64, count: u64) -> String {
    if at == 0 {
        return "NULL".to_owned();
    }
    let fixed = |size: usize, show: fn(&[u8]) -> String| {
        let mut bytes = vec![0; size];
        decoder.memory.read(UserAddress(at), &mut bytes).map_or_else(|_| address(at), |()| show(&bytes))
    };
    match structure {
        Structure::Stat => fixed(144, |b| stat(half(b, 24), word(b, 48), word(b, 40), half(b, 28), half(b, 32))),
        // stx_mode is 16 bits wide.
        Structure::Statx => fixed(256, |b| stat(half(b, 28) & 0xffff, word(b, 40), 0, half(b, 20), half(b, 24))),
        Structure::Timespec => fixed(16, |b| timespec(b, 0)),
        Structure::Timeval => fixed(16, |b| timeval(b, 0)),
        Structure::Itimerval => fixed(32, |b| format!("{{it_interval={}, it_value={}}}", timeval(b, 0), timeval(b, 16))),
        Structure::Itimerspec => fixed(32, |b| format!("{{it_interval={}, it_value={}}}", timespec(b, 0), timespec(b, 16))),
        Structure::SignalSet => fixed(8, |b| signal_set(word(b, 0))),
        Structure::SignalAction => fixed(32, signal_action),
        Structure::SignalInfo => fixed(128, |b| {
            let fields = [word(b, 16), word(b, 24), word(b, 32), word(b, 40)];
            siginfo(&SignalInfo { signal: half(b, 0) as i32, code: half(b, 8) as i32, errno: half(b, 4) as i32, fields })
        }),
        Structure::PollFds => decoder.array(at, count, 8, |b| {
            let (events, happened) = (half(b, 4) & 0xffff, half(b, 4) >> 16);
            let mut text = format!("{{fd={}, events={}", half(b, 0) as i32, names::flags(&names::POLL, events.into()));
            if happened != 0 {
                let _ = write!(text, ", revents={}", names::flags(&names::POLL, happened.into()));
            }
            text + "}"
        }),
        Structure::Event => fixed(12, event),
        Structure::Events => decoder.array(at, count, 12, event),
        Structure::ResourceLimit => fixed(16, |b| format!("{{rlim_cur={}, rlim_max={}}}", limit(word(b, 0)), limit(word(b, 8)))),
        Structure::WaitStatus => fixed(4, |b| format!("[{}]", wait_status(half(b, 0) as i32))),
        Structure::Int => fixed(4, |b| format!("[{}]", half(b, 0) as i32)),
        Structure::Fds => fixed(8, |b| format!("[{}, {}]", half(b, 0) as i32, half(b, 4) as i32)),
        Structure::Utsname => fixed(390, |b| {
            let field = |at: usize| {
                let field = &b[at * 65..(at + 1) * 65];
                quoted(&field[..field.iter().position(|&byte| byte == 0).unwrap_or(65)], false)
            };
            format!("{{sysname={}, nodename={}, release={}, ...}}", field(0), field(1), field(2))
        }),
        Structure::SocketAddress => socket_address(decoder, at),
        Structure::MessageHeader => message_header(decoder, at),
        Structure::Clone3 => fixed(64, |b| {
            let signal = names::signal_name(word(b, 32) as i32);
            format!(
                "{{flags={}, exit_signal={signal}, stack={}, ...}}",
                names::flags(&names::CLONE, word(b, 0)),
                hex(word(b, 40))
            )
        }),
        Structure::OpenHow => fixed(24, |b| {
            format!("{{flags={}, mode={}, resolve={}}}", open_flags(word(b, 0)), octal(word(b, 8) as u32), hex(word(b, 16)))
        }),
        Structure::Entries => format!("{} /* {count} bytes of entries */", address(at)),
    }
}

fn stat(mode: u32, size: u64, rdev: u64, uid: u32, gid: u32) -> String {
    let kind = names::one(&names::FILE_TYPE, u64::from(mode & libc::S_IFMT));
    let permissions = octal(mode & !libc::S_IFMT);
    let rest = match mode & libc::S_IFMT {
        libc::S_IFCHR | libc::S_IFBLK if rdev != 0 => format!("st_rdev={}:{}", libc::major(rdev), libc::minor(rdev)),
        _ => format!("st_size={size}"),
    };
    format!("{{st_mode={kind}|{permissions}, st_uid={uid}, st_gid={gid}, {rest}, ...}}")
}

fn timespec(bytes: &[u8], at: usize) -> String {
    format!("{{tv_sec={}, tv_nsec={}}}", word(bytes, at) as i64, word(bytes, at + 8) as i64)
}

fn timeval(bytes: &[u8], at: usize) -> String {
    format!("{{tv_sec={}, tv_usec={}}}", word(bytes, at) as i64, word(bytes, at + 8) as i64)
}

fn limit(value: u64) -> String {
    if value == u64::MAX { "RLIM64_INFINITY".to_owned() } else { value.to_string() }
}

fn event(bytes: &[u8]) -> String {
    format!("{{events={}, data={}}}", names::flags(&names::EPOLL, half(bytes, 0).into()), hex(word(bytes, 4)))
}

/// `[CHLD INT]`, or what is not in it, if that is shorter: `~[KILL]`.
fn signal_set(set: u64) -> String {
    let list = |set: u64| {
        let members = (1..=64).filter(|signal| set & 1 << (signal - 1) != 0);
        members.map(|signal| names::signal_name(signal).trim_start_matches("SIG").to_owned()).collect::<Vec<_>>().join(" ")
    };
    if set.count_ones() > 32 { format!("~[{}]", list(!set)) } else { format!("[{}]", list(set)) }
}

fn signal_action(bytes: &[u8]) -> String {
    /// SA_RESTORER.
    const RESTORER: u64 = 0x0400_0000;
    let handler = match word(bytes, 0) {
        0 => "SIG_DFL".to_owned(),
        1 => "SIG_IGN".to_owned(),
        handler => hex(handler),
    };
    let flags = names::flags(&names::SIGNAL_ACTION, word(bytes, 8) & 0xffff_ffff & !RESTORER);
    format!("{{sa_handler={handler}, sa_mask={}, sa_flags={flags}}}", signal_set(word(bytes, 24)))
}

/// `{WIFEXITED(s) && WEXITSTATUS(s) == 0}`.
fn wait_status(status: i32) -> String {
    if libc::WIFEXITED(status) {
        format!("{{WIFEXITED(s) && WEXITSTATUS(s) == {}}}", libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        format!("{{WIFSIGNALED(s) && WTERMSIG(s) == {}}}", names::signal_name(libc::WTERMSIG(status)))
    } else if libc::WIFSTOPPED(status) {
        format!("{{WIFSTOPPED(s) && WSTOPSIG(s) == {}}}", names::signal_name(libc::WSTOPSIG(status)))
    } else {
        format!("{{WIFCONTINUED(s)}} /* {status:#x} */")
    }
}

/// siginfo_t.
pub(super) fn siginfo(info: &SignalInfo) -> String {
    let mut text = format!("{{si_signo={}, si_code={}", names::signal_name(info.signal), code(info));
    match info.signal {
        libc::SIGCHLD if info.code > 0 => {
            let _ = write!(text, ", si_pid={}, si_uid={}, si_status={}", info.pid(), info.uid(), info.fields[1] as i32);
        }
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP if info.code > 0 => {
            let _ = write!(text, ", si_addr={}", address(info.fields[0]));
        }
        _ if matches!(info.code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL) => {
            let _ = write!(text, ", si_pid={}, si_uid={}", info.pid(), info.uid());
        }
        _ => {}
    }
    text + "}"
}

fn code(info: &SignalInfo) -> String {
    let name = match (info.code, info.signal) {
        (libc::SI_USER, _) => "SI_USER",
        (libc::SI_KERNEL, _) => "SI_KERNEL",
        (libc::SI_QUEUE, _) => "SI_QUEUE",
        (libc::SI_TIMER, _) => "SI_TIMER",
        (libc::SI_TKILL, _) => "SI_TKILL",
        (libc::CLD_EXITED, libc::SIGCHLD) => "CLD_EXITED",
        (libc::CLD_KILLED, libc::SIGCHLD) => "CLD_KILLED",
        (libc::CLD_DUMPED, libc::SIGCHLD) => "CLD_DUMPED",
        (libc::CLD_STOPPED, libc::SIGCHLD) => "CLD_STOPPED",
        (libc::CLD_CONTINUED, libc::SIGCHLD) => "CLD_CONTINUED",
        (1, libc::SIGSEGV) => "SEGV_MAPERR",
        (2, libc::SIGSEGV) => "SEGV_ACCERR",
        _ => return info.code.to_string(),
    };
    name.to_owned()
}

/// sockaddr of the families that there are; its length is not needed, as none is longer than what follows it shows.
fn socket_address(decoder: &Decoder<'_>, at: u64) -> String {
    let mut bytes = [0; 110];
    let Ok(length) = decoder.memory.read_some(UserAddress(at), &mut bytes) else { return address(at) };
    let bytes = &bytes[..length];
    let port = |b: &[u8]| u16::from_be_bytes([b[2], b[3]]);
    match half(bytes, 0) as u16 as i32 {
        libc::AF_UNIX if length > 2 => {
            let path = &bytes[2..];
            let (mark, path) = if path[0] == 0 { ("@", &path[1..]) } else { ("", path) };
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
            format!("{{sa_family=AF_UNIX, sun_path={mark}{}}}", quoted(&path[..end], false))
        }
        libc::AF_INET if length >= 8 => {
            let ip = std::net::Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            format!("{{sa_family=AF_INET, sin_port={}, sin_addr={ip}}}", port(bytes))
        }
        libc::AF_INET6 if length >= 24 => {
            let ip: [u8; 16] = std::array::from_fn(|at| bytes[8 + at]);
            format!("{{sa_family=AF_INET6, sin6_port={}, sin6_addr={}}}", port(bytes), std::net::Ipv6Addr::from(ip))
        }
        family => format!("{{sa_family={}, ...}}", names::one(&names::DOMAIN, family as u64)),
    }
}

fn message_header(decoder: &Decoder<'_>, at: u64) -> String {
    let mut bytes = [0; 56];
    if decoder.memory.read(UserAddress(at), &mut bytes).is_err() {
        return address(at);
    }
    let name = if word(&bytes, 0) == 0 { "NULL".to_owned() } else { socket_address(decoder, word(&bytes, 0)) };
    let vector = decoder.vector(word(&bytes, 16), word(&bytes, 24), u64::MAX);
    format!("{{msg_name={name}, msg_iov={vector}, msg_controllen={}}}", word(&bytes, 40))
}

/// open(2)'s flags with the access mode before them.
pub(crate) fn open_flags(value: u64) -> String {
    let access = match value as i32 & libc::O_ACCMODE {
        libc::O_RDONLY => "O_RDONLY",
        libc::O_WRONLY => "O_WRONLY",
        libc::O_RDWR => "O_RDWR",
        _ => "O_ACCMODE",
    };
    match value & !(libc::O_ACCMODE as u64) {
        0 => access.to_owned(),
        rest => format!("{access}|{}", names::flags(&names::OPEN, rest)),
    }
}

/// clone(2)'s flags, with the signal of the child's end behind them.
pub(super) fn clone_flags(value: u64) -> String {
    const SIGNAL: u64 = 0xff;
    let flags = value & 0xffff_ffff & !SIGNAL;
    match (flags, (value & SIGNAL) as i32) {
        (_, 0) => names::flags(&names::CLONE, flags),
        (0, signal) => names::signal_name(signal),
        (_, signal) => format!("{}|{}", names::flags(&names::CLONE, flags), names::signal_name(signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_open_and_clone_have_their_own_form() {
        assert_eq!(open_flags((libc::O_WRONLY | libc::O_CREAT) as u64), "O_WRONLY|O_CREAT");
        assert_eq!(open_flags(0), "O_RDONLY");
        assert_eq!(clone_flags((libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u64), "CLONE_VM|CLONE_VFORK|SIGCHLD");
        assert_eq!(clone_flags(libc::SIGCHLD as u64), "SIGCHLD");
    }

    #[test]
    fn signals_are_described_by_their_origin() {
        assert_eq!(siginfo(&SignalInfo::user(libc::SIGTERM, 7, 0)), "{si_signo=SIGTERM, si_code=SI_USER, si_pid=7, si_uid=0}");
        let child = SignalInfo::child(libc::CLD_EXITED, 9, 5, 3, 0, 0);
        assert_eq!(siginfo(&child), "{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=9, si_uid=5, si_status=3}");
        assert_eq!(siginfo(&SignalInfo::fault(libc::SIGSEGV, 1, 0)), "{si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL}");
        assert_eq!(signal_set(1 << (libc::SIGINT - 1)), "[INT]");
        assert_eq!(signal_set(!(1 << (libc::SIGKILL - 1))), "~[KILL]");
        assert_eq!(wait_status(3 << 8), "{WIFEXITED(s) && WEXITSTATUS(s) == 3}");
    }
}
