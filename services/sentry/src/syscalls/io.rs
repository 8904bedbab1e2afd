//! Reading, writing and what else works on an open file's bytes.

use std::sync::Arc;

use bulkhead_ipc::Errno;

use crate::{
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    fs::{
        Offset, OpenFile, UserBuffers,
        host::HostFile,
        io, memfd,
        pipe::PipeFile,
        regular::RegularFile,
        splice::{End, Extent, transfer},
    },
    memory::AddressSpace,
    signal::SignalInfo,
    socket::{self, SocketFile},
    task::{Task, Thread},
};

/// Bytes that one call moves at most (MAX_RW_COUNT).
pub(super) const MAX_BYTES: usize = 0x7fff_f000;
/// Buffers of one readv(2) at most.
pub(super) const MAX_BUFFERS: usize = 1024;

/// An open file that may be used for more than naming a place: O_PATH is EBADF.
pub(super) fn usable(thread: &Thread, fd: FdNumber) -> Result<Arc<OpenFile>, Errno> {
    let file = thread.files().get(fd)?;
    if file.is_path() { Err(Errno::EBADF) } else { Ok(file) }
}

/// The buffers of readv(2) and its kin.
pub(super) fn vectors(memory: &AddressSpace, address: UserAddress, count: usize) -> Result<UserBuffers<'_>, Errno> {
    if count > MAX_BUFFERS {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; count * 16];
    memory.read(address, &mut bytes)?;
    let mut left = MAX_BYTES;
    let mut parts = Vec::with_capacity(count);
    for vector in bytes.chunks_exact(16) {
        let word = |at: usize| vector[at..at + 8].iter().rev().fold(0u64, |sum, &byte| sum << 8 | byte as u64);
        let length = word(8);
        if length > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(left);
        left -= length;
        parts.push((UserAddress(word(0)), length));
    }
    Ok(UserBuffers::many(memory, parts))
}

/// An offset argument of pread(2) and its kin.
fn offset(value: i64) -> Result<Offset, Errno> {
    u64::try_from(value).map(Offset::At).map_err(|_| Errno::EINVAL)
}

/// How many of `length` bytes may be written from `start` on under RLIMIT_FSIZE; SIGXFSZ and EFBIG when none.
fn within_limit(task: &Task, start: u64, length: u64) -> Result<u64, Errno> {
    let (limit, _) = task.limit(libc::RLIMIT_FSIZE);
    if start < limit || length == 0 {
        return Ok(length.min(limit.saturating_sub(start)));
    }
    task.send_signal(SignalInfo::kernel(libc::SIGXFSZ));
    Err(Errno::EFBIG)
}

/// What must be done before regular files are written: limits, and the loss of set-user-id bits.
fn before_write(task: &Task, file: &OpenFile, buffers: &mut UserBuffers<'_>, offset: Offset) -> Result<(), Errno> {
    let Some(regular) = file.downcast::<RegularFile>() else { return Ok(()) };
    if !file.writable() {
        return Err(Errno::EBADF);
    }
    regular.strip_set_id(task)?;
    if task.limit(libc::RLIMIT_FSIZE).0 == u64::MAX {
        return Ok(());
    }
    let appends = file.has(libc::O_APPEND) || buffers.flags & libc::RWF_APPEND != 0;
    let start = match offset {
        _ if appends => regular.size()?,
        Offset::At(at) => at,
        Offset::Current => *file.position.lock(),
    };
    let allowed = within_limit(task, start, buffers.remaining() as u64)?;
    buffers.limit(allowed as usize);
    Ok(())
}

/// A socket has no offsets.
fn at_its_end(offset: Offset) -> Result<(), Errno> {
    if offset == Offset::Current { Ok(()) } else { Err(Errno::ESPIPE) }
}

async fn write_to(thread: &Thread, file: &OpenFile, mut buffers: UserBuffers<'_>, offset: Offset) -> SysResult {
    if let Some(SocketFile { socket }) = file.downcast() {
        at_its_end(offset)?;
        return Ok(socket::transfer::write(thread, file, &**socket, &mut buffers).await? as u64);
    }
    let task = &thread.task;
    before_write(task, file, &mut buffers, offset)?;
    Ok(io::write(task, file, &mut buffers, offset).await? as u64)
}

async fn read_from(thread: &Thread, file: &OpenFile, mut buffers: UserBuffers<'_>, offset: Offset) -> SysResult {
    if let Some(SocketFile { socket }) = file.downcast() {
        at_its_end(offset)?;
        return Ok(socket::transfer::read(thread, file, &**socket, &mut buffers).await? as u64);
    }
    Ok(io::read(&thread.task, file, &mut buffers, offset).await? as u64)
}

/// read(2)
pub async fn read(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let buffers = UserBuffers::one(&memory, arguments.address(1), arguments.size(2).min(MAX_BYTES));
    read_from(thread, &file, buffers, Offset::Current).await
}

/// write(2)
pub async fn write(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let buffers = UserBuffers::one(&memory, arguments.address(1), arguments.size(2).min(MAX_BYTES));
    write_to(thread, &file, buffers, Offset::Current).await
}

/// pread64(2)
pub async fn pread64(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let offset = offset(arguments.long(3))?;
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let buffers = UserBuffers::one(&memory, arguments.address(1), arguments.size(2).min(MAX_BYTES));
    read_from(thread, &file, buffers, offset).await
}

/// pwrite64(2)
pub async fn pwrite64(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let offset = offset(arguments.long(3))?;
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let buffers = UserBuffers::one(&memory, arguments.address(1), arguments.size(2).min(MAX_BYTES));
    write_to(thread, &file, buffers, offset).await
}

/// readv(2)
pub async fn readv(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let buffers = vectors(&memory, arguments.address(1), arguments.size(2))?;
    read_from(thread, &file, buffers, Offset::Current).await
}

/// writev(2)
pub async fn writev(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let buffers = vectors(&memory, arguments.address(1), arguments.size(2))?;
    write_to(thread, &file, buffers, Offset::Current).await
}

/// preadv(2)
pub async fn preadv(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let offset = offset(arguments.long(3))?;
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let buffers = vectors(&memory, arguments.address(1), arguments.size(2))?;
    read_from(thread, &file, buffers, offset).await
}

/// pwritev(2)
pub async fn pwritev(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let offset = offset(arguments.long(3))?;
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let buffers = vectors(&memory, arguments.address(1), arguments.size(2))?;
    write_to(thread, &file, buffers, offset).await
}

/// RWF_* flags and the offset of preadv2(2) and pwritev2(2), where -1 is the file's position.
fn extended(arguments: &Arguments) -> Result<(Offset, i32), Errno> {
    const KNOWN: i32 = libc::RWF_HIPRI | libc::RWF_DSYNC | libc::RWF_SYNC | libc::RWF_NOWAIT | libc::RWF_APPEND;
    let flags = arguments.int(5);
    if flags & !KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let offset = if arguments.long(3) == -1 { Offset::Current } else { offset(arguments.long(3))? };
    Ok((offset, flags))
}

/// preadv2(2)
pub async fn preadv2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (offset, flags) = extended(&arguments)?;
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let mut buffers = vectors(&memory, arguments.address(1), arguments.size(2))?;
    buffers.flags = flags;
    read_from(thread, &file, buffers, offset).await
}

/// pwritev2(2)
pub async fn pwritev2(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (offset, flags) = extended(&arguments)?;
    let file = thread.files().get(arguments.fd(0))?;
    let memory = thread.memory();
    let mut buffers = vectors(&memory, arguments.address(1), arguments.size(2))?;
    buffers.flags = flags;
    write_to(thread, &file, buffers, offset).await
}

/// lseek(2)
pub fn lseek(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = usable(thread, arguments.fd(0))?;
    file.ops.seek(&file, arguments.long(1), arguments.int(2))
}

/// ftruncate(2)
pub fn ftruncate(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = usable(thread, arguments.fd(0))?;
    let size = u64::try_from(arguments.long(1)).map_err(|_| Errno::EINVAL)?;
    if !file.writable() {
        return Err(Errno::EINVAL);
    }
    if let Some(regular) = file.downcast::<RegularFile>() {
        regular.strip_set_id(&thread.task)?;
        if size > regular.size()? && size > thread.limit(libc::RLIMIT_FSIZE).0 {
            within_limit(&thread.task, size, 1)?;
        }
    }
    file.ops.truncate(&file, size)?;
    Ok(0)
}

/// fallocate(2)
pub fn fallocate(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = usable(thread, arguments.fd(0))?;
    let start = u64::try_from(arguments.long(2)).map_err(|_| Errno::EINVAL)?;
    let length = u64::try_from(arguments.long(3)).ok().filter(|&n| n > 0).ok_or(Errno::EINVAL)?;
    let end = start.checked_add(length).filter(|&end| end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
    if !file.writable() {
        return Err(Errno::EBADF);
    }
    if file.downcast::<PipeFile>().is_some() {
        return Err(Errno::ESPIPE);
    }
    if arguments.int(1) & libc::FALLOC_FL_KEEP_SIZE == 0 && end > thread.limit(libc::RLIMIT_FSIZE).0 {
        within_limit(&thread.task, end, 1)?;
    }
    file.ops.allocate(&file, arguments.int(1), start, length)?;
    Ok(0)
}

/// fsync(2)
pub fn fsync(thread: &mut Thread, arguments: Arguments) -> SysResult {
    usable(thread, arguments.fd(0))?.ops.sync(false)?;
    Ok(0)
}

/// fdatasync(2)
pub fn fdatasync(thread: &mut Thread, arguments: Arguments) -> SysResult {
    usable(thread, arguments.fd(0))?.ops.sync(true)?;
    Ok(0)
}

/// sync_file_range(2): syncs all of the file's data.
pub fn sync_file_range(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = usable(thread, arguments.fd(0))?;
    if arguments.long(1) < 0 || arguments.long(2) < 0 || arguments.uint(3) & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    if file.downcast::<RegularFile>().is_none() {
        return Err(Errno::ESPIPE);
    }
    file.ops.sync(true)?;
    Ok(0)
}

/// readahead(2): a hint, and the host reads ahead by itself.
pub fn readahead(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = usable(thread, arguments.fd(0))?;
    if !file.readable() {
        return Err(Errno::EBADF);
    }
    if file.downcast::<RegularFile>().is_none() { Err(Errno::EINVAL) } else { Ok(0) }
}

/// fadvise64(2): a hint.
pub fn fadvise64(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = usable(thread, arguments.fd(0))?;
    if file.downcast::<PipeFile>().is_some() {
        return Err(Errno::ESPIPE);
    }
    if arguments.long(2) < 0 || !(0..=5).contains(&arguments.int(3)) {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

/// Reads an optional offset argument (a pointer to loff_t).
fn optional_offset(memory: &AddressSpace, address: UserAddress) -> Result<Option<u64>, Errno> {
    if address.is_null() {
        return Ok(None);
    }
    let value: i64 = memory.read_value(address)?;
    u64::try_from(value).map(Some).map_err(|_| Errno::EINVAL)
}

/// Writes an offset argument back.
fn return_offset(memory: &AddressSpace, address: UserAddress, end: &End<'_>) -> Result<(), Errno> {
    match end.offset {
        Some(offset) => memory.write_value(address, &(offset as i64)),
        None => Ok(()),
    }
}

/// Bytes that a copy into a regular file may write.
fn copy_limit(task: &Task, end: &End<'_>, length: usize) -> Result<usize, Errno> {
    let Some(regular) = end.file.downcast::<RegularFile>() else { return Ok(length) };
    regular.strip_set_id(task)?;
    let start = end.offset.unwrap_or_else(|| *end.file.position.lock());
    Ok(within_limit(task, start, length as u64)? as usize)
}

/// sendfile(2)
pub async fn sendfile(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (to, from) = (usable(thread, arguments.fd(0))?, usable(thread, arguments.fd(1))?);
    if !to.writable() || !from.readable() {
        return Err(Errno::EBADF);
    }
    // What was read from a stream could not be put back if the sink took less.
    let stream = from.ops.wait_queue().is_some() || from.downcast::<HostFile>().is_some();
    if to.has(libc::O_APPEND) || stream {
        return Err(Errno::EINVAL);
    }
    let memory = thread.memory();
    let mut source = End { file: &from, offset: optional_offset(&memory, arguments.address(2))? };
    let mut sink = End { file: &to, offset: None };
    let length = copy_limit(&thread.task, &sink, arguments.size(3).min(MAX_BYTES))?;
    let done = transfer(&thread.task, &mut source, &mut sink, length, Extent::All, false).await?;
    return_offset(&memory, arguments.address(2), &source)?;
    Ok(done as u64)
}

/// copy_file_range(2)
pub async fn copy_file_range(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (from, to) = (usable(thread, arguments.fd(0))?, usable(thread, arguments.fd(2))?);
    if arguments.uint(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let (Some(source_file), Some(sink_file)) = (from.downcast::<RegularFile>(), to.downcast::<RegularFile>()) else {
        return Err(Errno::EINVAL);
    };
    if !to.writable() || !from.readable() || to.has(libc::O_APPEND) {
        return Err(Errno::EBADF);
    }
    let memory = thread.memory();
    let mut source = End { file: &from, offset: optional_offset(&memory, arguments.address(1))? };
    let mut sink = End { file: &to, offset: optional_offset(&memory, arguments.address(3))? };
    let wanted = arguments.size(4).min(MAX_BYTES);
    if source_file.inode() == sink_file.inode() {
        let read = source.offset.unwrap_or_else(|| *from.position.lock());
        let write = sink.offset.unwrap_or_else(|| *to.position.lock());
        if read.abs_diff(write) < wanted as u64 {
            return Err(Errno::EINVAL);
        }
    }
    let length = copy_limit(&thread.task, &sink, wanted)?;
    let done = transfer(&thread.task, &mut source, &mut sink, length, Extent::All, false).await?;
    return_offset(&memory, arguments.address(1), &source)?;
    return_offset(&memory, arguments.address(3), &sink)?;
    Ok(done as u64)
}

/// splice(2)
pub async fn splice(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (from, to) = (usable(thread, arguments.fd(0))?, usable(thread, arguments.fd(2))?);
    let flags = splice_flags(arguments.uint(5))?;
    if !to.writable() || !from.readable() {
        return Err(Errno::EBADF);
    }
    let (source_pipe, sink_pipe) = (from.downcast::<PipeFile>().is_some(), to.downcast::<PipeFile>().is_some());
    if !source_pipe && !sink_pipe || to.has(libc::O_APPEND) {
        return Err(Errno::EINVAL);
    }
    if source_pipe && arguments.raw(1) != 0 || sink_pipe && arguments.raw(3) != 0 {
        return Err(Errno::ESPIPE);
    }
    let memory = thread.memory();
    let mut source = End { file: &from, offset: optional_offset(&memory, arguments.address(1))? };
    let mut sink = End { file: &to, offset: optional_offset(&memory, arguments.address(3))? };
    let length = copy_limit(&thread.task, &sink, arguments.size(4).min(MAX_BYTES))?;
    let nonblocking = flags & libc::SPLICE_F_NONBLOCK != 0;
    let done = transfer(&thread.task, &mut source, &mut sink, length, Extent::Some, nonblocking).await?;
    return_offset(&memory, arguments.address(1), &source)?;
    return_offset(&memory, arguments.address(3), &sink)?;
    Ok(done as u64)
}

/// tee(2)
pub async fn tee(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (from, to) = (usable(thread, arguments.fd(0))?, usable(thread, arguments.fd(1))?);
    let flags = splice_flags(arguments.uint(3))?;
    if !to.writable() || !from.readable() {
        return Err(Errno::EBADF);
    }
    if from.downcast::<PipeFile>().is_none() || to.downcast::<PipeFile>().is_none() {
        return Err(Errno::EINVAL);
    }
    let (mut source, mut sink) = (End { file: &from, offset: None }, End { file: &to, offset: None });
    let nonblocking = flags & libc::SPLICE_F_NONBLOCK != 0;
    let length = arguments.size(2).min(MAX_BYTES);
    let done = transfer(&thread.task, &mut source, &mut sink, length, Extent::Keep, nonblocking).await?;
    Ok(done as u64)
}

/// vmsplice(2): pages are copied, never given away.
pub async fn vmsplice(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let file = usable(thread, arguments.fd(0))?;
    let flags = splice_flags(arguments.uint(3))?;
    if file.downcast::<PipeFile>().is_none() {
        return Err(Errno::EBADF);
    }
    let memory = thread.memory();
    let mut buffers = vectors(&memory, arguments.address(1), arguments.size(2))?;
    if flags & libc::SPLICE_F_NONBLOCK != 0 {
        buffers.flags = libc::RWF_NOWAIT;
    }
    match file.writable() {
        true => write_to(thread, &file, buffers, Offset::Current).await,
        false => read_from(thread, &file, buffers, Offset::Current).await,
    }
}

fn splice_flags(flags: u32) -> Result<u32, Errno> {
    let known = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;
    if flags & !known != 0 { Err(Errno::EINVAL) } else { Ok(flags) }
}

/// memfd_create(2)
pub fn memfd_create(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let name = thread.memory().read_string(arguments.address(0), 250).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        errno => errno,
    })?;
    let file = memfd::create(thread, &name, arguments.uint(1))?;
    super::fd::install(thread, file, arguments.uint(1) & libc::MFD_CLOEXEC != 0)
}
