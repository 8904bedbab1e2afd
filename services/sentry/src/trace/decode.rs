//! From registers and guest memory to text, as C would have it and strace(1) shows it.

use bulkhead_ipc::{Errno, name_of};

use super::{
    names,
    signatures::{self, Kind, Returns},
    structures,
};
use crate::{
    abi::{Arguments, SysResult, UserAddress},
    memory::AddressSpace,
    syscalls::table::RESTARTS,
};

/// Elements of arrays that are shown.
pub(super) const MOST_ELEMENTS: usize = 16;
/// A path is shown whole.
const MOST_PATH: usize = 4096;

/// Decodes the calls of one process.
pub(super) struct Decoder<'a> {
    pub memory: &'a AddressSpace,
    /// Bytes of a string that are shown.
    pub limit: usize,
}

impl<'a> Decoder<'a> {
    pub fn new(memory: &'a AddressSpace, limit: usize) -> Decoder<'a> {
        Decoder { memory, limit }
    }

    /// What the guest hands in, argument by argument; `None` for what it gets when the call returns.
    pub fn handed_in(&self, number: u64, arguments: &Arguments) -> Vec<Option<String>> {
        match signatures::of(number) {
            None => (0..6).map(|at| Some(hex(arguments.raw(at)))).collect(),
            Some(signature) => (signature.arguments.iter().enumerate())
                .map(|(at, argument)| (!argument.on_return).then(|| self.argument(argument.kind, at, arguments, None)))
                .collect(),
        }
    }

    /// All arguments, once the call has returned.
    pub fn complete(&self, number: u64, arguments: &Arguments, handed_in: Vec<Option<String>>, result: SysResult) -> Vec<String> {
        let kinds = signatures::of(number).map(|signature| signature.arguments.as_slice()).unwrap_or_default();
        let complete = handed_in.into_iter().enumerate().map(|(at, text)| match (text, kinds.get(at), result) {
            (Some(text), ..) => text,
            (None, Some(argument), Ok(result)) => self.argument(argument.kind, at, arguments, Some(result)),
            (None, ..) => address(arguments.raw(at)),
        });
        // An argument that means nothing in this call is no text.
        complete.filter(|text| !text.is_empty()).collect()
    }

    /// One argument; `returned` is what the call returned, for one that is looked at then.
    fn argument(&self, kind: Kind, at: usize, arguments: &Arguments, returned: Option<u64>) -> String {
        let value = arguments.raw(at);
        let next = || if at < 5 { arguments.raw(at + 1) } else { 0 };
        match kind {
            Kind::Int | Kind::Fd => arguments.int(at).to_string(),
            Kind::Uint => arguments.uint(at).to_string(),
            Kind::Long => arguments.long(at).to_string(),
            Kind::Size => value.to_string(),
            Kind::Hex => hex(value),
            Kind::Address => address(value),
            Kind::Octal => octal(arguments.uint(at)),
            Kind::ModeIfCreating => {
                let creating = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
                if at > 0 && arguments.uint(at - 1) & creating != 0 { octal(arguments.uint(at)) } else { String::new() }
            }
            Kind::DirectoryFd if arguments.int(at) == libc::AT_FDCWD => "AT_FDCWD".to_owned(),
            Kind::DirectoryFd => arguments.int(at).to_string(),
            Kind::Path => self.string(value, MOST_PATH),
            Kind::String => self.string(value, self.limit),
            Kind::Bytes => self.bytes(value, returned.unwrap_or_else(next)),
            Kind::Vector => self.vector(value, next(), returned.unwrap_or(u64::MAX)),
            Kind::Strings => self.strings(value),
            Kind::Environment => self.environment(value),
            Kind::Signal => names::signal_name(arguments.int(at)),
            Kind::Milliseconds => arguments.int(at).to_string(),
            Kind::One(table) => one(table, value),
            Kind::Flags(table) => names::flags(table, u64::from(arguments.uint(at))),
            Kind::OpenFlags => structures::open_flags(value),
            Kind::CloneFlags => structures::clone_flags(value),
            Kind::FcntlArgument => fcntl_argument(arguments.int(1), value),
            Kind::FutexValue => arguments.uint(at).to_string(),
            Kind::FutexTime => self.futex_time(arguments.int(1), value),
            Kind::FutexAddress if matches!(futex_operation(arguments.int(1)), 3..=5 | 11 | 12) => address(value),
            Kind::FutexAddress => String::new(),
            Kind::FutexValue3 if matches!(futex_operation(arguments.int(1)), 4 | 5 | 9 | 10 | 12) => hex(u64::from(value as u32)),
            Kind::FutexValue3 => String::new(),
            Kind::Structure(structure) => {
                let count = returned.filter(|_| !matches!(structure, signatures::Structure::PollFds)).unwrap_or_else(next);
                structures::structure(self, structure, value, count)
            }
        }
    }

    /// A NUL-terminated string, cut to `most` bytes.
    fn string(&self, at: u64, most: usize) -> String {
        if at == 0 {
            return "NULL".to_owned();
        }
        let mut bytes = vec![0; most + 1];
        let Ok(length) = self.memory.read_some(UserAddress(at), &mut bytes) else { return address(at) };
        bytes.truncate(length);
        match bytes.iter().position(|&byte| byte == 0) {
            Some(end) => quoted(&bytes[..end], false),
            // It ends where memory does, or it is longer.
            None => quoted(&bytes[..length.min(most)], true),
        }
    }

    /// So many bytes, cut to what is shown.
    pub fn bytes(&self, at: u64, length: u64) -> String {
        if at == 0 {
            return "NULL".to_owned();
        }
        let shown = length.min(self.limit as u64) as usize;
        let mut bytes = vec![0; shown];
        match self.memory.read(UserAddress(at), &mut bytes) {
            Ok(()) => quoted(&bytes, length > shown as u64),
            Err(_) => address(at),
        }
    }

    /// iovecs with what is in them, as far as `total` bytes reach.
    pub fn vector(&self, at: u64, count: u64, total: u64) -> String {
        let mut left = total;
        self.array(at, count, 16, |element| {
            let (base, length) = (word(element, 0), word(element, 8));
            let used = length.min(left);
            left -= used;
            format!("{{iov_base={}, iov_len={length}}}", self.bytes(base, used))
        })
    }

    fn strings(&self, at: u64) -> String {
        if at == 0 {
            return "NULL".to_owned();
        }
        let mut parts = Vec::new();
        for index in 0.. {
            match self.word(at, index) {
                Some(0) => break,
                Some(_) if index as usize >= MOST_ELEMENTS => {
                    parts.push("...".to_owned());
                    break;
                }
                Some(string) => parts.push(self.string(string, self.limit)),
                None => return address(at),
            }
        }
        format!("[{}]", parts.join(", "))
    }

    /// Only how many there are, as secrets are often among them.
    fn environment(&self, at: u64) -> String {
        const MOST: u64 = 4096;
        let count = (0..MOST).find(|&index| self.word(at, index).unwrap_or(0) == 0).unwrap_or(MOST);
        let plural = if count == 1 { "" } else { "s" };
        format!("{} /* {count} var{plural} */", address(at))
    }

    fn word(&self, at: u64, index: u64) -> Option<u64> {
        self.memory.read_value(UserAddress(at.wrapping_add(index.wrapping_mul(8)))).ok()
    }

    fn futex_time(&self, operation: i32, value: u64) -> String {
        match futex_operation(operation) {
            0 | 6 | 9 | 11 => structures::structure(self, signatures::Structure::Timespec, value, 0),
            3..=5 | 12 => (value as u32).to_string(),
            _ => String::new(),
        }
    }

    /// The elements of an array, each of `size` bytes; the rest is left out.
    pub fn array(&self, at: u64, count: u64, size: usize, mut show: impl FnMut(&[u8]) -> String) -> String {
        if at == 0 {
            return "NULL".to_owned();
        }
        let shown = count.min(MOST_ELEMENTS as u64) as usize;
        let mut bytes = vec![0; shown * size];
        if self.memory.read(UserAddress(at), &mut bytes).is_err() {
            return address(at);
        }
        let mut parts: Vec<String> = bytes.chunks(size).map(&mut show).collect();
        if count > shown as u64 {
            parts.push("...".to_owned());
        }
        format!("[{}]", parts.join(", "))
    }
}

fn futex_operation(operation: i32) -> i32 {
    operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME)
}

fn one(table: &'static names::Names, value: u64) -> String {
    let value = u64::from(value as u32);
    if std::ptr::eq(table, &names::FUTEX) {
        let mut text = names::one(table, futex_operation(value as i32) as u64);
        for (flag, suffix) in [(libc::FUTEX_PRIVATE_FLAG, "_PRIVATE"), (libc::FUTEX_CLOCK_REALTIME, "|FUTEX_CLOCK_REALTIME")] {
            if value as i32 & flag != 0 {
                text.push_str(suffix);
            }
        }
        return text;
    }
    // Some constants are negative ints.
    let known = table.iter().find(|(_, constant)| u64::from(*constant as u32) == value);
    known.map_or_else(|| names::one(&[], value), |(name, _)| (*name).to_owned())
}

fn fcntl_argument(command: i32, value: u64) -> String {
    match command {
        libc::F_GETFD | libc::F_GETFL | libc::F_GETOWN | libc::F_GETLEASE | libc::F_GETPIPE_SZ | libc::F_GET_SEALS => {
            String::new()
        }
        libc::F_SETFD => names::flags(&names::DESCRIPTOR, value),
        libc::F_SETFL => structures::open_flags(value),
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC | libc::F_SETOWN | libc::F_SETPIPE_SZ => (value as i32).to_string(),
        _ => hex(value),
    }
}

/// What a call returned, as a person reads it.
pub(super) fn returned(number: u64, result: SysResult) -> String {
    match result {
        Ok(_) if matches!(number as i64, libc::SYS_exit | libc::SYS_exit_group) => "?".to_owned(),
        Ok(value) => match signatures::of(number).map_or(Returns::Number, |signature| signature.returns) {
            Returns::Number => (value as i64).to_string(),
            Returns::Address => hex(value),
            Returns::Octal => octal(value as u32),
        },
        Err(errno) => match RESTARTS.iter().find(|(restart, _)| *restart == errno) {
            Some((_, name)) => format!("? {name} (to be made again)"),
            None => {
                let meaning = std::io::Error::from_raw_os_error(errno.number()).to_string();
                let meaning = meaning.split(" (os error").next().unwrap_or_default();
                format!("-1 {} ({meaning})", errno_name(errno))
            }
        },
    }
}

/// ENOENT, or what it is called only here.
pub(crate) fn errno_name(errno: Errno) -> String {
    let restart = RESTARTS.iter().find(|(restart, _)| *restart == errno).map(|(_, name)| *name);
    name_of(errno.number()).or(restart).map_or_else(|| errno.number().to_string(), str::to_owned)
}

pub(super) fn hex(value: u64) -> String {
    if value == 0 { "0".to_owned() } else { format!("{value:#x}") }
}

pub(super) fn address(value: u64) -> String {
    if value == 0 { "NULL".to_owned() } else { format!("{value:#x}") }
}

pub(super) fn octal(value: u32) -> String {
    if value == 0 { "0".to_owned() } else { format!("0{value:o}") }
}

/// A string in C's quotes; what does not print is escaped, so a terminal is not driven by it.
pub(super) fn quoted(bytes: &[u8], cut: bool) -> String {
    let mut text = String::with_capacity(bytes.len() + 5);
    text.push('"');
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\r' => text.push_str("\\r"),
            0x20..=0x7e => text.push(byte as char),
            // As short as what follows allows.
            _ if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => text.push_str(&format!("\\{byte:03o}")),
            _ => text.push_str(&format!("\\{byte:o}")),
        }
    }
    text.push_str(if cut { "\"..." } else { "\"" });
    text
}

/// Eight bytes of a structure.
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Four bytes of a structure.
pub(super) fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_cs_and_hold_nothing_that_drives_a_terminal() {
        assert_eq!(quoted(b"a\"b\\\n\x1b[31m\x001\xff\0", false), r#""a\"b\\\n\33[31m\0001\377\0""#);
        assert_eq!(quoted(b"abc", true), "\"abc\"...");
    }

    #[test]
    fn results_read_as_strace_writes_them() {
        let read = libc::SYS_read as u64;
        assert_eq!(returned(read, Ok(3)), "3");
        assert_eq!(returned(read, Err(Errno::ENOENT)), "-1 ENOENT (No such file or directory)");
        assert_eq!(returned(read, Err(Errno::ERESTARTSYS)), "? ERESTARTSYS (to be made again)");
        assert_eq!(returned(libc::SYS_mmap as u64, Ok(0x7f00)), "0x7f00");
        assert_eq!(returned(libc::SYS_umask as u64, Ok(0o22)), "022");
        assert_eq!(returned(libc::SYS_exit_group as u64, Ok(0)), "?");
    }
}
