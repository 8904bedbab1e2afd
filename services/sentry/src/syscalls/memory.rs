//! Calls that map, protect, move, advise and lock memory, and copy it between processes.

use std::{os::fd::AsRawFd, sync::Arc};

use crate::{
    Errno,
    abi::{Arguments, PAGE_SIZE, SysResult, UserAddress, page_up},
    executor,
    fs::OpenFile,
    memory::{AddressSpace, Advice, AreaFlags, Limits, MapRequest, Placement, RemapRequest, Source},
    platform::Protection,
    task::{Task, Thread, capability},
};

const PROT_GROWSDOWN: u64 = 0x0100_0000;
const PROT_GROWSUP: u64 = 0x0200_0000;
/// Flags that mmap(2) knew before MAP_SHARED_VALIDATE, which refuses all others.
const LEGACY_FLAGS: i32 = libc::MAP_SHARED
    | libc::MAP_PRIVATE
    | libc::MAP_FIXED
    | libc::MAP_ANONYMOUS
    | libc::MAP_DENYWRITE
    | libc::MAP_EXECUTABLE
    | libc::MAP_GROWSDOWN
    | libc::MAP_LOCKED
    | libc::MAP_NORESERVE
    | libc::MAP_POPULATE
    | libc::MAP_NONBLOCK
    | libc::MAP_STACK
    | libc::MAP_HUGETLB
    | libc::MAP_32BIT
    | libc::MAP_FIXED_NOREPLACE
    | (0x3f << libc::MAP_HUGE_SHIFT);
/// UIO_MAXIOV.
const MOST_VECTORS: u64 = 1024;
/// process_vm_readv(2) copies by way of the sentry, so much at a time.
const PART: usize = 64 << 10;

/// mmap(2).
pub fn mmap(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (address, length, flags, offset) = (arguments.raw(0), arguments.raw(1), arguments.int(3), arguments.raw(5));
    if offset % PAGE_SIZE != 0 {
        return Err(Errno::EINVAL);
    }
    let anonymous = flags & libc::MAP_ANONYMOUS != 0;
    let file = if anonymous { None } else { Some(open_file(thread, arguments)?) };
    if flags & libc::MAP_HUGETLB != 0 {
        // As where no huge pages are set aside.
        return Err(if anonymous { Errno::ENOMEM } else { Errno::EINVAL });
    }
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    let shared = match flags & libc::MAP_TYPE {
        libc::MAP_PRIVATE => false,
        libc::MAP_SHARED => true,
        libc::MAP_SHARED_VALIDATE if anonymous => return Err(Errno::EINVAL),
        libc::MAP_SHARED_VALIDATE if flags & !LEGACY_FLAGS != 0 => return Err(Errno::EOPNOTSUPP),
        libc::MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::EINVAL),
    };
    let grows_down = flags & libc::MAP_GROWSDOWN != 0;
    if grows_down && (shared || file.is_some()) {
        return Err(Errno::EINVAL);
    }
    let protection = Protection::from_bits_truncate(arguments.uint(2));
    let source = match file {
        Some(file) => mapped_file(thread, &file, protection, shared, offset)?,
        None => Source::Anonymous,
    };
    let limits = limits(thread);
    let locked = flags & libc::MAP_LOCKED != 0;
    if locked && limits.locked == 0 {
        return Err(Errno::EPERM);
    }
    let mut area = AreaFlags::empty();
    area.set(AreaFlags::SHARED, shared);
    area.set(AreaFlags::GROWS_DOWN, grows_down);
    area.set(AreaFlags::LOCKED, locked);
    area.set(AreaFlags::NO_RESERVE, flags & libc::MAP_NORESERVE != 0);
    let placement = if flags & libc::MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedNoReplace(address)
    } else if flags & libc::MAP_FIXED != 0 {
        Placement::Fixed(address)
    } else if flags & libc::MAP_32BIT != 0 {
        Placement::Low(address)
    } else {
        Placement::Hint(address)
    };
    // MAP_NONBLOCK makes MAP_POPULATE do nothing.
    let populate = flags & libc::MAP_POPULATE != 0 && flags & libc::MAP_NONBLOCK == 0 || locked;
    let request = MapRequest { placement, length, protection, flags: area, source, populate };
    thread.memory().map(&request, &limits)
}

fn open_file(thread: &Thread, arguments: Arguments) -> Result<Arc<OpenFile>, Errno> {
    let file = thread.files().get(arguments.fd(4))?;
    if file.is_path() { Err(Errno::EBADF) } else { Ok(file) }
}

fn mapped_file(thread: &Thread, file: &OpenFile, protection: Protection, shared: bool, offset: u64) -> Result<Source, Errno> {
    if !file.readable() || shared && protection.contains(Protection::WRITE) && !file.writable() {
        return Err(Errno::EACCES);
    }
    let mut mappable = file.ops.mappable()?;
    mappable.writable &= file.writable();
    if shared && protection.contains(Protection::WRITE) && !mappable.writable {
        return Err(Errno::EACCES);
    }
    if protection.contains(Protection::EXECUTE) && u64::from(file.ops.attributes(thread)?.mount_flags) & libc::ST_NOEXEC != 0 {
        return Err(Errno::EPERM);
    }
    Ok(Source::File(mappable, offset))
}

/// The limits that count for the caller.
fn limits(thread: &Thread) -> Limits {
    let may_lock = thread.credentials().has(capability::IPC_LOCK);
    Limits {
        address_space: thread.limit(libc::RLIMIT_AS).0,
        data: thread.limit(libc::RLIMIT_DATA).0,
        locked: if may_lock { u64::MAX } else { thread.limit(libc::RLIMIT_MEMLOCK).0 },
    }
}

/// munmap(2).
pub fn munmap(thread: &mut Thread, arguments: Arguments) -> SysResult {
    thread.memory().unmap(arguments.raw(0), arguments.raw(1)).map(|()| 0)
}

/// mprotect(2).
pub fn mprotect(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let protection = arguments.raw(2);
    let known = PROT_GROWSDOWN | PROT_GROWSUP | 0xf;
    if protection & !known != 0 || protection & PROT_GROWSUP != 0 {
        return Err(Errno::EINVAL);
    }
    let grows_down = protection & PROT_GROWSDOWN != 0;
    let protection = Protection::from_bits_truncate(protection as u32);
    let limits = limits(thread);
    thread.memory().protect(arguments.raw(0), arguments.raw(1), protection, grows_down, &limits).map(|()| 0)
}

/// pkey_mprotect(2) without protection keys: as mprotect(2) for key -1.
pub fn pkey_mprotect(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.int(3) == -1 { mprotect(thread, arguments) } else { Err(Errno::EINVAL) }
}

/// brk(2).
pub fn brk(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let limits = limits(thread);
    Ok(thread.memory().set_heap_end(arguments.raw(0), &limits))
}

/// mremap(2).
pub fn mremap(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = arguments.raw(3);
    let known = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP) as u64;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let has = |flag: i32| flags & flag as u64 != 0;
    let request = RemapRequest {
        old: arguments.raw(0),
        old_length: arguments.raw(1),
        new_length: arguments.raw(2),
        may_move: has(libc::MREMAP_MAYMOVE),
        fixed: has(libc::MREMAP_FIXED).then(|| arguments.raw(4)),
        keep: has(libc::MREMAP_DONTUNMAP),
    };
    let limits = limits(thread);
    thread.memory().remap(&request, &limits)
}

/// madvise(2).
pub fn madvise(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let advice = match arguments.int(2) {
        libc::MADV_DONTNEED => Advice::DontNeed,
        24 => Advice::DontNeedLocked,
        libc::MADV_FREE => Advice::Free,
        libc::MADV_REMOVE => Advice::Remove,
        libc::MADV_DONTFORK => Advice::DontFork,
        libc::MADV_DOFORK => Advice::DoFork,
        libc::MADV_WIPEONFORK => Advice::WipeOnFork,
        libc::MADV_KEEPONFORK => Advice::KeepOnFork,
        libc::MADV_POPULATE_READ => Advice::PopulateRead,
        libc::MADV_POPULATE_WRITE => Advice::PopulateWrite,
        libc::MADV_HWPOISON | libc::MADV_SOFT_OFFLINE => return Err(Errno::EPERM),
        libc::MADV_NORMAL..=libc::MADV_WILLNEED | libc::MADV_MERGEABLE..=libc::MADV_DODUMP | 20 | 21 | 25 => Advice::Hint,
        _ => return Err(Errno::EINVAL),
    };
    thread.memory().advise(arguments.raw(0), arguments.raw(1), advice).map(|()| 0)
}

/// mincore(2).
pub fn mincore(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let memory = thread.memory();
    let (mut address, length) = (arguments.raw(0), arguments.raw(1));
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let end = page_up(length).and_then(|length| address.checked_add(length)).ok_or(Errno::ENOMEM)?;
    // In parts, so that a huge range needs no huge answer at once.
    let part = PART as u64 * PAGE_SIZE;
    let mut at = arguments.address(2);
    while address < end {
        let n = part.min(end - address);
        let pages: Vec<u8> = memory.resident_pages(address, n)?.into_iter().map(u8::from).collect();
        memory.write(at, &pages)?;
        at = at.offset(pages.len() as u64);
        address += n;
    }
    Ok(0)
}

/// msync(2).
pub async fn msync(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = arguments.int(2);
    let both = libc::MS_ASYNC | libc::MS_SYNC;
    if flags & !(both | libc::MS_INVALIDATE) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let invalidate = flags & libc::MS_INVALIDATE != 0;
    let files = thread.memory().files_to_sync(arguments.raw(0), arguments.raw(1), invalidate)?;
    if flags & libc::MS_SYNC == 0 || files.is_empty() {
        return Ok(0);
    }
    executor::blocking(move || {
        for file in files {
            // SAFETY: the fd is open as long as `file` lives.
            if unsafe { libc::fdatasync(file.as_raw_fd()) } < 0 {
                return Err(Errno::last());
            }
        }
        Ok(0)
    })
    .await
}

/// mlock(2).
pub fn mlock(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let limit = limits(thread).locked;
    if limit == 0 {
        return Err(Errno::EPERM);
    }
    thread.memory().lock(arguments.raw(0), arguments.raw(1), true, limit).map(|()| 0)
}

/// mlock2(2).
pub fn mlock2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    if arguments.raw(2) & !u64::from(libc::MLOCK_ONFAULT) != 0 { Err(Errno::EINVAL) } else { mlock(thread, arguments) }
}

/// munlock(2).
pub fn munlock(thread: &mut Thread, arguments: Arguments) -> SysResult {
    thread.memory().lock(arguments.raw(0), arguments.raw(1), false, u64::MAX).map(|()| 0)
}

/// mlockall(2).
pub fn mlockall(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let flags = arguments.int(0);
    let known = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    if flags & !known != 0 || flags & (libc::MCL_CURRENT | libc::MCL_FUTURE) == 0 {
        return Err(Errno::EINVAL);
    }
    let limit = limits(thread).locked;
    if limit == 0 {
        return Err(Errno::EPERM);
    }
    let current = (flags & libc::MCL_CURRENT != 0).then_some(true);
    thread.memory().lock_all(current, flags & libc::MCL_FUTURE != 0, limit).map(|()| 0)
}

/// munlockall(2).
pub fn munlockall(thread: &mut Thread, _: Arguments) -> SysResult {
    thread.memory().lock_all(Some(false), false, u64::MAX).map(|()| 0)
}

/// Commands of membarrier(2) that are answered; a barrier on all of the host's CPUs serves each of them.
const GLOBAL: i32 = 1;
const BARRIERS: i32 = GLOBAL | 1 << 1 | 1 << 3;
const REGISTRATIONS: i32 = 1 << 2 | 1 << 4;

/// membarrier(2).
pub async fn membarrier(_: &mut Thread, arguments: Arguments) -> SysResult {
    let command = arguments.int(0);
    if arguments.int(1) != 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        0 => Ok((BARRIERS | REGISTRATIONS) as u64),
        _ if command.count_ones() != 1 => Err(Errno::EINVAL),
        _ if REGISTRATIONS & command != 0 => Ok(0),
        _ if BARRIERS & command != 0 => {
            executor::blocking(|| {
                // SAFETY: takes no memory.
                match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
                    0 => Ok(0),
                    _ => Err(Errno::last()),
                }
            })
            .await
        }
        _ => Err(Errno::EINVAL),
    }
}

/// process_vm_readv(2).
pub fn process_vm_readv(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (mine, theirs, local, remote) = both_sides(thread, arguments)?;
    transfer(&theirs, &remote, &mine, &local)
}

/// process_vm_writev(2).
pub fn process_vm_writev(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (mine, theirs, local, remote) = both_sides(thread, arguments)?;
    transfer(&mine, &local, &theirs, &remote)
}

type Vector = Vec<(u64, u64)>;
type BothSides = (Arc<AddressSpace>, Arc<AddressSpace>, Vector, Vector);

fn both_sides(thread: &Thread, arguments: Arguments) -> Result<BothSides, Errno> {
    if arguments.raw(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let mine = thread.memory();
    let local = read_vector(&mine, arguments.address(1), arguments.raw(2))?;
    let remote = read_vector(&mine, arguments.address(3), arguments.raw(4))?;
    let target = thread.kernel.pids.task(arguments.int(0)).ok_or(Errno::ESRCH)?;
    if !may_access(thread, &target) {
        return Err(Errno::EPERM);
    }
    Ok((mine, target.memory(), local, remote))
}

fn read_vector(memory: &AddressSpace, address: UserAddress, count: u64) -> Result<Vector, Errno> {
    if count > MOST_VECTORS {
        return Err(Errno::EINVAL);
    }
    let mut vector = Vec::with_capacity(count as usize);
    let mut total = 0u64;
    for i in 0..count {
        let [base, length]: [u64; 2] = memory.read_value(address.offset(i * 16))?;
        total = total.checked_add(length).filter(|&total| total <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
        vector.push((base, length));
    }
    Ok(vector)
}

/// PTRACE_MODE_ATTACH_REALCREDS of ptrace(2).
fn may_access(thread: &Thread, target: &Arc<Task>) -> bool {
    if Arc::ptr_eq(&thread.process, &target.process) {
        return true;
    }
    let (mine, theirs) = (thread.credentials(), target.credentials());
    if mine.has(capability::SYS_PTRACE) {
        return true;
    }
    let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|uid| *uid == mine.uid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|gid| *gid == mine.gid);
    let dumpable = target.process.dumpable.load(std::sync::atomic::Ordering::Relaxed) == 1;
    let more = theirs.capabilities.permitted & !mine.capabilities.permitted != 0;
    same && dumpable && !more
}

/// Copies until one side ends or faults; EFAULT only if that was at the start.
fn transfer(from: &AddressSpace, sources: &Vector, to: &AddressSpace, targets: &Vector) -> SysResult {
    let mut buffer = vec![0; PART];
    let mut done = 0;
    let mut targets = targets.iter().copied().filter(|part| part.1 > 0);
    let mut target = targets.next();
    for &(mut source, mut left) in sources {
        while left > 0 {
            let Some((address, room)) = target else { return Ok(done) };
            let n = left.min(room).min(PART as u64) as usize;
            let copied = from
                .read_some(UserAddress(source), &mut buffer[..n])
                .and_then(|n| to.write_some(UserAddress(address), &buffer[..n]));
            let copied = match copied {
                Ok(copied) => copied as u64,
                Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
            };
            done += copied;
            if copied < n as u64 {
                return Ok(done);
            }
            source += copied;
            left -= copied;
            target = if room > copied { Some((address + copied, room - copied)) } else { targets.next() };
        }
    }
    Ok(done)
}
