//! Ancillary data as it lies in guest memory (struct cmsghdr, cmsg(3)).

use std::sync::Arc;

use bulkhead_ipc::Errno;

use super::message::{Control, ControlItem, Identity};
use crate::{
    abi::{FdNumber, UserAddress},
    fs::OpenFile,
    task::{PidFd, Thread, capability},
};

/// sizeof(struct cmsghdr).
const HEADER: usize = 16;
/// Files in one message at most (SCM_MAX_FD).
pub const MOST_RIGHTS: usize = 253;
/// Bytes of ancillary data that one call may send (net.core.optmem_max).
const MOST_CONTROL: usize = 131_072;
const SCM_PIDFD: i32 = 4;

fn align(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// A header's length, level and type, and what is behind it.
type Item<'a> = (i32, i32, &'a [u8]);

/// Takes ancillary data apart; EINVAL for a length that cannot be.
fn items(bytes: &[u8]) -> Result<Vec<Item<'_>>, Errno> {
    let mut items = Vec::new();
    let mut rest = bytes;
    while rest.len() >= HEADER {
        let word = |at: usize| rest[at..].first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        let length = rest.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        let length = usize::try_from(length).ok().filter(|length| (HEADER..=rest.len()).contains(length));
        let length = length.ok_or(Errno::EINVAL)?;
        items.push((word(8), word(12), &rest[HEADER..length]));
        rest = rest.get(align(length)..).unwrap_or_default();
    }
    Ok(items)
}

/// Reads what a caller of sendmsg(2) gives along. `rights`: whether the family passes files.
pub fn read(thread: &Thread, address: UserAddress, length: usize, rights: bool) -> Result<Control, Errno> {
    let mut control = Control::default();
    if address.is_null() || length == 0 {
        return Ok(control);
    }
    if length > MOST_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = vec![0; length];
    thread.memory().read(address, &mut bytes)?;
    for (level, kind, data) in items(&bytes)? {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) if rights => {
                if control.rights.len() + data.len() / 4 > MOST_RIGHTS {
                    return Err(Errno::EINVAL);
                }
                let files = thread.files();
                for number in data.chunks_exact(4) {
                    let number = number.first_chunk().map_or(-1, |bytes| i32::from_ne_bytes(*bytes));
                    control.rights.push(files.get(FdNumber(number))?);
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => control.identity = Some(identity(thread, data)?),
            (libc::SOL_SOCKET, _) => return Err(Errno::EINVAL),
            _ => control.others.push(ControlItem { level, kind, data: data.to_vec() }),
        }
    }
    Ok(control)
}

/// Who the sender says it is: itself, or whom it may be (unix(7)). EPERM; ESRCH for a process that there is not.
fn identity(thread: &Thread, data: &[u8]) -> Result<Identity, Errno> {
    let Ok(bytes) = <[u8; 12]>::try_from(data) else { return Err(Errno::EINVAL) };
    let word = |at: usize| bytes[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let identity = Identity { pid: word(0) as i32, uid: word(4), gid: word(8) };
    let own = thread.credentials();
    let may = |which, allowed| if allowed || own.has(which) { Ok(()) } else { Err(Errno::EPERM) };
    may(capability::SYS_ADMIN, identity.pid == thread.process.pid)?;
    may(capability::SETUID, [own.uid, own.euid, own.suid].contains(&identity.uid))?;
    may(capability::SETGID, [own.gid, own.egid, own.sgid].contains(&identity.gid))?;
    if identity.pid != thread.process.pid && thread.kernel.pids.process(identity.pid).is_none() {
        return Err(Errno::ESRCH);
    }
    Ok(identity)
}

/// What a caller of recvmsg(2) gets along.
pub struct ControlWriter<'t> {
    thread: &'t Thread,
    address: UserAddress,
    room: usize,
    /// Bytes written so far: the new msg_controllen.
    pub used: usize,
    /// Something had no room (MSG_CTRUNC).
    pub truncated: bool,
}

impl<'t> ControlWriter<'t> {
    /// Into `room` bytes at `address`; NULL has no room.
    pub fn new(thread: &'t Thread, address: UserAddress, room: usize) -> ControlWriter<'t> {
        let room = if address.is_null() { 0 } else { room };
        ControlWriter { thread, address, room, used: 0, truncated: false }
    }

    fn left(&self) -> usize {
        self.room - self.used
    }

    fn header(length: usize, level: i32, kind: i32) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&(length as u64).to_ne_bytes());
        header[8..12].copy_from_slice(&level.to_ne_bytes());
        header[12..].copy_from_slice(&kind.to_ne_bytes());
        header
    }

    /// Adds an item; as much of it as there is room for.
    pub fn put(&mut self, level: i32, kind: i32, data: &[u8]) -> Result<(), Errno> {
        if self.left() < HEADER {
            self.truncated = true;
            return Ok(());
        }
        let whole = HEADER + data.len();
        let length = whole.min(self.left());
        self.truncated |= length < whole;
        let mut bytes = ControlWriter::header(length, level, kind).to_vec();
        bytes.extend_from_slice(&data[..length - HEADER]);
        self.thread.memory().write(self.address.offset(self.used as u64), &bytes)?;
        self.used += align(whole).min(self.left());
        Ok(())
    }

    /// Installs files and tells their numbers; those for which there is no room, or no number free, are dropped.
    pub fn put_rights(&mut self, files: Vec<Arc<OpenFile>>, close_on_exec: bool) -> Result<(), Errno> {
        let places = self.left().saturating_sub(HEADER) / 4;
        let (all, limit) = (files.len(), self.thread.limit(libc::RLIMIT_NOFILE).0);
        let mut numbers = Vec::new();
        for file in files.into_iter().take(places) {
            match self.thread.files().install(file, close_on_exec, 0, limit) {
                Ok(number) => numbers.extend_from_slice(&number.0.to_ne_bytes()),
                Err(_) => break,
            }
        }
        self.truncated |= numbers.len() / 4 < all;
        if numbers.is_empty() { Ok(()) } else { self.put(libc::SOL_SOCKET, libc::SCM_RIGHTS, &numbers) }
    }

    /// SCM_PIDFD: a file that refers to the sender.
    pub fn put_process(&mut self, pid: i32) -> Result<(), Errno> {
        let file = match self.thread.kernel.pids.process(pid) {
            Some(process) if self.left() >= HEADER + 4 => PidFd::open(&process, false),
            Some(_) => {
                self.truncated = true;
                return Ok(());
            }
            None => return self.put(libc::SOL_SOCKET, SCM_PIDFD, &(-Errno::ESRCH.number()).to_ne_bytes()),
        };
        let limit = self.thread.limit(libc::RLIMIT_NOFILE).0;
        let number = self.thread.files().install(file, true, 0, limit).map_or_else(|errno| -errno.number(), |number| number.0);
        self.put(libc::SOL_SOCKET, SCM_PIDFD, &number.to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(length: u64, level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = ControlWriter::header(length as usize, level, kind).to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    #[test]
    fn ancillary_data_is_taken_apart_at_its_alignment() {
        let bytes = [item(21, 1, 2, b"abcde"), item(16, 3, 4, b"")].concat();
        assert_eq!(items(&bytes).unwrap(), [(1, 2, &b"abcde"[..]), (3, 4, b"")]);
        // The last item's padding may be missing, and what is shorter than a header is nothing.
        assert_eq!(items(&bytes[..21]).unwrap(), [(1, 2, &b"abcde"[..])]);
        assert_eq!(items(&bytes[..30]).unwrap().len(), 1);
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        for length in [0, 15, 22, u64::MAX, u64::MAX - 7] {
            let bytes = item(length, 1, 1, b"abcde");
            assert_eq!(items(&bytes[..21]).err(), Some(Errno::EINVAL), "{length}");
        }
    }
}
