//! The system as a whole: its names, its load, random numbers, the kernel log.

use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    abi::{Arguments, SysResult, UserAddress},
    executor,
    kernel::{RELEASE, VERSION},
    task::{Thread, capability},
};

/// Bytes of a name in struct utsname, its NUL included.
const NAME: usize = 65;

/// uname(2).
pub fn uname(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let uts = thread.kernel.uts.read().clone();
    let mut names = [[0u8; NAME]; 6];
    // PER_LINUX32 is a 32-bit machine's to whoever asks.
    let personality = thread.personality.load(std::sync::atomic::Ordering::Relaxed);
    let machine: &[u8] = if personality & 0xff == 8 { b"i686" } else { b"x86_64" };
    let values: [&[u8]; 6] = [b"Linux", &uts.hostname, RELEASE.as_bytes(), VERSION.as_bytes(), machine, &uts.domainname];
    for (name, value) in names.iter_mut().zip(values) {
        for (to, from) in name.iter_mut().take(NAME - 1).zip(value) {
            *to = *from;
        }
    }
    thread.memory().write(arguments.address(0), names.as_bytes())?;
    Ok(0)
}

/// Reads a name that sethostname(2) or setdomainname(2) is given.
fn new_name(thread: &Thread, arguments: Arguments) -> Result<Vec<u8>, Errno> {
    if !thread.credentials().has(capability::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let length = arguments.int(1);
    if !(0..NAME as i32).contains(&length) {
        return Err(Errno::EINVAL);
    }
    let mut name = vec![0; length as usize];
    thread.memory().read(arguments.address(0), &mut name)?;
    Ok(name)
}

/// sethostname(2).
pub fn sethostname(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let name = new_name(thread, arguments)?;
    thread.kernel.uts.write().hostname = name;
    Ok(0)
}

/// setdomainname(2).
pub fn setdomainname(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let name = new_name(thread, arguments)?;
    thread.kernel.uts.write().domainname = name;
    Ok(0)
}

/// struct sysinfo.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SystemInfo {
    uptime: i64,
    loads: [u64; 3],
    total: u64,
    free: u64,
    shared: u64,
    buffers: u64,
    swap: [u64; 2],
    processes: u16,
    pad: [u16; 3],
    high: [u64; 2],
    unit: u32,
    tail: u32,
}

const _: () = assert!(size_of::<SystemInfo>() == size_of::<libc::sysinfo>());

/// sysinfo(2).
pub fn sysinfo(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let kernel = &thread.kernel;
    let (total, used) = (kernel.memory.limit(), kernel.memory.used());
    let info = SystemInfo {
        uptime: Duration::from_nanos(executor::now().saturating_sub(kernel.boot)).as_secs() as i64,
        total,
        free: total.saturating_sub(used),
        processes: kernel.pids.task_count().min(u16::MAX as usize) as u16,
        unit: 1,
        ..Default::default()
    };
    thread.memory().write_value(arguments.address(0), &info)?;
    Ok(0)
}

/// GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE.
const RANDOM_FLAGS: u32 = 1 | 2 | 4;
/// Random bytes at most in one call, as Linux has it.
const MOST_RANDOM: usize = 33_554_431;

/// getrandom(2). The host's generator has long been seeded, so no flag makes a difference.
pub fn getrandom(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = arguments.uint(2);
    if flags & !RANDOM_FLAGS != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let (at, length) = (arguments.address(0), arguments.size(1).min(MOST_RANDOM));
    let memory = thread.memory();
    let mut done = 0;
    let mut chunk = [0u8; 4096];
    while done < length {
        let part = chunk.get_mut(..(length - done).min(4096)).unwrap_or_default();
        random(part)?;
        match memory.write_some(UserAddress(at.0.saturating_add(done as u64)), part) {
            Ok(written) => {
                done += written;
                if written < part.len() {
                    break;
                }
            }
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done as u64)
}

/// Fills with random bytes of the host.
#[allow(unsafe_code)]
fn random(into: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        // SAFETY: the pointer and length are those of a slice that we hold exclusively.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => done += count,
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return Err(Errno::last()),
        }
    }
    Ok(())
}

/// Bytes of the kernel log's buffer, as it says.
const LOG_BUFFER: u64 = 1 << 14;

/// syslog(2): there is a log, and it is empty.
pub fn syslog(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let credentials = thread.credentials();
    if !credentials.has(capability::SYSLOG) && !credentials.has(capability::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    match arguments.int(0) {
        // Open, close, read all, read and clear, clear, console off and on, unread bytes.
        0 | 1 | 3..=7 | 9 => Ok(0),
        8 if (1..=8).contains(&arguments.int(2)) => Ok(0),
        10 => Ok(LOG_BUFFER),
        // Waiting for a line would last for ever.
        2 => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}
