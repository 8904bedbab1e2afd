//! The stub's code. It is copied into a memory file and runs at the start of the region in every stub; it is never run here.
//!
//! Guest code may jump to any instruction of it with any register values. That is harmless: in a guest thread, the strict
//! filter ([`super::filter`]) refuses every system call that is not one of the four marked below, at exactly that place. There
//! is no `ret`, and the agent, which may do more, decides by nothing that a guest can write: its command page is mapped
//! read-only. The one indirect jump is a guest thread's way back from a stop in a thunk, to where the guest may jump anyway.
//!
//! *Thunks* (`crate::platform::rewrite`) enter at `bulkhead_stub_thunk` without a signal, with the address to return to in rcx and
//! the control block in gs. The stop is an ordinary one but for its form (`STOPPED_IN_THUNK`): all general registers lie in the control
//! block, and vector registers stay in the CPU (the host keeps them across the futex), unless the call is one that is likely to end in a
//! signal's handler, or makes a thread: then they are saved to the slot as well (`STOPPED_SAVED`). The sentry has other threads do that when it needs it
//! (`SAVE`), and has the thread load what it put there (`LOAD`). So a handler is entered, and left, without a host signal. What the slot
//! holds another thread of the guest may have spoilt: then XRSTOR raises SIGSEGV here, and that is the guest's fault and its loss.
//!
//! Signals are not blocked there, as they are in the handler, so the handler looks whether it interrupted this code:
//! - before the post: it will stop at once, so the interruption is forgotten (who wanted it finds its wish noted at the next resume);
//! - after the post (which may be put off, see below), not released yet: it has stopped, the same;
//! - released: the thread is as good as back in the guest, with the registers that the sentry put into the control block and the
//!   extended state that it put into the slot, if it did (`STOPPED_RETURNING`).
//!
//! A thread that has stopped says so in its state word. While a worker watches that word ([`super::waiting`]) it waits for the
//! answer by looking, for a bounded time, and only then tells the worker and sleeps.

use std::arch::global_asm;

use super::layout::*;

global_asm!(
    r#"
    .pushsection .text.bulkhead_stub, "ax", @progbits
    .balign 4096
bulkhead_stub_start:

    # ---- The template's entry. r13 = start of the region, r15 = its end; the agent's filter is on. Leaves nothing of the
    # sentry mapped.
    .globl bulkhead_stub_template
bulkhead_stub_template:
    xor edi, edi
    mov rsi, r13
    mov eax, {munmap}
    syscall
    mov rdi, r15
    movabs rsi, {addresses_end}
    sub rsi, rdi
    mov eax, {munmap}
    syscall
    xor r12d, r12d
    lea r14, [rip + bulkhead_stub_start + {command}]
    xor ebx, ebx
    jmp 5f

    # ---- The agent: waits for a batch, carries it out up to the first error, says how it went.
    # r12d = number of the last batch, r14 = command page, r13d = commands left, r15 = command, ebx = errno.
20: mov eax, [r14]
    cmp eax, r12d
    jne 2f
    mov rdi, r14
    xor esi, esi                    # FUTEX_WAIT
    mov edx, r12d
    xor r10d, r10d
    mov eax, {futex}
    syscall
    jmp 20b
2:  mov r12d, eax
    mov r13d, [r14 + 4]
    lea r15, [r14 + 64]
    xor ebx, ebx
3:  test r13d, r13d
    jz 5f
    mov rax, [r15]
    mov rdi, [r15 + 8]
    mov rsi, [r15 + 16]
    mov rdx, [r15 + 24]
    mov r10, [r15 + 32]
    mov r8, [r15 + 40]
    mov r9, [r15 + 48]
    mov rbp, rax
    syscall
    cmp rax, -4095
    jae 4f
    cmp ebp, {clone}
    jne 6f
    test eax, eax
    jz 7f
6:  add r15, 64
    dec r13d
    jmp 3b
4:  neg eax
    cmp eax, {constant_count}
    jb 8f
    mov eax, {eio}
8:  mov ebx, eax
5:  lea rsi, [rip + bulkhead_stub_start + {constants}]
    lea rsi, [rsi + rbx * 8]
    mov edi, [r14 + 8]
    mov edx, 8
    mov eax, {write}
    syscall
    jmp 20b

    # ---- A child: a thread of this stub, or a new stub.
7:  test edi, {clone_vm}
    jnz 9f

    # A new stub: r9 = fd of the command memory, r8 = offset of its pages there. Its agent's signals are blocked already.
    mov r15, r9
    mov r13, r8
    lea rdi, [rip + bulkhead_stub_start + {command}]
    mov esi, {command_size}
    mov edx, 1                      # PROT_READ
    mov r10d, 0x11                  # MAP_SHARED | MAP_FIXED
    mov r8, r15
    mov r9, r13
    mov eax, {mmap}
    syscall
    cmp rax, r14
    jne 99f
    lea rdi, [rip + bulkhead_stub_start + {scratch}]
    mov esi, 4096
    mov eax, {munmap}
    syscall
    mov edi, {pdeathsig}
    mov esi, {sigkill}
    mov eax, {prctl}
    syscall
    xor r12d, r12d
    xor ebx, ebx
    jmp 5b

    # A new guest thread: r9 = its slot. The strict filter comes before signals are unblocked, and the program of the filter
    # lies in this read-only code, so at no time can guest code run here without it.
9:  lea rbx, [r9 + {control}]
    lea rdi, [rbx + {stack}]
    xor esi, esi
    mov eax, {sigaltstack}
    syscall
    mov edi, 1                      # SECCOMP_SET_MODE_FILTER
    xor esi, esi
    lea rdx, [rip + bulkhead_stub_start + {program}]
    mov eax, {seccomp}
    syscall
    test rax, rax
    jnz 99f
    mov edi, 2                      # SIG_SETMASK
    lea rsi, [rip + bulkhead_stub_start + {empty_set}]
    xor edx, edx
    mov r10d, 8
    mov eax, {sigprocmask}
    syscall                         # allowed by the strict filter, 1
    .globl bulkhead_stub_unblock
bulkhead_stub_unblock:
    xor esp, esp                    # not on the alternate stack, as the host sees it
    mov eax, {getpid}               # traps: from here on all stops are alike
    syscall
99: hlt

    # ---- The handler of every signal. The signal frame, on the alternate stack in the slot, is the context.
    .balign 64
    .globl bulkhead_stub_handler
bulkhead_stub_handler:
    mov rbx, rsp
    and rbx, -{slot_size}
    add rbx, {control}
    # Did it interrupt the code below, which thunks run?
    mov rax, [rsp + {frame_rip}]
    lea rcx, [rip + bulkhead_stub_stop]
    cmp rax, rcx
    je 37f
    cmp edi, {interrupt}
    je 31f
    cmp edi, {sigtrap}
    jne 30f
31: lea rcx, [rip + bulkhead_stub_thunk]
    cmp rax, rcx
    jb 30f
    lea rcx, [rip + bulkhead_stub_stop]
    cmp rax, rcx
    jae 30f
    lea rcx, [rip + bulkhead_stub_post]
    cmp rax, rcx
    jb 32f
    cmp dword ptr [rbx + {state}], {running}
    jne 32f
37: mov dword ptr [rbx + {kind}], {stopped_returning}
    jmp 33f
32: add rsp, 8
    mov eax, {sigreturn}
    jmp 34f
30: mov dword ptr [rbx + {kind}], {stopped_by_signal}
    rdfsbase rax
    mov [rbx + {fs_base}], rax
    rdgsbase rax
    mov [rbx + {gs_base}], rax
33: mov [rbx + {signal}], edi
    mov [rbx + {frame}], rsp
    mov eax, {posted}
    xchg [rbx + {state}], eax
    jmp bulkhead_stub_post

    # ---- From a thunk.
    .balign 64
    .globl bulkhead_stub_thunk
bulkhead_stub_thunk:
    mov gs:[{general} + 128], rcx
    mov gs:[{general} + 112], rcx
    mov gs:[{general} + 0], r8
    mov gs:[{general} + 8], r9
    mov gs:[{general} + 16], r10
    mov gs:[{general} + 32], r12
    mov gs:[{general} + 40], r13
    mov gs:[{general} + 48], r14
    mov gs:[{general} + 56], r15
    mov gs:[{general} + 64], rdi
    mov gs:[{general} + 72], rsi
    mov gs:[{general} + 80], rbp
    mov gs:[{general} + 88], rbx
    mov gs:[{general} + 96], rdx
    mov gs:[{general} + 104], rax
    mov gs:[{general} + 120], rsp
    rdgsbase rbx
    lea rsp, [rbx + {small_stack_top}]
    pushfq
    mov rax, [rsp]
    mov [rbx + {general} + 136], rax
    mov [rbx + {general} + 24], rax # r11, as after a syscall instruction
    mov dword ptr [rsp], 2          # neither TF, nor AC, nor DF
    popfq
    rdfsbase rax
    mov [rbx + {fs_base}], rax
    mov ecx, {stopped_in_thunk}
    mov eax, [rbx + {general} + 104]
    cmp eax, {kill}
    je 36f
    cmp eax, {tgkill}
    je 36f
    cmp eax, {tkill}
    je 36f
    cmp eax, {clone3}
    je 36f
    lea edx, [rax - {clone}]        # clone, fork, vfork: a new thread gets the same state
    cmp edx, 3
    jae 39f
36: mov eax, [rip + bulkhead_stub_start + {features}]
    mov edx, [rip + bulkhead_stub_start + {features} + 4]
    lea rcx, [rbx - {control}]
    xsave64 [rcx]
    mov ecx, {stopped_saved}
39: mov [rbx + {kind}], ecx
    mov eax, {posted}
    xchg [rbx + {state}], eax

    # ---- Post: state (done). If a worker watches that word, wait a while for its answer; it may say that it no longer watches.
bulkhead_stub_post:
    mov ecx, [rbx + {spins}]
    test ecx, ecx
    jz 44f
43: cmp dword ptr [rbx + {state}], {running}
    je 4f
    pause
    cmp dword ptr [rbx + {spins}], 0
    je 44f
    dec ecx
    jnz 43b
    # Then bit, then summary, then a wake-up for a sleeping worker.
44: mov ecx, [rbx + {home}]
    shl rcx, {worker_shift}
    lea r12, [rip + bulkhead_stub_start + {workers}]
    add r12, rcx
    lea rdx, [rip + bulkhead_stub_start + {contexts}]
    mov rax, rbx
    sub rax, rdx
    shr rax, {slot_shift}
    lock bts qword ptr [r12 + {bitmap}], rax
    shr rax, 6
    lock bts qword ptr [r12 + {summary}], rax
    cmp dword ptr [r12 + {sleeping_word}], 0
    je 2f
    xor eax, eax
    xchg [r12 + {sleeping_word}], eax
    test eax, eax
    jz 2f
    lea rdi, [r12 + {sleeping_word}]
    mov esi, 1                      # FUTEX_WAKE
    mov edx, 1
    mov eax, {futex}
    syscall                         # allowed by the strict filter, 2
    .globl bulkhead_stub_wake
bulkhead_stub_wake:
    # Wait until the sentry says RUNNING.
2:  mov eax, {posted}
    mov ecx, {sleeping}
    lock cmpxchg [rbx + {state}], ecx
    je 3f
    cmp eax, {running}
    je 4f
3:  lea rdi, [rbx + {state}]
    xor esi, esi                    # FUTEX_WAIT
    mov edx, {sleeping}
    xor r10d, r10d
    mov eax, {futex}
    syscall                         # allowed by the strict filter, 3
    .globl bulkhead_stub_wait
bulkhead_stub_wait:
    jmp 2b
4:  test byte ptr [rbx + {kind}], 1 # stopped in a thunk
    jz 35f
    mov ecx, [rbx + {next}]
    cmp ecx, {go_on}
    je 41f
    cmp ecx, {stop_fully}
    je bulkhead_stub_stop
    cmp ecx, {load}
    jne 36b                         # to save it
    mov eax, [rip + bulkhead_stub_start + {features}]
    mov edx, [rip + bulkhead_stub_start + {features} + 4]
    lea rcx, [rbx - {control}]
    xrstor64 [rcx]
41: mov rax, [rbx + {fs_base}]
    wrfsbase rax
    push qword ptr [rbx + {general} + 136]
    popfq
    mov r8, [rbx + {general} + 0]
    mov r9, [rbx + {general} + 8]
    mov r10, [rbx + {general} + 16]
    mov r11, [rbx + {general} + 24]
    mov r12, [rbx + {general} + 32]
    mov r13, [rbx + {general} + 40]
    mov r14, [rbx + {general} + 48]
    mov r15, [rbx + {general} + 56]
    mov rdi, [rbx + {general} + 64]
    mov rsi, [rbx + {general} + 72]
    mov rbp, [rbx + {general} + 80]
    mov rdx, [rbx + {general} + 96]
    mov rax, [rbx + {general} + 104]
    mov rcx, [rbx + {general} + 112]
    mov rsp, [rbx + {general} + 120]
    mov rbx, [rbx + {general} + 88]
    jmp qword ptr gs:[{general} + 128]
    # Asked to stop fully: raises SIGSEGV.
bulkhead_stub_stop:
    hlt

    # ---- Back from the handler.
35: mov rax, [rbx + {fs_base}]
    wrfsbase rax
    mov rax, [rbx + {gs_base}]
    wrgsbase rax
    add rsp, 8
    mov eax, {sigreturn}
34: syscall                         # allowed by the strict filter, 4
    .globl bulkhead_stub_return
bulkhead_stub_return:
    hlt
    .globl bulkhead_stub_end
bulkhead_stub_end:
    .globl bulkhead_stub_begin
    .set bulkhead_stub_begin, bulkhead_stub_start
    .popsection
    "#,
    munmap = const libc::SYS_munmap,
    mmap = const libc::SYS_mmap,
    futex = const libc::SYS_futex,
    clone = const libc::SYS_clone,
    write = const libc::SYS_write,
    prctl = const libc::SYS_prctl,
    sigaltstack = const libc::SYS_sigaltstack,
    seccomp = const libc::SYS_seccomp,
    sigprocmask = const libc::SYS_rt_sigprocmask,
    sigreturn = const libc::SYS_rt_sigreturn,
    getpid = const libc::SYS_getpid,
    pdeathsig = const libc::PR_SET_PDEATHSIG,
    sigkill = const libc::SIGKILL,
    eio = const libc::EIO,
    clone_vm = const libc::CLONE_VM,
    addresses_end = const ADDRESSES_END,
    command = const COMMAND,
    command_size = const COMMAND_SIZE,
    constants = const CONSTANTS,
    constant_count = const CONSTANT_COUNT,
    empty_set = const EMPTY_SET,
    program = const PROGRAM,
    scratch = const SCRATCH,
    workers = const WORKERS,
    worker_shift = const WORKER_SHIFT,
    contexts = const CONTEXTS,
    slot_size = const SLOT_SIZE,
    slot_shift = const SLOT_SHIFT,
    control = const CONTROL,
    state = const control::STATE,
    signal = const control::SIGNAL,
    home = const control::HOME,
    frame = const control::FRAME,
    fs_base = const control::FS_BASE,
    gs_base = const control::GS_BASE,
    stack = const control::STACK,
    running = const RUNNING,
    posted = const POSTED,
    sleeping = const SLEEPING,
    frame_rip = const 48 + 16 * 8,
    interrupt = const INTERRUPT,
    sigtrap = const libc::SIGTRAP,
    kind = const control::KIND,
    next = const control::NEXT,
    spins = const control::SPINS,
    general = const control::GENERAL,
    small_stack_top = const control::SMALL_STACK_TOP,
    stopped_by_signal = const STOPPED_BY_SIGNAL,
    stopped_in_thunk = const STOPPED_IN_THUNK,
    stopped_returning = const STOPPED_RETURNING,
    stopped_saved = const STOPPED_SAVED,
    go_on = const GO_ON,
    stop_fully = const STOP_FULLY,
    load = const LOAD,
    features = const FEATURES,
    kill = const libc::SYS_kill,
    tgkill = const libc::SYS_tgkill,
    tkill = const libc::SYS_tkill,
    clone3 = const libc::SYS_clone3,
    sleeping_word = const worker_block::SLEEPING,
    summary = const worker_block::SUMMARY,
    bitmap = const worker_block::POSTED,
);

unsafe extern "C" {
    static bulkhead_stub_begin: u8;
    static bulkhead_stub_end: u8;
    static bulkhead_stub_template: u8;
    static bulkhead_stub_handler: u8;
    static bulkhead_stub_thunk: u8;
    static bulkhead_stub_unblock: u8;
    static bulkhead_stub_wake: u8;
    static bulkhead_stub_wait: u8;
    static bulkhead_stub_return: u8;
}

/// Offsets in the code, and the code itself.
#[derive(Clone, Copy)]
pub struct Code {
    /// The bytes as they were linked.
    pub bytes: &'static [u8],
    /// Entry of the template.
    pub template: u64,
    /// Signal handler.
    pub handler: u64,
    /// Where thunks go.
    pub thunk: u64,
    /// Behind the four system calls that the strict filter allows.
    pub unblock: u64,
    /// FUTEX_WAKE of a worker.
    pub wake: u64,
    /// FUTEX_WAIT for the sentry.
    pub wait: u64,
    /// rt_sigreturn.
    pub sigreturn: u64,
}

/// The stub's code.
pub fn code() -> Code {
    let start = &raw const bulkhead_stub_begin as u64;
    let offset = |symbol: *const u8| symbol as u64 - start;
    let length = offset(&raw const bulkhead_stub_end) as usize;
    Code {
        // SAFETY: the two symbols bound one contiguous section of this program's text, which is never written.
        bytes: unsafe { std::slice::from_raw_parts(&raw const bulkhead_stub_begin, length) },
        template: offset(&raw const bulkhead_stub_template),
        handler: offset(&raw const bulkhead_stub_handler),
        thunk: offset(&raw const bulkhead_stub_thunk),
        unblock: offset(&raw const bulkhead_stub_unblock),
        wake: offset(&raw const bulkhead_stub_wake),
        wait: offset(&raw const bulkhead_stub_wait),
        sigreturn: offset(&raw const bulkhead_stub_return),
    }
}
