//! epoll(7).

use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::{
    Errno,
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    executor::{self, Readiness},
    fs::{
        OpenFile,
        epoll::{Epoll, EpollEvents, ReadyEvent},
    },
    task::Thread,
    time::read_timespec,
};

/// struct epoll_event is packed on x86-64: 4 bytes of events, 8 of data.
const EVENT: usize = 12;

/// epoll_create(2).
pub fn epoll_create(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.int(0) <= 0 {
        return Err(Errno::EINVAL);
    }
    create(thread, false)
}

/// epoll_create1(2).
pub fn epoll_create1(thread: &mut Thread, arguments: Arguments) -> SysResult {
    match arguments.int(0) {
        0 => create(thread, false),
        libc::EPOLL_CLOEXEC => create(thread, true),
        _ => Err(Errno::EINVAL),
    }
}

fn create(thread: &Thread, close_on_exec: bool) -> SysResult {
    let file = OpenFile::new(Arc::new(Epoll::default()), libc::O_RDWR as u32, None);
    super::event::install(thread, file, close_on_exec)
}

/// epoll_ctl(2).
pub fn epoll_ctl(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let operation = arguments.int(1);
    let number = arguments.fd(2);
    let event = if operation == libc::EPOLL_CTL_DEL {
        [0; EVENT]
    } else {
        let mut event = [0; EVENT];
        thread.memory().read(arguments.address(3), &mut event)?;
        event
    };
    let files = thread.files();
    let set = files.get(arguments.fd(0))?;
    let file = files.get(number)?;
    if file.ops.wait_queue().is_none() {
        return Err(Errno::EPERM);
    }
    let set = if Arc::ptr_eq(&set, &file) { Err(Errno::EINVAL) } else { epoll_of(&set) }?;
    let [a, b, c, d, data @ ..] = event;
    let events = EpollEvents::from_bits_retain(u32::from_le_bytes([a, b, c, d])) - EpollEvents::WAKEUP;
    let data = u64::from_le_bytes(data);
    if events.contains(EpollEvents::EXCLUSIVE) {
        let allowed = EpollEvents::EXCLUSIVE
            | EpollEvents::EDGE
            | EpollEvents::from_bits_retain((libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP) as u32);
        let nested = file.downcast::<Epoll>().is_some();
        if operation == libc::EPOLL_CTL_MOD || nested || !(events - allowed).is_empty() {
            return Err(Errno::EINVAL);
        }
    }
    match operation {
        libc::EPOLL_CTL_ADD => set.add(number.0, &file, events, data)?,
        libc::EPOLL_CTL_MOD => set.modify(number.0, &file, events, data)?,
        libc::EPOLL_CTL_DEL => set.remove(number.0, &file)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn epoll_of(file: &OpenFile) -> Result<&Epoll, Errno> {
    file.downcast().ok_or(Errno::EINVAL)
}

/// epoll_wait(2).
pub async fn epoll_wait(thread: &mut Thread, arguments: Arguments) -> SysResult {
    wait(thread, arguments, milliseconds(arguments.int(3))).await
}

/// epoll_pwait(2).
pub async fn epoll_pwait(thread: &mut Thread, arguments: Arguments) -> SysResult {
    wait_with_mask(thread, arguments, milliseconds(arguments.int(3))).await
}

/// epoll_pwait2(2).
pub async fn epoll_pwait2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let timeout = match arguments.address(3) {
        UserAddress::NULL => None,
        address => Some(read_timespec(&thread.memory(), address)?),
    };
    wait_with_mask(thread, arguments, timeout).await
}

/// A timeout in milliseconds; negative ones wait for ever.
pub(super) fn milliseconds(timeout: i32) -> Option<u64> {
    u64::try_from(timeout).ok().map(|timeout| timeout * 1_000_000)
}

async fn wait_with_mask(thread: &Thread, arguments: Arguments, timeout: Option<u64>) -> SysResult {
    if !arguments.address(4).is_null() {
        let mask = super::signal::read_set(thread, arguments.address(4), arguments.size(5))?;
        thread.set_temporary_mask(mask);
    }
    let result = wait(thread, arguments, timeout).await;
    if result != Err(Errno::EINTR) {
        crate::signal::restore_mask(&thread.task);
    }
    result
}

async fn wait(thread: &Thread, arguments: Arguments, timeout: Option<u64>) -> SysResult {
    let most = usize::try_from(arguments.int(2)).ok().filter(|most| (1..=i32::MAX as usize / EVENT).contains(most));
    let most = most.ok_or(Errno::EINVAL)?;
    let file = thread.files().get(FdNumber(arguments.int(0)))?;
    let set = epoll_of(&file)?;
    let mut events = set.take(most);
    if events.is_empty() && timeout != Some(0) {
        let deadline = timeout.map(|timeout| executor::now().saturating_add(timeout));
        let ready = executor::wait_for(set.queue(), Readiness::IN, || {
            let events = set.take(most);
            (!events.is_empty()).then_some(events)
        });
        // signal(7): not restarted, whatever the handler says.
        events = thread.interruptible_until(deadline, ready).await.map_err(|_| Errno::EINTR)?.unwrap_or_default();
    }
    write_events(thread, arguments.address(1), &events)
}

fn write_events(thread: &Thread, address: UserAddress, events: &[ReadyEvent]) -> SysResult {
    let mut bytes = Vec::with_capacity(events.len() * EVENT);
    for event in events {
        bytes.extend_from_slice(event.events.as_bytes());
        bytes.extend_from_slice(event.data.as_bytes());
    }
    if !bytes.is_empty() {
        thread.memory().write(address, &bytes)?;
    }
    Ok(events.len() as u64)
}
