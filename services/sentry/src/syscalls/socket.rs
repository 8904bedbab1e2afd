//! Sockets.

use std::sync::Arc;

use bulkhead_ipc::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    fd::install,
    io::{MAX_BYTES, usable, vectors},
};
use crate::{
    abi::{Arguments, FdNumber, SysResult, UserAddress},
    executor,
    fs::{OpenFile, UserBuffers},
    socket::{
        Address, Incoming, MOST_BACKLOG, Outgoing, Shutdown, Socket, SocketFile,
        control::{self, ControlWriter},
        message::Control,
        options::{self, Flags},
        transfer,
    },
    task::Thread,
    time::{RawTimespec, read_timespec},
};

/// struct msghdr.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MessageHeader {
    name: u64,
    name_length: i32,
    padding: u32,
    vectors: u64,
    vector_count: u64,
    control: u64,
    control_length: u64,
    flags: i32,
    padding_2: u32,
}

const _: () = assert!(size_of::<MessageHeader>() == size_of::<libc::msghdr>());

/// struct mmsghdr: a header and the number of bytes, padded.
const MANY_STRIDE: u64 = size_of::<libc::mmsghdr>() as u64;
/// Where that number is.
const MANY_LENGTH: u64 = size_of::<libc::msghdr>() as u64;
/// Messages of one sendmmsg(2) or recvmmsg(2) at most (UIO_MAXIOV).
const MOST_MESSAGES: u32 = 1024;

/// The socket behind a descriptor, and its file. EBADF, ENOTSOCK.
fn socket_at(thread: &Thread, fd: FdNumber) -> Result<(Arc<OpenFile>, Arc<dyn Socket>), Errno> {
    let file = usable(thread, fd)?;
    let socket = transfer::socket_of(&file)?.clone();
    Ok((file, socket))
}

/// The flags in a type argument: those of the file, and close-on-exec.
fn type_flags(kind: i32) -> Result<(u32, bool), Errno> {
    if kind & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let status = if kind & libc::SOCK_NONBLOCK != 0 { libc::O_NONBLOCK as u32 } else { 0 };
    Ok((status, kind & libc::SOCK_CLOEXEC != 0))
}

/// The type in a type argument, without its flags.
const TYPES: i32 = 0xf;
/// Where Linux's socket types end (SOCK_MAX).
const TYPES_END: i32 = 11;

/// socket(2)
pub fn socket(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (domain, kind, protocol) = (arguments.int(0), arguments.int(1), arguments.int(2));
    let (status, close_on_exec) = type_flags(kind & !TYPES)?;
    let kernel = thread.kernel.clone();
    if kind & TYPES >= TYPES_END {
        return Err(Errno::EINVAL);
    }
    let socket = kernel.sockets.family(domain)?.socket(thread, domain, kind & TYPES, protocol)?;
    install(thread, SocketFile::open(socket, status), close_on_exec)
}

/// socketpair(2)
pub fn socketpair(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (domain, kind, protocol) = (arguments.int(0), arguments.int(1), arguments.int(2));
    let (status, close_on_exec) = type_flags(kind & !TYPES)?;
    let kernel = thread.kernel.clone();
    if kind & TYPES >= TYPES_END {
        return Err(Errno::EINVAL);
    }
    let pair = kernel.sockets.family(domain)?.pair(thread, domain, kind & TYPES, protocol)?;
    let files = pair.map(|socket| SocketFile::open(socket, status));
    super::pipe::install_two(thread, files, close_on_exec, arguments.address(3))
}

/// bind(2)
pub fn bind(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (_, socket) = socket_at(thread, arguments.fd(0))?;
    let address = Address::read(&thread.memory(), arguments.address(1), arguments.int(2))?;
    socket.bind(thread, &address)?;
    Ok(0)
}

/// listen(2)
pub fn listen(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (_, socket) = socket_at(thread, arguments.fd(0))?;
    socket.listen(thread, arguments.uint(1).min(MOST_BACKLOG))?;
    Ok(0)
}

/// accept(2)
pub async fn accept(thread: &mut Thread, arguments: Arguments) -> SysResult {
    accept_with(thread, arguments, 0).await
}

/// accept4(2)
pub async fn accept4(thread: &mut Thread, arguments: Arguments) -> SysResult {
    accept_with(thread, arguments, arguments.int(3)).await
}

async fn accept_with(thread: &Thread, arguments: Arguments, flags: i32) -> SysResult {
    let (status, close_on_exec) = type_flags(flags)?;
    let (file, socket) = socket_at(thread, arguments.fd(0))?;
    if !thread.files().has_room(thread.limit(libc::RLIMIT_NOFILE).0) {
        return Err(Errno::EMFILE);
    }
    let accepted = transfer::accept(&thread.task, &file, &*socket).await?;
    let file = SocketFile::open(accepted.clone(), status);
    if !arguments.address(1).is_null() {
        let address = accepted.peer_name().map_err(|_| Errno::ECONNABORTED)?;
        address.write(&thread.memory(), arguments.address(1), arguments.address(2))?;
    }
    install(thread, file, close_on_exec)
}

/// connect(2)
pub async fn connect(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (file, socket) = socket_at(thread, arguments.fd(0))?;
    let address = Address::read(&thread.memory(), arguments.address(1), arguments.int(2))?;
    if address.family().is_none() {
        return Err(Errno::EINVAL);
    }
    transfer::connect(thread, &file, &*socket, &address).await?;
    Ok(0)
}

/// getsockname(2)
pub fn getsockname(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (_, socket) = socket_at(thread, arguments.fd(0))?;
    socket.name()?.write(&thread.memory(), arguments.address(1), arguments.address(2))?;
    Ok(0)
}

/// getpeername(2)
pub fn getpeername(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (_, socket) = socket_at(thread, arguments.fd(0))?;
    socket.peer_name()?.write(&thread.memory(), arguments.address(1), arguments.address(2))?;
    Ok(0)
}

/// shutdown(2)
pub fn shutdown(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (_, socket) = socket_at(thread, arguments.fd(0))?;
    let how = match arguments.int(1) {
        libc::SHUT_RD => Shutdown::Read,
        libc::SHUT_WR => Shutdown::Write,
        libc::SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno::EINVAL),
    };
    socket.shutdown(how)?;
    Ok(0)
}

/// setsockopt(2)
pub fn setsockopt(thread: &mut Thread, arguments: Arguments) -> SysResult {
    /// No option of any family is longer.
    const LONGEST: usize = 4096;
    let (_, socket) = socket_at(thread, arguments.fd(0))?;
    let length = usize::try_from(arguments.int(4)).map_err(|_| Errno::EINVAL)?;
    let mut value = vec![0; length.min(LONGEST)];
    thread.memory().read(arguments.address(3), &mut value)?;
    options::set(thread, &*socket, arguments.int(1), arguments.int(2), &value)?;
    Ok(0)
}

/// getsockopt(2)
pub fn getsockopt(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (_, socket) = socket_at(thread, arguments.fd(0))?;
    let memory = thread.memory();
    let (address, length) = (arguments.address(3), arguments.address(4));
    let room: i32 = memory.read_value(length)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let value = options::get(thread, &*socket, arguments.int(1), arguments.int(2), room)?;
    let told = value.get(..room).unwrap_or(&value);
    memory.write(address, told)?;
    memory.write_value(length, &(told.len() as i32))?;
    Ok(0)
}

/// sendto(2)
pub async fn sendto(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let memory = thread.memory();
    let mut data = UserBuffers::one(&memory, arguments.address(1), arguments.size(2).min(MAX_BYTES));
    let (file, socket) = socket_at(thread, arguments.fd(0))?;
    let address = match arguments.address(4) {
        UserAddress::NULL => None,
        address => Some(Address::read(&memory, address, arguments.int(5))?),
    };
    let address = address.as_ref().filter(|address| !address.0.is_empty());
    let flags = arguments.int(3);
    let mut message = Outgoing { thread: Some(thread), data: &mut data, address, control: Control::default(), flags };
    Ok(transfer::send(&thread.task, &file, &*socket, &mut message).await? as u64)
}

/// recvfrom(2)
pub async fn recvfrom(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let memory = thread.memory();
    let mut data = UserBuffers::one(&memory, arguments.address(1), arguments.size(2).min(MAX_BYTES));
    let (file, socket) = socket_at(thread, arguments.fd(0))?;
    let mut message = Incoming::bytes(&mut data, arguments.int(3));
    message.wants_address = !arguments.address(4).is_null();
    let received = transfer::receive(&thread.task, &file, &*socket, &mut message).await?;
    if message.wants_address {
        message.address.take().unwrap_or_default().write(&memory, arguments.address(4), arguments.address(5))?;
    }
    Ok(received as u64)
}

/// The buffers of a message; EMSGSIZE for too many.
fn data_of<'m>(memory: &'m crate::memory::AddressSpace, header: &MessageHeader) -> Result<UserBuffers<'m>, Errno> {
    let count = usize::try_from(header.vector_count).unwrap_or(usize::MAX);
    if count > super::io::MAX_BUFFERS {
        return Err(Errno::EMSGSIZE);
    }
    vectors(memory, UserAddress(header.vectors), count)
}

/// One message of sendmsg(2) and sendmmsg(2).
async fn send_one(
    thread: &Thread,
    file: &OpenFile,
    socket: &dyn Socket,
    header: UserAddress,
    flags: i32,
) -> Result<usize, Errno> {
    let memory = thread.memory();
    let header: MessageHeader = memory.read_value(header)?;
    let address = match header.name {
        0 => None,
        name => {
            let length = header.name_length.min(crate::socket::address::LONGEST as i32);
            Some(Address::read(&memory, UserAddress(name), length)?)
        }
    };
    let mut data = data_of(&memory, &header)?;
    let room = usize::try_from(header.control_length).ok().filter(|&room| room <= i32::MAX as usize).ok_or(Errno::ENOBUFS)?;
    let control = control::read(thread, UserAddress(header.control), room, socket.core().domain == libc::AF_UNIX)?;
    let address = address.as_ref().filter(|address| !address.0.is_empty());
    let mut message = Outgoing { thread: Some(thread), data: &mut data, address, control, flags };
    transfer::send(&thread.task, file, socket, &mut message).await
}

/// sendmsg(2)
pub async fn sendmsg(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (file, socket) = socket_at(thread, arguments.fd(0))?;
    Ok(send_one(thread, &file, &*socket, arguments.address(1), arguments.int(2)).await? as u64)
}

/// sendmmsg(2)
pub async fn sendmmsg(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (file, socket) = socket_at(thread, arguments.fd(0))?;
    let count = arguments.uint(2).min(MOST_MESSAGES);
    let mut sent = 0;
    while sent < count {
        let at = arguments.address(1).offset(u64::from(sent) * MANY_STRIDE);
        match send_one(thread, &file, &*socket, at, arguments.int(3)).await {
            Ok(length) => thread.memory().write_value(at.offset(MANY_LENGTH), &(length as u32))?,
            Err(errno) if sent == 0 => return Err(errno),
            Err(_) => break,
        }
        sent += 1;
    }
    Ok(u64::from(sent))
}

/// One message of recvmsg(2) and recvmmsg(2).
async fn receive_one(thread: &Thread, file: &OpenFile, socket: &dyn Socket, at: UserAddress, flags: i32) -> Result<usize, Errno> {
    let memory = thread.memory();
    let header: MessageHeader = memory.read_value(at)?;
    if header.name != 0 && header.name_length < 0 {
        return Err(Errno::EINVAL);
    }
    let mut data = data_of(&memory, &header)?;
    let mut message = Incoming::bytes(&mut data, flags);
    message.wants_address = header.name != 0;
    message.wants_control = true;
    let received = transfer::receive(&thread.task, file, socket, &mut message).await?;
    let (address, control) = (message.address.take(), std::mem::take(&mut message.control));
    let mut result = message.result | flags & libc::MSG_CMSG_CLOEXEC;
    let room = usize::try_from(header.control_length).unwrap_or(usize::MAX);
    let mut writer = ControlWriter::new(thread, UserAddress(header.control), room);
    let wanted = socket.core().flags();
    if let Some(identity) = control.identity
        && wanted.contains(Flags::PASSCRED)
    {
        writer.put(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &identity.bytes())?;
    }
    if !control.rights.is_empty() {
        writer.put_rights(control.rights, flags & libc::MSG_CMSG_CLOEXEC != 0)?;
    }
    if let Some(identity) = control.identity
        && wanted.contains(Flags::PASSPIDFD)
    {
        writer.put_process(identity.pid)?;
    }
    for item in control.others {
        writer.put(item.level, item.kind, &item.data)?;
    }
    if writer.truncated {
        result |= libc::MSG_CTRUNC;
    }
    let field = |offset: usize| at.offset(offset as u64);
    if header.name != 0 {
        let length = field(std::mem::offset_of!(MessageHeader, name_length));
        address.unwrap_or_default().write(&memory, UserAddress(header.name), length)?;
    }
    memory.write_value(field(std::mem::offset_of!(MessageHeader, flags)), &result)?;
    memory.write_value(field(std::mem::offset_of!(MessageHeader, control_length)), &(writer.used as u64))?;
    Ok(received)
}

/// recvmsg(2)
pub async fn recvmsg(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (file, socket) = socket_at(thread, arguments.fd(0))?;
    Ok(receive_one(thread, &file, &*socket, arguments.address(1), arguments.int(2)).await? as u64)
}

/// recvmmsg(2): the time-out is looked at between messages, as Linux does.
pub async fn recvmmsg(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (file, socket) = socket_at(thread, arguments.fd(0))?;
    let deadline = match arguments.address(4) {
        UserAddress::NULL => None,
        address => Some(executor::now().saturating_add(read_timespec(&thread.memory(), address)?)),
    };
    let count = arguments.uint(2).min(MOST_MESSAGES);
    let mut flags = arguments.int(3) & !libc::MSG_WAITFORONE;
    let mut received = 0;
    let outcome = loop {
        if received == count {
            break Ok(());
        }
        let at = arguments.address(1).offset(u64::from(received) * MANY_STRIDE);
        match receive_one(thread, &file, &*socket, at, flags).await {
            Ok(length) => thread.memory().write_value(at.offset(MANY_LENGTH), &(length as u32))?,
            Err(errno) => break Err(errno),
        }
        received += 1;
        if arguments.int(3) & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
        if deadline.is_some_and(|deadline| executor::now() >= deadline) {
            break Ok(());
        }
    };
    if received == 0 {
        outcome?;
    }
    if let Some(deadline) = deadline {
        let left = RawTimespec::new(deadline.saturating_sub(executor::now()));
        thread.memory().write_value(arguments.address(4), &left)?;
    }
    Ok(u64::from(received))
}
