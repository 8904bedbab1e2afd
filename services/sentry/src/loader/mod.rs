//! execve(2)'s work: finds the interpreter, maps the program, builds the stack.
//!
//! Parsing ([`elf`], [`script`]) is pure and believes nothing; [`image`] maps what it found, [`stack`] lays out what the program
//! finds on its stack. Everything goes into a new address space, whose changes reach the stub in one batch at the end: an
//! error leaves the caller as it was.

mod elf;
mod image;
mod random;
mod script;
mod stack;

use std::{os::fd::AsFd, sync::Arc};

use bulkhead_ipc::{Errno, vfs::Attributes};

use crate::{
    abi::FdNumber,
    fs::{self, OpenFile},
    memory::{AddressSpace, Limits, MappableFile},
    platform::Registers,
    task::{Credentials, Thread, capability},
};

/// A program ready to run in a new address space.
pub struct Loaded {
    /// The new memory. If it holds no stub yet, it is to take over the caller's.
    pub memory: Arc<AddressSpace>,
    /// Initial registers (rip, rsp; the rest zero).
    pub registers: Registers,
    /// The executable, for /proc/self/exe.
    pub executable: Arc<OpenFile>,
    /// Last component of the path, at most 15 bytes (PR_GET_NAME).
    pub name: Vec<u8>,
    /// The set-user-id / set-group-id owner to take on, if any, after no_new_privs and nosuid were honoured.
    pub set_uid: Option<u32>,
    /// See `set_uid`.
    pub set_gid: Option<u32>,
    /// The file cannot be read by the caller (dumpable is cleared).
    pub unreadable: bool,
}

/// Scripts may be interpreted by scripts this deep (execve(2)).
const DEEPEST_SCRIPT: usize = 5;
/// Longest single string (MAX_ARG_STRLEN), with its NUL.
const LONGEST_STRING: usize = 128 << 10;
/// Strings and pointers may always have this much (ARG_MAX), and never more than 3/4 of the default stack limit.
const SPACE: (u64, u64) = (128 << 10, 6 << 20);
/// TASK_COMM_LEN without the NUL.
const LONGEST_NAME: usize = 15;
/// A program that is run with this in its environment, and what it forks, has no call site rewritten.
const KEEPS_CALL_SITES: &[u8] = b"BULKHEAD_REWRITING=false";
/// personality(2): no address space randomisation.
const ADDR_NO_RANDOMIZE: u64 = 0x0004_0000;

/// Loads `file` (opened for execution; `path` as the caller gave it, for `#!` and AT_EXECFN). Errors leave the caller as it was.
pub fn load(
    thread: &Thread,
    file: Arc<OpenFile>,
    path: &[u8],
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> Result<Loaded, Errno> {
    let (file, arguments) = interpret(thread, file, path, arguments)?;
    check_space(thread, path, &arguments, &environment)?;
    let source = file.ops.mappable().map_err(|_| Errno::EACCES)?;
    let header = elf::Program::read(|offset, into| read_at(&source, offset, into))?;
    let interpreter = match &header.interpreter {
        Some(path) => Some(open_interpreter(thread, path)?),
        None => None,
    };

    let attributes = file.ops.attributes(thread)?;
    let credentials = thread.credentials();
    let (set_uid, set_gid) = owner_to_become(&attributes, &credentials);

    let unreadable = !may_read(&attributes, &credentials);
    let memory = new_memory(thread, set_uid.is_some() || set_gid.is_some() || unreadable)?;
    let limits =
        Limits { address_space: thread.limit(libc::RLIMIT_AS).0, data: thread.limit(libc::RLIMIT_DATA).0, locked: u64::MAX };
    let stack_limit = thread.limit(libc::RLIMIT_STACK).0;
    let randomise = thread.personality.load(std::sync::atomic::Ordering::Relaxed) & ADDR_NO_RANDOMIZE == 0;
    memory.set_stack_limit(stack_limit);
    if environment.iter().any(|entry| entry == KEEPS_CALL_SITES) {
        memory.set_rewriting(false);
    }
    memory.gather();
    let strings = stack::Strings { path, arguments: &arguments, environment: &environment };
    let places = image::Places::choose(memory.guest_end(), thread.kernel.platform.vdso(), stack_limit, randomise);
    memory.set_mmap_top(places.mmap_top);
    stack::map(&memory, &strings, places.stack_top, header.executable_stack, &limits)?;
    let image = image::map(&memory, &source, &header, interpreter.as_ref(), &places, &limits)?;
    let identity = stack::Identity::after(&credentials, set_uid, set_gid);
    let vdso = thread.kernel.platform.vdso().code_start;
    let stack_pointer = stack::fill(&memory, &strings, &places, &image, &identity, vdso)?;
    if memory.holds_stub() {
        memory.finish()?;
    }

    Ok(Loaded {
        memory,
        registers: Registers { rip: image.entry, rsp: stack_pointer, ..Registers::default() },
        executable: file,
        name: short_name(path),
        set_uid,
        set_gid,
        unreadable,
    })
}

/// Memory for the program: to come after the caller's on the same stub, where nobody else has that. `guarded` says that the caller could not
/// do all that the program will be able to: threads that it left in the stub must not be there then.
fn new_memory(thread: &Thread, guarded: bool) -> Result<Arc<AddressSpace>, bulkhead_ipc::Errno> {
    let platform = &thread.kernel.platform;
    let old = thread.memory();
    // One reference is the task's, one ours.
    let alone = thread.process.thread_count() == 1 && Arc::strong_count(&old) == 2;
    if alone && !guarded { Ok(old.successor(platform)) } else { AddressSpace::new(platform, &thread.kernel.memory) }
}

/// Follows `#!` lines to the program that is really run, with the arguments that it gets.
fn interpret(
    thread: &Thread,
    mut file: Arc<OpenFile>,
    path: &[u8],
    mut arguments: Vec<Vec<u8>>,
) -> Result<(Arc<OpenFile>, Vec<Vec<u8>>), Errno> {
    let mut path = path.to_vec();
    for _ in 0..=DEEPEST_SCRIPT {
        let source = file.ops.mappable().map_err(|_| Errno::EACCES)?;
        let mut head = [0; script::HEAD];
        let n = read_at(&source, 0, &mut head);
        let Some(line) = script::parse(&head[..n])? else { return Ok((file, arguments)) };
        let mut changed = vec![line.interpreter.clone()];
        changed.extend(line.argument);
        changed.push(std::mem::replace(&mut path, line.interpreter));
        changed.extend(arguments.into_iter().skip(1));
        arguments = changed;
        file = fs::open_executable(thread, FdNumber::WORKING_DIRECTORY, &path, 0)?;
    }
    Err(Errno::ELOOP)
}

/// The dynamic linker.
fn open_interpreter(thread: &Thread, path: &[u8]) -> Result<(MappableFile, elf::Program), Errno> {
    let file = fs::open_executable(thread, FdNumber::WORKING_DIRECTORY, path, 0)?;
    let source = file.ops.mappable().map_err(|_| Errno::EACCES)?;
    let program = elf::Program::read(|offset, into| read_at(&source, offset, into)).map_err(|_| Errno::ELIBBAD)?;
    Ok((source, program))
}

fn check_space(thread: &Thread, path: &[u8], arguments: &[Vec<u8>], environment: &[Vec<u8>]) -> Result<(), Errno> {
    let space = (thread.limit(libc::RLIMIT_STACK).0 / 4).clamp(SPACE.0, SPACE.1);
    let mut sum = path.len() as u64 + 1;
    for string in arguments.iter().chain(environment) {
        if string.len() >= LONGEST_STRING {
            return Err(Errno::E2BIG);
        }
        sum += string.len() as u64 + 1 + 8;
    }
    if sum > space { Err(Errno::E2BIG) } else { Ok(()) }
}

/// Reads as much as there is.
fn read_at(source: &MappableFile, offset: u64, into: &mut [u8]) -> usize {
    let mut done = 0;
    while done < into.len() {
        let Ok(at) = i64::try_from(offset.saturating_add(done as u64)) else { break };
        match nix::sys::uio::pread(source.fd.as_fd(), &mut into[done..], at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    done
}

/// The set-user-id and set-group-id owners, where they count.
fn owner_to_become(attributes: &Attributes, credentials: &Credentials) -> (Option<u32>, Option<u32>) {
    let ignored = credentials.no_new_privileges || u64::from(attributes.mount_flags) & libc::ST_NOSUID != 0;
    if ignored {
        return (None, None);
    }
    let uid = (attributes.mode & libc::S_ISUID != 0).then_some(attributes.uid);
    // Without group execute permission the bit means mandatory locking.
    let group = libc::S_ISGID | libc::S_IXGRP;
    let gid = (attributes.mode & group == group).then_some(attributes.gid);
    (uid, gid)
}

fn may_read(attributes: &Attributes, credentials: &Credentials) -> bool {
    let bit = if credentials.fsuid == attributes.uid {
        libc::S_IRUSR
    } else if credentials.fsgid == attributes.gid || credentials.groups.contains(&attributes.gid) {
        libc::S_IRGRP
    } else {
        libc::S_IROTH
    };
    attributes.mode & bit != 0 || credentials.has(capability::DAC_OVERRIDE) || credentials.has(capability::DAC_READ_SEARCH)
}

fn short_name(path: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name[..name.len().min(LONGEST_NAME)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_id_bits_count_unless_they_are_forbidden() {
        let user = Credentials { uid: 1, euid: 1, fsuid: 1, ..Credentials::default() };
        let mut file = Attributes { mode: 0o6755, uid: 7, gid: 8, ..Attributes::default() };
        assert_eq!(owner_to_become(&file, &user), (Some(7), Some(8)));
        file.mode = 0o6745;
        assert_eq!(owner_to_become(&file, &user), (Some(7), None));
        file.mount_flags = libc::ST_NOSUID as u32;
        assert_eq!(owner_to_become(&file, &user), (None, None));
        file.mount_flags = 0;
        assert_eq!(owner_to_become(&file, &Credentials { no_new_privileges: true, ..user }), (None, None));
    }

    fn program(path: &str) -> (MappableFile, elf::Program) {
        let file = std::fs::File::open(path).unwrap();
        let name = Arc::new(|| b"/file".to_vec());
        let source = MappableFile { fd: Arc::new(file.into()), writable: false, device: 0, inode: 0, name };
        let program = elf::Program::read(|offset, into| read_at(&source, offset, into)).unwrap();
        (source, program)
    }

    #[test]
    fn a_real_program_lies_in_memory_as_its_file_says() {
        let (source, header) = program("/proc/self/exe");
        let linker = program(std::str::from_utf8(header.interpreter.as_ref().unwrap()).unwrap());
        let memory = AddressSpace::for_tests();
        let end = memory.guest_end();
        let vdso = crate::platform::Vdso { data_start: end, code_start: end, code_end: end };
        let places = image::Places::choose(end, vdso, 8 << 20, true);
        memory.set_mmap_top(places.mmap_top);
        memory.gather();
        let arguments = [b"program".to_vec(), b"-x".to_vec()];
        let environment = [b"A=1".to_vec()];
        let strings = stack::Strings { path: b"/bin/program", arguments: &arguments, environment: &environment };
        stack::map(&memory, &strings, places.stack_top, false, &Limits::UNLIMITED).unwrap();
        let image = image::map(&memory, &source, &header, Some(&linker), &places, &Limits::UNLIMITED).unwrap();
        let identity = stack::Identity::after(&Credentials::default(), None, None);
        let pointer = stack::fill(&memory, &strings, &places, &image, &identity, 0).unwrap();
        memory.finish().unwrap();

        let word = |at: u64| memory.read_value::<u64>(crate::abi::UserAddress(at)).unwrap();
        let string = |at: u64| memory.read_string(crate::abi::UserAddress(at), 100).unwrap();
        // Code at the entry points, seen through the stub's page tables too; zeros behind the data.
        for (source, header, at) in [(&source, &header, image.program_entry), (&linker.0, &linker.1, image.entry)] {
            let segment = header.segments.iter().find(|s| (s.address..s.address + s.file_size).contains(&header.entry)).unwrap();
            let mut code = [0; 8];
            read_at(source, header.entry - segment.address + segment.offset, &mut code);
            assert_eq!(word(at), u64::from_le_bytes(code));
            assert_eq!(memory.touch(at, None), Ok(code[0]));
            let bias = at - header.entry;
            let data = header.segments.iter().rfind(|s| s.memory_size > s.file_size).unwrap();
            assert_eq!(memory.touch(bias + data.address + data.file_size, None), Ok(0));
            assert_eq!(memory.touch(bias + data.address + data.memory_size - 1, Some(1)), Ok(1));
        }
        assert_eq!(word(image.headers_address) as u32, 6, "the first program header is PT_PHDR");

        assert_eq!((pointer % 16, word(pointer)), (0, 2));
        assert_eq!((string(word(pointer + 8)), string(word(pointer + 16))), (b"program".to_vec(), b"-x".to_vec()));
        assert_eq!((word(pointer + 24), string(word(pointer + 32)), word(pointer + 40)), (0, b"A=1".to_vec(), 0));
        let layout = memory.layout();
        for (i, (key, value)) in layout.auxiliary.iter().enumerate() {
            assert_eq!((word(pointer + 48 + i as u64 * 16), word(pointer + 56 + i as u64 * 16)), (*key, *value));
        }
        let entry = |key| layout.auxiliary.iter().find(|entry| entry.0 == key).unwrap().1;
        assert_eq!(string(entry(libc::AT_EXECFN)), b"/bin/program");
        assert_eq!(string(entry(libc::AT_PLATFORM)), b"x86_64");
        let mut text = vec![0; (layout.environment.1 - layout.arguments.0) as usize];
        memory.read(crate::abi::UserAddress(layout.arguments.0), &mut text).unwrap();
        assert_eq!(text, b"program\0-x\0A=1\0");
        assert!(memory.set_heap_end(layout.brk_start + 100_000, &Limits::UNLIMITED) > layout.brk_start);
        let maps = memory.maps();
        assert!(maps.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(maps.iter().any(|line| line.name == b"[stack]") && maps.iter().any(|line| line.name == b"[heap]"));
    }

    #[test]
    fn a_task_is_named_after_the_last_component() {
        assert_eq!(short_name(b"/usr/bin/a-rather-long-name"), b"a-rather-long-n");
        assert_eq!(short_name(b"sh"), b"sh");
    }
}
