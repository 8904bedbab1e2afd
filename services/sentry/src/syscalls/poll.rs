//! poll(2), select(2) and their kin.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    executor::{self, Readiness, Registration},
    fs::OpenFile,
    signal::{RestartBlock, restore_mask},
    task::Thread,
    time::{RawTimespec, RawTimeval, read_timespec},
};

/// struct pollfd.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawPollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

const POLL_FD: usize = size_of::<RawPollFd>();

/// A file that is waited for, and what it was found ready for.
struct Polled {
    file: Arc<OpenFile>,
    interest: Readiness,
    ready: Readiness,
}

impl Polled {
    fn new(file: Arc<OpenFile>, interest: Readiness) -> Polled {
        Polled { file, interest: interest | Readiness::ERR | Readiness::HUP, ready: Readiness::empty() }
    }
    fn look(&mut self) -> bool {
        self.ready = self.file.ops.poll(&self.file) & self.interest;
        !self.ready.is_empty()
    }
}

/// Asks every file; whether any is ready.
fn look(files: &mut [Polled]) -> bool {
    // Not `any`, which stops at the first: each answer is told.
    files.iter_mut().map(Polled::look).filter(|ready| *ready).count() > 0
}

/// Waits until a file is ready or the deadline (executor time) has passed.
async fn wait_ready(thread: &Thread, files: &mut [Polled], deadline: Option<u64>) -> Result<(), Errno> {
    if look(files) || deadline.is_some_and(|deadline| deadline <= executor::now()) {
        return Ok(());
    }
    let mut registrations: Option<Vec<Registration>> = None;
    let ready = poll_fn(|cx: &mut Context<'_>| {
        // Register first, look afterwards: what happens in between is not lost.
        registrations.get_or_insert_with(|| {
            let queue = |polled: &Polled| polled.file.ops.wait_queue().cloned();
            files.iter().filter_map(|p| queue(p).map(|queue| queue.register(p.interest, cx.waker()))).collect()
        });
        if look(files) {
            return Poll::Ready(());
        }
        for polled in files.iter() {
            polled.file.ops.prepare_wait(polled.interest);
        }
        // A host file may have become ready before it was armed.
        if look(files) { Poll::Ready(()) } else { Poll::Pending }
    });
    thread.interruptible_until(deadline, ready).await.map(|_| ())
}

fn deadline_in(timeout: Option<u64>) -> Option<u64> {
    timeout.map(|timeout| executor::now().saturating_add(timeout))
}

/// poll(2).
pub async fn poll(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let deadline = deadline_in(super::epoll::milliseconds(arguments.int(2)));
    poll_until(thread, arguments, deadline).await
}

/// poll(2) until a deadline in executor time; also what restart_syscall(2) carries on with.
pub(super) async fn poll_until(thread: &Thread, arguments: Arguments, deadline: Option<u64>) -> SysResult {
    match poll_files(thread, arguments, deadline).await {
        Err(Errno::ERESTARTSYS) => {
            let Some(deadline) = deadline else { return Err(Errno::ERESTARTNOHAND) };
            thread.signals.set_restart(RestartBlock::Poll { arguments, deadline });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        other => other,
    }
}

/// ppoll(2).
pub async fn ppoll(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let timeout = match arguments.address(2) {
        UserAddress::NULL => None,
        address => Some(read_timespec(&thread.memory(), address)?),
    };
    let deadline = deadline_in(timeout);
    if !arguments.address(3).is_null() {
        let mask = super::signal::read_set(thread, arguments.address(3), arguments.size(4))?;
        thread.set_temporary_mask(mask);
    }
    let result = poll_files(thread, arguments, deadline).await;
    finish(thread, result, deadline, |left| thread.memory().write_value(arguments.address(2), &RawTimespec::new(left)))
}

/// The end of a call with a temporary mask and a timeout that is written back: an interrupted one keeps the mask until its
/// signal was delivered.
fn finish(
    thread: &Thread,
    result: SysResult,
    deadline: Option<u64>,
    write_left: impl FnOnce(u64) -> Result<(), Errno>,
) -> SysResult {
    let interrupted = result == Err(Errno::ERESTARTSYS);
    if !interrupted {
        restore_mask(&thread.task);
    }
    let written = deadline.map_or(Ok(()), |deadline| write_left(deadline.saturating_sub(executor::now())));
    match (interrupted, written) {
        (false, _) => result,
        (true, Ok(())) => Err(Errno::ERESTARTNOHAND),
        // It would start anew with the whole timeout.
        (true, Err(_)) => Err(Errno::EINTR),
    }
}

/// poll(2) proper: `ERESTARTSYS` when a signal came.
async fn poll_files(thread: &Thread, arguments: Arguments, deadline: Option<u64>) -> SysResult {
    let (address, count) = (arguments.address(0), arguments.uint(1));
    if u64::from(count) > thread.limit(libc::RLIMIT_NOFILE).0 {
        return Err(Errno::EINVAL);
    }
    let memory = thread.memory();
    let mut bytes = vec![0; count as usize * POLL_FD];
    memory.read(address, &mut bytes)?;
    let mut asked: Vec<RawPollFd> =
        bytes.chunks_exact(POLL_FD).filter_map(|chunk| RawPollFd::read_from_bytes(chunk).ok()).collect();
    let table = thread.files();
    let mut files = Vec::new();
    let mut places = Vec::new();
    let mut invalid = 0;
    for (place, raw) in asked.iter_mut().enumerate() {
        raw.revents = 0;
        if raw.fd < 0 {
            continue;
        }
        match table.get(FdNumber(raw.fd)) {
            Ok(file) => {
                files.push(Polled::new(file, Readiness::from_bits_truncate(u32::from(raw.events as u16))));
                places.push(place);
            }
            Err(_) => {
                raw.revents = Readiness::NVAL.bits() as i16;
                invalid += 1;
            }
        }
    }
    drop(table);
    if invalid > 0 {
        look(&mut files);
    } else {
        wait_ready(thread, &mut files, deadline).await?;
    }
    let mut count = invalid;
    for (polled, place) in files.iter().zip(places) {
        if let Some(raw) = asked.get_mut(place) {
            raw.revents = polled.ready.bits() as i16;
            count += u64::from(!polled.ready.is_empty());
        }
    }
    for (place, raw) in asked.iter().enumerate() {
        // Only the answers are written, as Linux does.
        let offset = place * POLL_FD + std::mem::offset_of!(RawPollFd, revents);
        memory.write_value(address.offset(offset as u64), &raw.revents)?;
    }
    Ok(count)
}

/// What makes a descriptor ready in the three sets of select(2).
const SETS: [Readiness; 3] = [
    Readiness::IN.union(Readiness::RDNORM).union(Readiness::RDBAND).union(Readiness::HUP).union(Readiness::ERR),
    Readiness::OUT.union(Readiness::WRNORM).union(Readiness::WRBAND).union(Readiness::ERR),
    Readiness::PRI,
];

/// select(2).
pub async fn select(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let address = arguments.address(4);
    let timeout = match address {
        UserAddress::NULL => None,
        address => {
            let time: RawTimeval = thread.memory().read_value(address)?;
            // As Linux: microseconds may be more than a second.
            let seconds = u64::try_from(time.seconds).map_err(|_| Errno::EINVAL)?;
            let microseconds = u64::try_from(time.microseconds).map_err(|_| Errno::EINVAL)?;
            Some(seconds.saturating_mul(1_000_000_000).saturating_add(microseconds.saturating_mul(1000)))
        }
    };
    let deadline = deadline_in(timeout);
    let result = select_files(thread, arguments, deadline).await;
    finish(thread, result, deadline, |left| thread.memory().write_value(address, &RawTimeval::new(left)))
}

/// pselect6(2).
pub async fn pselect6(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let memory = thread.memory();
    let address = arguments.address(4);
    let timeout = if address.is_null() { None } else { Some(read_timespec(&memory, address)?) };
    let deadline = deadline_in(timeout);
    if !arguments.address(5).is_null() {
        let [set, size]: [u64; 2] = memory.read_value(arguments.address(5))?;
        if set != 0 {
            let mask = super::signal::read_set(thread, UserAddress(set), size as usize)?;
            thread.set_temporary_mask(mask);
        }
    }
    let result = select_files(thread, arguments, deadline).await;
    finish(thread, result, deadline, |left| memory.write_value(address, &RawTimespec::new(left)))
}

/// Whether descriptor `n` is in a set.
fn in_set(set: &[u8], n: usize) -> bool {
    set.get(n / 8).is_some_and(|byte| byte & (1 << (n % 8)) != 0)
}

/// select(2) proper: `ERESTARTSYS` when a signal came.
async fn select_files(thread: &Thread, arguments: Arguments, deadline: Option<u64>) -> SysResult {
    let count = usize::try_from(arguments.int(0)).map_err(|_| Errno::EINVAL)?;
    // No descriptor is above the hard limit, so what lies there is not looked at.
    let count = count.min(usize::try_from(thread.limit(libc::RLIMIT_NOFILE).1).unwrap_or(usize::MAX));
    let bytes = count.div_ceil(64) * 8;
    let memory = thread.memory();
    let addresses = [arguments.address(1), arguments.address(2), arguments.address(3)];
    let mut asked: [Vec<u8>; 3] = Default::default();
    for (set, address) in asked.iter_mut().zip(addresses) {
        if !address.is_null() {
            set.resize(bytes, 0);
            memory.read(address, set)?;
        }
    }
    let table = thread.files();
    let (mut files, mut numbers) = (Vec::new(), Vec::new());
    for n in 0..count {
        let mut interest = Readiness::empty();
        for (set, events) in asked.iter().zip(SETS) {
            if in_set(set, n) {
                interest |= events;
            }
        }
        if interest.is_empty() {
            continue;
        }
        // Not more than what its sets ask for: a hang-up does not end a wait for PRI alone.
        files.push(Polled { file: table.get(FdNumber(n as i32))?, interest, ready: Readiness::empty() });
        numbers.push(n);
    }
    drop(table);
    wait_ready(thread, &mut files, deadline).await?;
    let mut found: [Vec<u8>; 3] = asked.each_ref().map(|set| vec![0; set.len()]);
    let mut total = 0;
    for (polled, n) in files.iter().zip(numbers) {
        for ((set, events), result) in asked.iter().zip(SETS).zip(&mut found) {
            if in_set(set, n)
                && polled.ready.intersects(events)
                && let Some(byte) = result.get_mut(n / 8)
            {
                *byte |= 1 << (n % 8);
                total += 1;
            }
        }
    }
    for (set, address) in found.iter().zip(addresses) {
        if !set.is_empty() {
            memory.write(address, set)?;
        }
    }
    Ok(total)
}
