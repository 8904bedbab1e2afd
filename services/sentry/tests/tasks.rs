//! Processes and threads with real guest code on real stubs, without any other service: programs of a few instructions that
//! fork, clone, wait, stop and die. One process, started with one thread, so it has its own `main`.
//! `tasks NAME` runs the tests whose names contain NAME.

use std::{
    arch::global_asm,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bulkhead_ipc::setup::{Program, SentrySetup};
use bulkhead_sentry::{
    executor::{self, Executor},
    fs::{OpenFile, host::HostFile, vfs::VfsClient},
    futex::FutexTable,
    kernel::{Kernel, Uts},
    loader::Loaded,
    memory::{AddressSpace, AreaFlags, Limits, MapRequest, MemoryFile, Placement, Source},
    platform::{Platform, Protection, Registers},
    procfs::ProcState,
    task::{self, CpuWatch, PidTable},
    tty::Terminals,
};

global_asm!(
    r#"
    .macro syscall_number number
    mov eax, \number
    syscall
    .endm
    # exit_group(rdi)
    .macro quit
    syscall_number 231
    ud2
    .endm
    # wait4(-1, rsp, options, 0); the status comes to ebx.
    .macro wait_any options
    mov rdi, -1
    mov rsi, rsp
    mov edx, \options
    xor r10d, r10d
    syscall_number 61
    mov ebx, [rsp]
    .endm

    .pushsection .text.programs, "ax", @progbits
    .globl programs_start
programs_start:

    # The child exits with 7; the parent exits with what it waited for.
    .globl program_fork
program_fork:
    syscall_number 57
    test eax, eax
    jnz 1f
    mov edi, 7
    quit
1:  mov r12d, eax
    wait_any 0
    cmp eax, r12d
    jne 2f
    mov edi, ebx
    shr edi, 8
    quit
2:  mov edi, 99
    quit

    # The child writes into the parent's memory before the parent goes on.
    .globl program_vfork
program_vfork:
    mov dword ptr [rsp], 1
    syscall_number 58
    test eax, eax
    jnz 1f
    mov dword ptr [rsp], 42
    xor edi, edi
    quit
1:  mov edi, [rsp]
    quit

    # A forked child's memory is its own.
    .globl program_copy
program_copy:
    mov dword ptr [rsp - 64], 5
    syscall_number 57
    test eax, eax
    jnz 1f
    mov dword ptr [rsp - 64], 6
    xor edi, edi
    quit
1:  wait_any 0
    mov edi, [rsp - 64]
    quit

    # A thread writes and ends; the creator waits for its cleared tid by futex.
    .globl program_thread
program_thread:
    lea r12, [rsp - 128]
    mov dword ptr [r12], 1
    mov edi, 0x310f00
    lea rsi, [rsp - 4096]
    mov rdx, r12
    mov r10, r12
    xor r8d, r8d
    syscall_number 56
    test eax, eax
    jnz 1f
    mov dword ptr [r12 + 8], 17
    xor edi, edi
    syscall_number 60
    ud2
1:  mov edx, [r12]
    test edx, edx
    jz 2f
    mov rdi, r12
    xor esi, esi
    xor r10d, r10d
    syscall_number 202
    jmp 1b
2:  mov edi, [r12 + 8]
    quit

    # A child that spins without calls hits its CPU limit of one second; the parent exits with the signal.
    .globl program_cpu_limit
program_cpu_limit:
    syscall_number 57
    test eax, eax
    jnz 1f
    mov qword ptr [rsp], 1
    mov qword ptr [rsp + 8], 2
    xor edi, edi
    mov rsi, rsp
    syscall_number 160
9:  jmp 9b
1:  wait_any 0
    mov edi, ebx
    quit

    # A spinning child is killed.
    .globl program_kill
program_kill:
    syscall_number 57
    test eax, eax
    jnz 1f
9:  jmp 9b
1:  mov edi, eax
    mov esi, 9
    syscall_number 62
    wait_any 0
    mov edi, ebx
    quit

    # A spinning child is stopped, continued and killed, and the parent hears of each: exits with 1, 2, 4 added up.
    .globl program_stop
program_stop:
    xor r13d, r13d
    syscall_number 57
    test eax, eax
    jnz 1f
9:  jmp 9b
1:  mov r12d, eax
    mov edi, r12d
    mov esi, 19
    syscall_number 62
    wait_any 2
    cmp ebx, 0x137f
    jne 2f
    or r13d, 1
2:  mov edi, r12d
    mov esi, 18
    syscall_number 62
    wait_any 8
    cmp ebx, 0xffff
    jne 3f
    or r13d, 2
3:  mov edi, r12d
    mov esi, 9
    syscall_number 62
    wait_any 0
    cmp ebx, 9
    jne 4f
    or r13d, 4
4:  mov edi, r13d
    quit

    # A grandchild becomes init's child when its parent ends: init waits for two, the third time there is none (ECHILD).
    .globl program_orphan
program_orphan:
    syscall_number 57
    test eax, eax
    jnz 1f
    syscall_number 57
    xor edi, edi
    quit
1:  wait_any 0
    wait_any 0
    wait_any 0
    neg eax
    mov edi, eax
    quit

    # Init ends though a child spins.
    .globl program_leave
program_leave:
    syscall_number 57
    test eax, eax
    jnz 1f
9:  jmp 9b
1:  mov edi, 3
    quit

    # A thread that spins ends with the process that another thread ends.
    .globl program_group
program_group:
    mov edi, 0x10f00
    lea rsi, [rsp - 4096]
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    syscall_number 56
    test eax, eax
    jnz 1f
9:  jmp 9b
1:  mov edi, 4
    quit

    # A child that touches nothing mapped dies of SIGSEGV.
    .globl program_fault
program_fault:
    syscall_number 57
    test eax, eax
    jnz 1f
    mov eax, [0]
1:  wait_any 0
    mov edi, ebx
    and edi, 0x7f
    quit

    # 200 forks, each waited for.
    .globl program_forks
program_forks:
    mov r12d, 200
1:  syscall_number 57
    test eax, eax
    jnz 2f
    xor edi, edi
    quit
2:  wait_any 0
    dec r12d
    jnz 1b
    xor edi, edi
    quit

    .globl programs_end
programs_end:
    .popsection
"#
);

macro_rules! symbols {
    ($($name:ident)*) => {
        $(mod $name {
            unsafe extern "C" {
                fn $name();
            }
            pub fn at() -> usize {
                $name as *const () as usize
            }
        })*
    };
}
symbols! {
    programs_start programs_end program_fork program_vfork program_copy program_thread program_cpu_limit program_kill
    program_stop program_orphan program_leave program_group program_fault program_forks
}

const CODE: u64 = 0x40_0000;
const STACK: u64 = 0x7000_0000;
const STACK_SIZE: u64 = 0x10000;

/// The programs' bytes, which run anywhere.
fn code() -> &'static [u8] {
    let (start, end) = (programs_start::at(), programs_end::at());
    // SAFETY: the two symbols delimit a part of this program's text.
    unsafe { std::slice::from_raw_parts(start as *const u8, end - start) }
}

fn null() -> Arc<OpenFile> {
    let file = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    HostFile::open(OwnedFd::from(file)).unwrap()
}

fn map(memory: &AddressSpace, address: u64, length: u64, protection: Protection) {
    let request = MapRequest {
        placement: Placement::Fixed(address),
        length,
        protection,
        flags: AreaFlags::empty(),
        source: Source::Anonymous,
        populate: false,
    };
    memory.map(&request, &Limits::UNLIMITED).unwrap();
}

/// Runs a program as init of a container of its own; its wait status.
fn run(platform: &Arc<Platform>, memory: &Arc<MemoryFile>, program: usize) -> i32 {
    let (sender, receiver) = mpsc::channel();
    let settings = SentrySetup { program: Program::default(), ..Default::default() };
    let kernel = Arc::new(Kernel {
        platform: platform.clone(),
        memory: memory.clone(),
        vfs: VfsClient::new(Vec::new()),
        pids: PidTable::default(),
        futexes: FutexTable::new(),
        cpu_watch: CpuWatch::default(),
        tracer: Arc::default(),
        proc: ProcState::new(executor::now()),
        terminals: Terminals::default(),
        sockets: Default::default(),
        uts: parking_lot::RwLock::new(Uts::default()),
        filter: None,
        settings,
        on_exit: Box::new(move |status| sender.send(status).unwrap()),
        boot: executor::now(),
    });
    Executor::spawn(0, async move {
        let thread = task::start_with(&kernel, vec![null(), null(), null()], |thread| {
            let memory = AddressSpace::new(&thread.kernel.platform, &thread.kernel.memory).unwrap();
            map(&memory, CODE, 0x4000, Protection::READ | Protection::EXECUTE);
            map(&memory, STACK, STACK_SIZE, Protection::READ | Protection::WRITE);
            memory.write_forced(bulkhead_sentry::abi::UserAddress(CODE), code()).unwrap();
            let context = memory.space().new_context(Executor::current_cpu()).unwrap();
            let registers = Registers {
                rip: CODE + (program - programs_start::at()) as u64,
                rsp: STACK + STACK_SIZE - 4096,
                ..Default::default()
            };
            let loaded = Loaded {
                memory,
                registers,
                executable: null(),
                name: b"program".to_vec(),
                set_uid: None,
                set_gid: None,
                unreadable: false,
            };
            Ok((loaded, Some(context)))
        });
        match thread {
            Ok(thread) => thread.run().await,
            Err(error) => panic!("{error}"),
        }
    });
    receiver.recv_timeout(Duration::from_secs(20)).expect("the container does not end")
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let platform = Platform::start(&[0, 1]).unwrap();
    let memory = MemoryFile::new(1 << 30).unwrap();
    let exit = |code: i32| code << 8;
    for (name, program, expected) in [
        ("a_parent_waits_for_its_child", program_fork::at(), exit(7)),
        ("a_vfork_parent_waits_and_shares_memory", program_vfork::at(), exit(42)),
        ("a_forked_child_has_memory_of_its_own", program_copy::at(), exit(5)),
        ("a_thread_clears_its_tid_when_it_ends", program_thread::at(), exit(17)),
        ("a_spinning_process_hits_its_cpu_limit", program_cpu_limit::at(), exit(libc::SIGXCPU)),
        ("a_spinning_process_is_killed", program_kill::at(), exit(libc::SIGKILL)),
        ("stops_and_continuations_are_told", program_stop::at(), exit(7)),
        ("an_orphan_becomes_the_child_of_init", program_orphan::at(), exit(libc::ECHILD)),
        ("the_end_of_init_ends_all", program_leave::at(), exit(3)),
        ("exit_group_ends_a_spinning_thread", program_group::at(), exit(4)),
        ("a_bad_access_kills_by_sigsegv", program_fault::at(), exit(libc::SIGSEGV)),
        ("two_hundred_forks", program_forks::at(), exit(0)),
    ] {
        if name.contains(&filter) {
            let start = Instant::now();
            assert_eq!(run(&platform, &memory, program), expected, "{name}");
            println!("{name}: ok ({:?})", start.elapsed());
        }
    }
}
