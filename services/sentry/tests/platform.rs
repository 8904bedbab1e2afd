//! The platform with real guest code on real stubs. One process, started with one thread, so it has its own `main`.
//! `platform NAME` runs the tests whose names contain NAME; `platform --bench` measures.

// All of it is plain system calls on fds and processes of the test's own, and addresses of its own code.
#![allow(clippy::undocumented_unsafe_blocks)]

use std::{
    arch::global_asm,
    future::Future,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bulkhead_sentry::{
    executor::{Executor, deadline_after, sleep_until},
    platform::{Context, Event, MapOp, Platform, Protection, Registers, Space},
};

global_asm!(
    r#"
    .pushsection .text.guest, "ax", @progbits
    .globl guest_start
guest_start:

    .globl guest_calls
guest_calls:
20: mov edi, 1
    mov esi, 2
    mov edx, 3
    mov r10d, 4
    mov r8d, 5
    mov r9d, 6
    mov eax, 39
    syscall
    jmp 20b

    .globl guest_spin
guest_spin:
    inc rbx
    jmp guest_spin

    # Loads from rdi, then calls with what it got.
    .globl guest_load
guest_load:
    mov rax, [rdi]
    syscall
    .globl guest_undefined
guest_undefined:
    ud2
    .globl guest_breakpoint
guest_breakpoint:
    int3
    syscall
    .globl guest_divide
guest_divide:
    xor ecx, ecx
    mov eax, 1
    xor edx, edx
    div ecx
    .globl guest_int80
guest_int80:
    mov eax, 20
    int 0x80
    syscall

    # Keeps rdi in vector registers across a call.
    .globl guest_vectors
guest_vectors:
    movq xmm0, rdi
    movq xmm15, rdi
    mov eax, 39
    syscall
    movq rsi, xmm0
    movq rdx, xmm15
    syscall

    # Adds one to [rdi] and calls, for ever.
    .globl guest_count
guest_count:
    lock inc qword ptr [rdi]
    syscall
    jmp guest_count

    # Calls the function at rax with a stack that is at rsp, then calls.
    .globl guest_function
guest_function:
    call rax
    syscall

    # Jumps to rbx with the other registers as they are.
    .globl guest_jump
guest_jump:
    jmp rbx

    # Fills rcx bytes at rdi with al, then spins.
    .globl guest_fill
guest_fill:
    rep stosb
    jmp guest_spin

    # Fills as well, and then calls.
    .globl guest_fill_and_call
guest_fill_and_call:
    rep stosb
    mov eax, 39
    syscall
    jmp guest_calls

    # Touches [rdi], then calls.
    .globl guest_touch
guest_touch:
    mov byte ptr [rdi], 1
    syscall
    jmp guest_touch

    # Stops as a thunk does, by way of rbx, with rdi in vector registers, and tells what is in them then; for ever.
    .globl guest_thunk
guest_thunk:
    movq xmm0, rdi
    movq xmm15, rdi
40: lea rcx, [rip + 41f]
    jmp rbx
41: movq rsi, xmm0
    movq rdx, xmm15
    jmp 40b

    # Spoils the header of the state that is saved in the slot at rdi, for ever.
    .globl guest_spoil
guest_spoil:
    mov qword ptr [rdi + 520], -1
    jmp guest_spoil

    # Tells where its slot is.
    .globl guest_slot
guest_slot:
    rdgsbase rax
    and rax, -0x8000
    syscall

    .globl guest_end
guest_end:
    .popsection
    "#
);

macro_rules! labels {
    ($($name:ident)*) => {
        #[allow(dead_code)]
        unsafe extern "C" { $(static $name: u8;)* }
        $(#[allow(non_snake_case, dead_code)] mod $name { pub fn at() -> u64 {
            &raw const super::$name as u64 - &raw const super::guest_start as u64 + super::CODE
        } })*
    };
}
labels! { guest_start guest_calls guest_spin guest_load guest_undefined guest_breakpoint guest_divide guest_int80 guest_vectors guest_count
guest_function guest_jump guest_fill guest_fill_and_call guest_touch
guest_thunk guest_spoil guest_slot guest_end }

const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const DATA_SIZE: u64 = 0x1_0000;
const PAGE: u64 = 4096;

/// Where the stub's region starts, which a hostile guest can find out.
fn region(platform: &Platform) -> u64 {
    platform.vdso().data_start - 0x3_0000
}
const CONTEXTS: u64 = 0x1000_0000;
const WORKERS: u64 = 0x10_0000;

fn memory_file(bytes: &[u8], length: u64) -> OwnedFd {
    unsafe {
        let fd = libc::memfd_create(c"guest".as_ptr(), 0);
        assert!(fd >= 0);
        let fd = OwnedFd::from_raw_fd(fd);
        assert_eq!(libc::ftruncate(fd.as_raw_fd(), length as i64), 0);
        assert_eq!(libc::pwrite(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0), bytes.len() as isize);
        fd
    }
}

struct Guest {
    space: Arc<Space>,
    data: OwnedFd,
    _code: OwnedFd,
}

impl Guest {
    fn new(platform: &Arc<Platform>) -> Guest {
        let blob = unsafe {
            let length = &raw const guest_end as usize - &raw const guest_start as usize;
            std::slice::from_raw_parts(&raw const guest_start, length)
        };
        Guest::with(platform, memory_file(blob, PAGE), memory_file(&[], DATA_SIZE))
    }
    fn with(platform: &Arc<Platform>, code: OwnedFd, data: OwnedFd) -> Guest {
        let space = platform.new_space().unwrap();
        space.apply(&[map(CODE, PAGE, Protection::READ | Protection::EXECUTE, &code), map(DATA, DATA_SIZE, RW, &data)]).unwrap();
        Guest { space, data, _code: code }
    }
    fn thread(&self) -> Context {
        self.space.new_context(Executor::current_cpu()).unwrap()
    }
    fn word(&self, offset: i64) -> u64 {
        let mut bytes = [0; 8];
        assert_eq!(unsafe { libc::pread(self.data.as_raw_fd(), bytes.as_mut_ptr().cast(), 8, offset) }, 8);
        u64::from_ne_bytes(bytes)
    }
}

const RW: Protection = Protection::READ.union(Protection::WRITE);

fn map(address: u64, length: u64, protection: Protection, fd: &OwnedFd) -> MapOp {
    MapOp::Map { address, length, protection, fd: fd.as_raw_fd(), offset: 0, private: false, populate: false }
}

fn at(rip: u64) -> Registers {
    Registers { rip, eflags: 0x202, rsp: DATA + DATA_SIZE - 256, ..Default::default() }
}

async fn run(context: &mut Context, registers: &mut Registers) -> Event {
    context.resume(registers);
    std::future::poll_fn(|cx| context.poll_event(cx, registers)).await
}

/// Runs a future on worker `cpu`, waits for it.
fn on_worker<T: Send + 'static>(cpu: usize, future: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    Executor::spawn(cpu, async move {
        let _ = sender.send(future.await);
    });
    receiver.recv_timeout(Duration::from_secs(30)).expect("it hangs")
}

fn a_call_arrives_with_its_registers(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_calls::at());
        registers.r15 = 0x1234_5678_9abc_def0;
        registers.fs_base = DATA + 64;
        registers.gs_base = DATA + 128;
        for _ in 0..1000 {
            let event = run(&mut context, &mut registers).await;
            assert_eq!(event, Event::Syscall, "{registers:x?}");
            assert_eq!((registers.rax, registers.rdi, registers.rsi, registers.rdx), (39, 1, 2, 3));
            assert_eq!((registers.r10, registers.r8, registers.r9), (4, 5, 6));
            assert_eq!(registers.r15, 0x1234_5678_9abc_def0);
            assert_eq!((registers.fs_base, registers.gs_base), (DATA + 64, DATA + 128));
            assert_eq!(registers.rsp, DATA + DATA_SIZE - 256);
            registers.rax = 42;
        }
        assert!(context.cpu_time() > 0);
    });
}

fn faults_are_told_and_can_be_resolved(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(1, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_load::at());
        registers.rdi = 0x50_0008;
        let Event::Fault(fault) = run(&mut context, &mut registers).await else { panic!() };
        assert!(fault.is_page_fault() && !fault.is_write() && !fault.is_execute());
        assert_eq!((fault.signal, fault.address, registers.rip), (libc::SIGSEGV, 0x50_0008, guest_load::at()));
        let page = memory_file(&[7; 64], PAGE);
        guest.space.apply(&[map(0x50_0000, PAGE, Protection::READ, &page)]).unwrap();
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
        assert_eq!(registers.rax, 0x0707_0707_0707_0707);

        registers = at(guest_touch::at());
        registers.rdi = 0x50_0000;
        let Event::Fault(fault) = run(&mut context, &mut registers).await else { panic!() };
        assert!(fault.is_page_fault() && fault.is_write());
        // Protection changes skip what is not mapped.
        let change = MapOp::Protect { address: 0x40_0000, length: 0x20_0000, protection: RW };
        guest.space.apply(&[change]).unwrap();
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);

        registers = at(0x66_0000);
        let Event::Fault(fault) = run(&mut context, &mut registers).await else { panic!() };
        assert!(fault.is_execute());
        for (place, signal, trap) in [
            (guest_undefined::at(), libc::SIGILL, 6),
            (guest_divide::at(), libc::SIGFPE, 0),
            (guest_breakpoint::at(), libc::SIGTRAP, 3),
        ] {
            registers = at(place);
            let Event::Fault(fault) = run(&mut context, &mut registers).await else { panic!() };
            assert_eq!((fault.signal, fault.trap), (signal, trap));
        }
        // A non-canonical place, and single steps.
        registers = at(0x8000_0000_0000_0000);
        let Event::Fault(fault) = run(&mut context, &mut registers).await else { panic!() };
        assert_eq!(fault.signal, libc::SIGSEGV);
        registers = at(guest_spin::at());
        registers.eflags |= 0x100;
        for step in 1_u64..4 {
            let Event::Fault(fault) = run(&mut context, &mut registers).await else { panic!() };
            assert_eq!(fault.signal, libc::SIGTRAP);
            assert_eq!(registers.rbx, step.div_ceil(2));
        }
        guest.space.replace(&[]).unwrap();
        registers = at(guest_calls::at());
        let Event::Fault(fault) = run(&mut context, &mut registers).await else { panic!() };
        assert!(fault.is_page_fault());
    });
}

fn a_32_bit_call_is_a_fault(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_int80::at());
        let Event::Fault(fault) = run(&mut context, &mut registers).await else { panic!() };
        assert_eq!((fault.signal, fault.trap), (libc::SIGSEGV, 13));
    });
}

fn a_spinning_guest_is_interrupted(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_spin::at());
        // Before its first resume, while it runs, and while it is stopped.
        context.interrupter().interrupt();
        assert_eq!(run(&mut context, &mut registers).await, Event::Interrupted);
        assert_eq!(registers.rip, guest_spin::at());
        for round in 0..20 {
            let interrupter = context.interrupter();
            Executor::spawn(round % 2, async move {
                sleep_until(deadline_after(Duration::from_millis(2))).await;
                interrupter.interrupt();
            });
            let before = registers.rbx;
            assert_eq!(run(&mut context, &mut registers).await, Event::Interrupted);
            // On a busy host it may not have had its turn.
            assert!(registers.rbx >= before);
        }
        assert!(registers.rbx > 0 && context.cpu_time() > 0);
        context.interrupter().interrupt();
        let before = registers;
        assert_eq!(run(&mut context, &mut registers).await, Event::Interrupted);
        assert_eq!(registers, before);
        registers = at(guest_calls::at());
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
    });
}

fn interrupts_race_with_calls_and_none_is_lost(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let interrupter = context.interrupter();
        let thread = std::thread::spawn(move || {
            for _ in 0..2000 {
                interrupter.interrupt();
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        let mut registers = at(guest_calls::at());
        let mut seen = 0;
        while !thread.is_finished() {
            match run(&mut context, &mut registers).await {
                Event::Interrupted => seen += 1,
                Event::Syscall => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(seen > 0);
        registers = at(guest_spin::at());
        context.interrupter().interrupt();
        while run(&mut context, &mut registers).await != Event::Interrupted {}
    });
}

fn extended_state_is_kept_read_and_set(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(1, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_vectors::at());
        registers.rdi = 0xdead_beef_0bad_cafe;
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
        let state = context.extended_state();
        assert_eq!(state.len(), platform.extended_state_size());
        // XMM0 lies at 160 in the legacy area.
        assert_eq!(state[160..168], registers.rdi.to_ne_bytes());
        let copy = registers;
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
        assert_eq!((registers.rsi, registers.rdx), (registers.rdi, registers.rdi));
        // Into another thread before its first resume, as fork does.
        let mut other = guest.thread();
        other.set_extended_state(state.clone()).unwrap();
        registers = copy;
        assert_eq!(run(&mut other, &mut registers).await, Event::Syscall);
        assert_eq!((registers.rsi, registers.rdx), (copy.rdi, copy.rdi));
        other.reset_extended_state();
        registers = copy;
        assert_eq!(run(&mut other, &mut registers).await, Event::Syscall);
        assert_eq!((registers.rsi, registers.rdx), (0, 0));
        assert!(other.set_extended_state(vec![0; 100]).is_err());
        // A new user of the same host thread gets a clean one.
        drop(other);
        let mut other = guest.thread();
        registers = copy;
        assert_eq!(run(&mut other, &mut registers).await, Event::Syscall);
        assert_eq!((registers.rsi, registers.rdx), (0, 0));
    });
}

/// Stops in a thunk, in which calls of this number are made.
fn in_thunk(platform: &Platform, number: i64) -> Registers {
    let entry = platform.thunks().unwrap().entry;
    Registers { rbx: entry, rax: number as u64, rdi: 0xdead_beef_0bad_cafe, ..at(guest_thunk::at()) }
}

fn a_thread_in_a_thunk_saves_and_loads_its_extended_state(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        for number in [libc::SYS_getpid, libc::SYS_kill] {
            let mut context = guest.thread();
            let mut registers = in_thunk(&platform, number);
            let value = registers.rdi;
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            assert!(context.in_thunk());
            assert_eq!(context.has_extended_state(), number == libc::SYS_kill, "who calls kill needs it next");
            context.save().await;
            assert!(context.in_thunk() && context.has_extended_state());
            let mut state = context.extended_state();
            assert_eq!(state[160..168], value.to_ne_bytes());
            // Saving changes nothing.
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            assert_eq!((registers.rsi, registers.rdx), (value, value));
            // XMM15 lies at 400. Setting needs no saving.
            state[400..408].copy_from_slice(&7_u64.to_ne_bytes());
            context.set_extended_state(state.clone()).unwrap();
            assert_eq!(context.extended_state(), state);
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            assert_eq!((registers.rsi, registers.rdx), (value, 7));
            context.reset_extended_state();
            let fresh = context.extended_state();
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            assert_eq!((registers.rsi, registers.rdx), (0, 0));
            context.save().await;
            assert_eq!(context.extended_state()[..160], fresh[..160]);
            // What was set, but not loaded yet, is not lost when it has to stop fully, which a gs base makes it do.
            context.set_extended_state(state.clone()).unwrap();
            registers.gs_base = DATA;
            assert!(!context.can_take(&registers));
            context.complete().await;
            assert!(!context.in_thunk());
            registers.rip = guest_vectors::at() + 17;
            let rip = registers.rip;
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            assert_eq!((registers.rsi, registers.rdx, registers.gs_base), (value, 7, DATA), "from {rip:#x}");
        }
    });
}

fn interrupts_race_with_the_loading_of_state_and_none_of_it_is_lost(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let interrupter = context.interrupter();
        let thread = std::thread::spawn(move || {
            for _ in 0..4000 {
                interrupter.interrupt();
                std::thread::sleep(Duration::from_micros(10));
            }
        });
        let mut registers = in_thunk(&platform, libc::SYS_getpid);
        let (mut seen, mut round, mut expected) = (0, 0_u64, registers.rdi);
        let mut state = context.extended_state();
        while !thread.is_finished() {
            match run(&mut context, &mut registers).await {
                Event::Interrupted => seen += 1,
                Event::Syscall => {
                    if round > 0 {
                        assert_eq!((registers.rsi, registers.rdx), (expected, expected));
                    }
                    round += 1;
                    if round.is_multiple_of(3) {
                        context.save().await;
                        assert_eq!(context.extended_state()[160..168], expected.to_ne_bytes());
                    } else {
                        expected = round;
                        state[160..168].copy_from_slice(&round.to_ne_bytes());
                        state[400..408].copy_from_slice(&round.to_ne_bytes());
                        context.set_extended_state(state.clone()).unwrap();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(seen > 0);
    });
}

fn a_state_that_is_spoilt_before_it_is_loaded_harms_the_guest_alone(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_slot::at());
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
        let slot = registers.rax;
        let mut other = guest.space.new_context(1).unwrap();
        registers = at(guest_slot::at());
        assert_eq!(run(&mut other, &mut registers).await, Event::Syscall, "it has started");
        other.resume(&Registers { rdi: slot, ..at(guest_spoil::at()) });
        registers = in_thunk(&platform, libc::SYS_getpid);
        let state = context.extended_state();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Whether the other one comes between setting and loading is chance.
        while Instant::now() < deadline {
            match run(&mut context, &mut registers).await {
                Event::Syscall => context.set_extended_state(state.clone()).unwrap(),
                Event::Fault(fault) => {
                    assert_eq!((fault.signal, fault.trap), (libc::SIGSEGV, 13));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(Instant::now() < deadline, "it never hit");
        registers = at(guest_calls::at());
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall, "it goes on");
    });
}

fn threads_share_memory_and_are_reused(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Arc::new(Guest::new(&platform));
        let (sender, receiver) = mpsc::channel();
        for index in 0..8 {
            let (guest, sender) = (guest.clone(), sender.clone());
            Executor::spawn(index % Executor::cpus(), async move {
                for _ in 0..5 {
                    let mut context = guest.space.new_context(Executor::current_cpu()).unwrap();
                    let mut registers = at(guest_count::at());
                    registers.rdi = DATA;
                    for _ in 0..100 {
                        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
                    }
                }
                sender.send(()).unwrap();
            });
        }
        drop(sender);
        while receiver.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
            sleep_until(deadline_after(Duration::from_millis(1))).await;
        }
        assert_eq!(guest.word(0), 8 * 5 * 100);
    });
}

fn the_vdso_tells_the_time(platform: &Arc<Platform>) {
    use object::{Object, ObjectSymbol};
    let platform = platform.clone();
    on_worker(0, async move {
        let image = platform.vdso_image();
        let file = object::File::parse(image).unwrap();
        let offset = file.dynamic_symbols().find(|symbol| symbol.name() == Ok("__vdso_clock_gettime")).unwrap().address();
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_function::at());
        registers.rax = platform.vdso().code_start + offset;
        registers.rdi = libc::CLOCK_MONOTONIC as u64;
        registers.rsi = DATA;
        let event = run(&mut context, &mut registers).await;
        assert_eq!(event, Event::Syscall, "{registers:x?}");
        assert_eq!((registers.rax, registers.rip), (0, guest_function::at() + 4), "answered without a call");
        let seconds = bulkhead_sentry::executor::now() / 1_000_000_000;
        assert!(guest.word(0).abs_diff(seconds) <= 1, "{}", guest.word(0));
    });
}

fn children() -> usize {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    std::fs::read_to_string(path).unwrap().split_whitespace().count()
}

fn two_hundred_spaces_come_and_go(platform: &Arc<Platform>) {
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = fds();
    let clone = platform.clone();
    on_worker(0, async move {
        for round in 0..200 {
            let guest = Guest::new(&clone);
            let mut context = guest.thread();
            let mut registers = at(guest_calls::at());
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall, "{round}");
        }
    });
    // The template and the spares stay.
    let start = Instant::now();
    while children() > 8 || fds() > before + 8 {
        assert!(start.elapsed() < Duration::from_secs(10), "{} children, {} fds", children(), fds());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whatever happens to a hostile guest, it ends within a second.
async fn survive(context: &mut Context, mut registers: Registers) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..4 {
        let interrupter = context.interrupter();
        let timer = bulkhead_sentry::executor::Timer::new(move || interrupter.interrupt());
        timer.arm(deadline_after(Duration::from_millis(20)));
        let deadline = deadline_after(Duration::from_millis(300));
        context.resume(&registers);
        let mut sleep = Box::pin(sleep_until(deadline));
        let event = std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(event) = context.poll_event(cx, &mut registers) {
                return std::task::Poll::Ready(Some(event));
            }
            sleep.as_mut().poll(cx).map(|()| None)
        })
        .await;
        let Some(event) = event else { break };
        events.push(event);
        if event == Event::Lost || event == Event::Interrupted {
            break;
        }
    }
    events
}

fn hostile_calls_from_the_stubs_code_trap(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let code: Vec<u8> = {
            // What a guest sees of the stub's code, found out by loads.
            let guest = Guest::new(&platform);
            let mut context = guest.thread();
            let mut bytes = Vec::new();
            while bytes.len() < 0x400 {
                let mut registers = at(guest_load::at());
                registers.rdi = region(&platform) + bytes.len() as u64;
                assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
                bytes.extend_from_slice(&registers.rax.to_ne_bytes());
            }
            bytes
        };
        let places: Vec<u64> =
            code.windows(2).enumerate().filter(|(_, pair)| *pair == [0x0f, 0x05]).map(|(index, _)| index as u64).collect();
        assert!(places.len() >= 10, "{places:?}");
        let calls = [
            libc::SYS_write,
            libc::SYS_mmap,
            libc::SYS_mprotect,
            libc::SYS_munmap,
            libc::SYS_clone,
            libc::SYS_execve,
            libc::SYS_openat,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_exit_group,
            libc::SYS_seccomp,
            libc::SYS_prctl,
            libc::SYS_rt_sigaction,
            libc::SYS_getpid | 0x4000_0000,
        ];
        for place in places {
            let guest = Guest::new(&platform);
            let mut context = guest.thread();
            for call in calls {
                let mut registers = at(guest_jump::at());
                registers.rbx = region(&platform) + place;
                registers.rax = call as u64;
                registers.rdi = 1;
                assert_eq!(run(&mut context, &mut registers).await, Event::Syscall, "call {call} at {place:#x}");
                assert_eq!((registers.rip, registers.rax), (region(&platform) + place + 2, call as u64));
            }
        }
    });
}

fn hostile_jumps_into_the_stubs_code_end_somehow(platform: &Arc<Platform>) {
    for place in (0..0x3c0).step_by(7) {
        let clone = platform.clone();
        on_worker(place as usize % 2, async move {
            let guest = Guest::new(&clone);
            let mut context = guest.thread();
            let mut registers = at(guest_jump::at());
            registers.rbx = region(&clone) + place;
            (registers.rdi, registers.rsi, registers.rdx, registers.r14, registers.r15) = (DATA, DATA, 1, DATA, DATA);
            (registers.r9, registers.r12, registers.rax) = (DATA, DATA, 15);
            survive(&mut context, registers).await;
        });
    }
    a_call_arrives_with_its_registers(platform);
}

fn a_guest_that_scribbles_over_shared_memory_harms_itself(platform: &Arc<Platform>) {
    for byte in [0_u64, 1, 2, 0xff, 0x41] {
        // The control block, the frame, all slots it may reach, the workers' page.
        for (start, length) in [(CONTEXTS + 0x7e00, 0x200), (CONTEXTS + 0x7000, 0xe00), (CONTEXTS, 0x8000), (WORKERS, 2048)] {
            for then in [guest_fill::at(), guest_fill_and_call::at()] {
                let clone = platform.clone();
                let other = platform.clone();
                on_worker(0, async move {
                    // A well-behaved one lives beside it.
                    let (sender, receiver) = mpsc::channel();
                    Executor::spawn(0, async move {
                        let guest = Guest::new(&other);
                        let mut context = guest.thread();
                        let mut registers = at(guest_calls::at());
                        for _ in 0..20 {
                            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
                            sleep_until(deadline_after(Duration::from_micros(100))).await;
                        }
                        sender.send(()).unwrap();
                    });
                    let guest = Guest::new(&clone);
                    let mut context = guest.thread();
                    let mut registers = at(then);
                    // Its own slot: not known to it, so it tries the first ones; and those not mapped are faults.
                    for slot in 0..4 {
                        registers = Registers { rax: byte, rcx: length, ..at(registers.rip) };
                        registers.rdi = region(&clone) + start + if start >= CONTEXTS { slot * 0x8000 } else { 0 };
                        registers.rip = then;
                        let events = survive(&mut context, registers).await;
                        if events.last() == Some(&Event::Lost) || events.is_empty() {
                            break;
                        }
                    }
                    drop(context);
                    drop(guest);
                    let start = Instant::now();
                    while receiver.try_recv().is_err() {
                        assert!(start.elapsed() < Duration::from_secs(5), "the other guest hangs");
                        sleep_until(deadline_after(Duration::from_millis(1))).await;
                    }
                });
            }
        }
    }
}

fn a_killed_stub_is_lost_and_nothing_hangs(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_calls::at());
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
        let pid = guest.space.host_pid();
        Executor::spawn(1, async move {
            sleep_until(deadline_after(Duration::from_millis(5))).await;
            unsafe { libc::kill(pid, libc::SIGKILL) };
        });
        registers = at(guest_spin::at());
        assert_eq!(run(&mut context, &mut registers).await, Event::Lost);
        assert_eq!(run(&mut context, &mut registers).await, Event::Lost);
        assert!(guest.space.apply(&[MapOp::Unmap { address: DATA, length: PAGE }]).is_err());
        assert!(guest.space.new_context(0).is_err());
    });
}

fn a_dropped_running_context_does_not_go_on(platform: &Arc<Platform>) {
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_calls::at());
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
        registers = at(guest_spin::at());
        context.resume(&registers);
        sleep_until(deadline_after(Duration::from_millis(2))).await;
        drop(context);
        sleep_until(deadline_after(Duration::from_millis(20))).await;
        let mut again = guest.thread();
        registers = at(guest_calls::at());
        assert_eq!(run(&mut again, &mut registers).await, Event::Syscall);
    });
}

fn bound_to(tid: i32) -> u64 {
    let mut set = [0_u64; 16];
    assert!(unsafe { libc::syscall(libc::SYS_sched_getaffinity, tid, size_of_val(&set), set.as_mut_ptr()) } > 0);
    set[0]
}

fn computing_guests_spread_over_the_cpus(platform: &Arc<Platform>) {
    if Executor::cpus() < 2 {
        return;
    }
    let platform = platform.clone();
    let cpus = on_worker(0, async move {
        let guests: Vec<Guest> = (0..2).map(|_| Guest::new(&platform)).collect();
        let mut contexts: Vec<Context> = guests.iter().map(|guest| guest.space.new_context(0).unwrap()).collect();
        for context in &mut contexts {
            context.resume(&at(guest_spin::at()));
        }
        let mut registers = [at(0), at(0)];
        for round in [30, 100] {
            // The first round gives them time to settle.
            sleep_until(deadline_after(Duration::from_millis(round))).await;
            for (context, registers) in contexts.iter_mut().zip(&mut registers) {
                if round == 100 {
                    context.interrupter().interrupt();
                    let event = std::future::poll_fn(|cx| context.poll_event(cx, registers)).await;
                    assert_eq!(event, Event::Interrupted);
                } else {
                    let mut nothing = at(0);
                    let pending =
                        std::future::poll_fn(|cx| std::task::Poll::Ready(context.poll_event(cx, &mut nothing).is_pending()))
                            .await;
                    assert!(pending);
                }
            }
        }
        contexts.iter().map(|context| bound_to(context.host_tid())).collect::<Vec<_>>()
    });
    assert_ne!(cpus[0], cpus[1]);
}

/// Calls until a worker of another CPU than its own serves the guest, which happens as soon as one is idle.
async fn heat(context: &mut Context, registers: &mut Registers) {
    *registers = at(guest_calls::at());
    let start = Instant::now();
    loop {
        assert_eq!(run(context, registers).await, Event::Syscall);
        if bound_to(context.host_tid()) != 1 << Executor::current_cpu() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(25), "never hot");
    }
}

/// CPU time of this process, or of a stub.
fn cpu_time(pid: i32) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let clock = if pid == 0 { libc::CLOCK_PROCESS_CPUTIME_ID } else { (!pid << 3) | 2 };
    assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn a_fast_caller_is_served_from_an_idle_cpu_and_nobody_spins_afterwards(platform: &Arc<Platform>) {
    if Executor::cpus() < 2 {
        return;
    }
    let platform = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(guest_calls::at());
        heat(&mut context, &mut registers).await;
        // Its task waits for something else: neither it nor its worker may use the CPU.
        let before = (cpu_time(0), cpu_time(guest.space.host_pid()));
        sleep_until(deadline_after(Duration::from_millis(300))).await;
        let after = (cpu_time(0), cpu_time(guest.space.host_pid()));
        assert!(after.0 - before.0 < Duration::from_millis(30), "{before:?} {after:?}");
        assert!(after.1 - before.1 < Duration::from_millis(30), "{before:?} {after:?}");
        // It computes: its worker must not wait for it with the CPU in use.
        heat(&mut context, &mut registers).await;
        registers = at(guest_spin::at());
        let interrupter = context.interrupter();
        let timer = bulkhead_sentry::executor::Timer::new(move || interrupter.interrupt());
        timer.arm(deadline_after(Duration::from_millis(300)));
        let before = cpu_time(0);
        assert_eq!(run(&mut context, &mut registers).await, Event::Interrupted);
        assert!(cpu_time(0) - before < Duration::from_millis(30));
        // And is at home again.
        registers = at(guest_calls::at());
        assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
        assert_eq!(bound_to(context.host_tid()), 1 << Executor::current_cpu());
    });
}

fn a_hot_thread_is_interrupted_killed_and_dropped_like_any_other(platform: &Arc<Platform>) {
    if Executor::cpus() < 2 {
        return;
    }
    let platform = platform.clone();
    on_worker(1, async move {
        let guest = Guest::new(&platform);
        let mut context = guest.thread();
        let mut registers = at(0);
        for _ in 0..3 {
            heat(&mut context, &mut registers).await;
            let interrupter = context.interrupter();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(1));
                interrupter.interrupt();
            });
            while run(&mut context, &mut registers).await != Event::Interrupted {}
            thread.join().unwrap();
        }
        // Dropped while it runs, and used again.
        heat(&mut context, &mut registers).await;
        context.resume(&at(guest_spin::at()));
        drop(context);
        let mut context = guest.thread();
        heat(&mut context, &mut registers).await;
        // Another thread of the sandbox wants the adopter's CPU.
        let here = Executor::current_cpu();
        let (sender, receiver) = mpsc::channel();
        let other = Guest::new(&platform);
        Executor::spawn(here, async move {
            let mut context = other.space.new_context(here).unwrap();
            let mut registers = at(guest_calls::at());
            for _ in 0..100 {
                assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            }
            sender.send(()).unwrap();
        });
        let start = Instant::now();
        while receiver.try_recv().is_err() {
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            assert!(start.elapsed() < Duration::from_secs(5), "the other thread has no turn");
        }
        heat(&mut context, &mut registers).await;
        let pid = guest.space.host_pid();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1));
            unsafe { libc::kill(pid, libc::SIGKILL) };
        });
        while run(&mut context, &mut registers).await == Event::Syscall {}
        assert_eq!(run(&mut context, &mut registers).await, Event::Lost);
    });
}

fn bench(platform: &Arc<Platform>) {
    let clone = platform.clone();
    on_worker(0, async move {
        let guest = Guest::new(&clone);
        let mut context = guest.thread();
        let mut registers = at(guest_calls::at());
        for _ in 0..5 {
            let start = Instant::now();
            for _ in 0..20_000 {
                assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            }
            println!("getpid by SIGSYS        {:>8} ns", start.elapsed().as_nanos() / 20_000);
        }
        let file = memory_file(&[], PAGE);
        let start = Instant::now();
        for _ in 0..5000 {
            guest.space.apply(&[map(0x50_0000, PAGE, RW, &file)]).unwrap();
            guest.space.apply(&[MapOp::Unmap { address: 0x50_0000, length: PAGE }]).unwrap();
        }
        println!("map, then unmap         {:>8} ns", start.elapsed().as_nanos() / 5000);
        let mut registers = at(guest_touch::at());
        registers.rdi = 0x50_0000;
        let start = Instant::now();
        for _ in 0..5000 {
            guest.space.apply(&[map(0x50_0000, PAGE, RW, &file)]).unwrap();
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            guest.space.apply(&[MapOp::Unmap { address: 0x50_0000, length: PAGE }]).unwrap();
        }
        println!("map, touch, call, unmap {:>8} ns", start.elapsed().as_nanos() / 5000);
        let start = Instant::now();
        for _ in 0..200 {
            let mut context = guest.thread();
            let mut registers = at(guest_calls::at());
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
        }
        println!("context reused, 1 call  {:>8} ns", start.elapsed().as_nanos() / 200);
        let start = Instant::now();
        let mut contexts = Vec::new();
        for _ in 0..200 {
            let mut context = guest.thread();
            let mut registers = at(guest_calls::at());
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
            contexts.push(context);
        }
        println!("context new, 1 call     {:>8} ns", start.elapsed().as_nanos() / 200);
        let start = Instant::now();
        for _ in 0..200 {
            let space = clone.new_space().unwrap();
            drop(space);
        }
        println!("space made and dropped  {:>8} ns", start.elapsed().as_nanos() / 200);
        let start = Instant::now();
        for _ in 0..200 {
            let guest = Guest::new(&clone);
            let mut context = guest.thread();
            let mut registers = at(guest_calls::at());
            assert_eq!(run(&mut context, &mut registers).await, Event::Syscall);
        }
        println!("space, thread, 1 call   {:>8} ns", start.elapsed().as_nanos() / 200);
    });
}

/// What the platform does under the policy that the sentry seals itself with; a forbidden call kills the process.
fn sealed(platform: &Arc<Platform>) {
    let files: Vec<(OwnedFd, OwnedFd)> = (0..4)
        .map(|_| {
            let guest = Guest::new(platform);
            (guest._code.try_clone().unwrap(), guest.data.try_clone().unwrap())
        })
        .collect();
    let policy = bulkhead_ipc::confine::Policy::parse(include_str!("../src/policy.seccomp")).unwrap();
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    seccompiler::apply_filter_all_threads(&policy.compile().unwrap()).unwrap();
    for (index, (code, data)) in files.into_iter().enumerate() {
        let platform = platform.clone();
        on_worker(index % 2, async move {
            let guest = Guest::with(&platform, code, data);
            let mut contexts = [guest.thread(), guest.thread()];
            for context in &mut contexts {
                let mut registers = at(guest_calls::at());
                for _ in 0..100 {
                    assert_eq!(run(context, &mut registers).await, Event::Syscall);
                    context.cpu_time();
                }
                registers = at(guest_spin::at());
                let interrupter = context.interrupter();
                let timer = bulkhead_sentry::executor::Timer::new(move || interrupter.interrupt());
                timer.arm(deadline_after(Duration::from_millis(5)));
                assert_eq!(run(context, &mut registers).await, Event::Interrupted);
                bulkhead_sentry::executor::blocking(|| ()).await;
            }
            let queue = Arc::new(bulkhead_sentry::executor::WaitQueue::new());
            bulkhead_sentry::executor::HostPoller::arm(0, bulkhead_sentry::executor::Readiness::OUT, queue);
            guest.space.replace(&[]).unwrap();
            drop(contexts);
            drop(guest);
            sleep_until(deadline_after(Duration::from_millis(50))).await;
        });
    }
}

fn the_platform_lives_within_the_sentrys_policy() {
    let status = std::process::Command::new(std::env::current_exe().unwrap()).arg("--sealed").status().unwrap();
    assert!(status.success(), "{status}");
    println!("test the_platform_lives_within_the_sentrys_policy ok");
}

type Test = (&'static str, fn(&Arc<Platform>));

macro_rules! tests {
    ($($name:ident)*) => { &[$((stringify!($name), $name)),*] };
}

const TESTS: &[Test] = tests! {
    a_call_arrives_with_its_registers
    faults_are_told_and_can_be_resolved
    a_32_bit_call_is_a_fault
    a_spinning_guest_is_interrupted
    interrupts_race_with_calls_and_none_is_lost
    extended_state_is_kept_read_and_set
    a_thread_in_a_thunk_saves_and_loads_its_extended_state
    interrupts_race_with_the_loading_of_state_and_none_of_it_is_lost
    a_state_that_is_spoilt_before_it_is_loaded_harms_the_guest_alone
    threads_share_memory_and_are_reused
    the_vdso_tells_the_time
    two_hundred_spaces_come_and_go
    hostile_calls_from_the_stubs_code_trap
    hostile_jumps_into_the_stubs_code_end_somehow
    a_guest_that_scribbles_over_shared_memory_harms_itself
    a_killed_stub_is_lost_and_nothing_hangs
    a_dropped_running_context_does_not_go_on
    computing_guests_spread_over_the_cpus
    a_fast_caller_is_served_from_an_idle_cpu_and_nobody_spins_afterwards
    a_hot_thread_is_interrupted_killed_and_dropped_like_any_other
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let sealed_child = arguments.iter().any(|argument| argument == "--sealed");
    if !sealed_child && !arguments.iter().any(|argument| argument == "--bench") && filter.is_empty() {
        the_platform_lives_within_the_sentrys_policy();
    }
    let cpus: Vec<u32> = (0..std::thread::available_parallelism().map_or(1, |count| count.get() as u32)).collect();
    let platform = match Platform::start(&cpus) {
        Ok(platform) => platform,
        Err(error) => {
            eprintln!("the platform does not start here: {error}");
            std::process::exit(1);
        }
    };
    if sealed_child {
        return sealed(&platform);
    }
    if arguments.iter().any(|argument| argument == "--bench") {
        return bench(&platform);
    }
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(&filter)) {
        let start = Instant::now();
        println!("test {name} ...");
        test(&platform);
        println!("test {name} ok ({} ms)", start.elapsed().as_millis());
    }
}
