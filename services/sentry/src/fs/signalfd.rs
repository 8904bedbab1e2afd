//! signalfd(2): signals as a file. Who reads gets its own signals, whoever made the file.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::{Errno, vfs::Attributes};
use parking_lot::Mutex;
use zerocopy::{Immutable, IntoBytes};

use super::{FileOps, Offset, OpenFile, UserBuffers, anonymous};
use crate::{
    executor::{Readiness, WaitQueue},
    kernel::Kernel,
    signal::{self, SignalInfo, SignalSet},
    task::{self, Task, Thread},
};

/// struct signalfd_siginfo.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct RawSignal {
    signal: u32,
    errno: i32,
    code: i32,
    pid: u32,
    uid: u32,
    fd: i32,
    timer: u32,
    band: u32,
    overrun: u32,
    trap: u32,
    status: i32,
    int: i32,
    pointer: u64,
    user_time: u64,
    system_time: u64,
    address: u64,
    address_lsb: u16,
    pad2: u16,
    syscall: i32,
    call_address: u64,
    arch: u32,
    pad: [u8; 28],
}

const SIZE: usize = size_of::<RawSignal>();
const _: () = assert!(SIZE == 128);

fn to_raw(info: &SignalInfo) -> RawSignal {
    let [first, second, third, fourth] = info.fields;
    let mut raw = RawSignal {
        signal: info.signal as u32,
        errno: info.errno,
        code: info.code,
        pid: 0,
        uid: 0,
        fd: 0,
        timer: 0,
        band: 0,
        overrun: 0,
        trap: 0,
        status: 0,
        int: 0,
        pointer: 0,
        user_time: 0,
        system_time: 0,
        address: 0,
        address_lsb: 0,
        pad2: 0,
        syscall: 0,
        call_address: 0,
        arch: 0,
        pad: [0; 28],
    };
    match (info.signal, info.code) {
        (_, libc::SI_TIMER) => {
            raw.timer = first as u32;
            raw.overrun = (first >> 32) as u32;
            raw.int = second as i32;
            raw.pointer = second;
        }
        (libc::SIGCHLD, 1..) => {
            raw.pid = first as u32;
            raw.uid = (first >> 32) as u32;
            raw.status = second as i32;
            raw.user_time = third;
            raw.system_time = fourth;
        }
        (libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP, 1..0x80) => raw.address = first,
        (libc::SIGIO, 1..0x80) => {
            raw.band = first as u32;
            raw.fd = second as i32;
        }
        _ => {
            raw.pid = first as u32;
            raw.uid = (first >> 32) as u32;
            raw.int = second as i32;
            raw.pointer = second;
        }
    }
    raw
}

/// A signalfd.
pub struct SignalFd {
    kernel: Arc<Kernel>,
    wanted: Mutex<SignalSet>,
    /// Of the process that made it and of all its descendants.
    arrival: Arc<WaitQueue>,
}

impl SignalFd {
    /// For signals of `wanted`.
    pub fn new(thread: &Thread, wanted: SignalSet) -> SignalFd {
        SignalFd { kernel: thread.kernel.clone(), wanted: Mutex::new(wanted), arrival: thread.process.signals.arrival.clone() }
    }

    /// Changes the set.
    pub fn set(&self, wanted: SignalSet) {
        *self.wanted.lock() = wanted;
        self.arrival.wake(Readiness::IN);
    }

    /// The task on whose behalf this is called.
    fn reader(&self) -> Option<Arc<Task>> {
        self.kernel.pids.task(task::current_tid()?)
    }
}

impl FileOps for SignalFd {
    fn read(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        if buffers.remaining() < SIZE {
            return Err(Errno::EINVAL);
        }
        let reader = self.reader().ok_or(Errno::EAGAIN)?;
        let wanted = *self.wanted.lock();
        let mut done = 0;
        while buffers.remaining() >= SIZE {
            let Some(info) = signal::take(&reader, wanted) else { break };
            match buffers.put(to_raw(&info).as_bytes()) {
                Ok(SIZE) => done += SIZE,
                Ok(_) | Err(_) if done > 0 => break,
                Ok(_) => return Err(Errno::EFAULT),
                Err(errno) => return Err(errno),
            }
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }
    fn poll(&self, _: &OpenFile) -> Readiness {
        let wanted = *self.wanted.lock();
        let waits = self.reader().is_some_and(|reader| !signal::pending(&reader).and(wanted).is_empty());
        if waits { Readiness::IN | Readiness::RDNORM } else { Readiness::empty() }
    }
    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        Some(&self.arrival)
    }
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(anonymous::attributes())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[signalfd]".to_vec()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
