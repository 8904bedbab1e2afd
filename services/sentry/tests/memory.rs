//! Address spaces with real guest code on real stubs. One process, started with one thread, so it has its own `main`.
//! `memory --bench` measures.

use std::{
    future::Future,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bulkhead_sentry::{
    abi::{PAGE_SIZE, UserAddress},
    executor::Executor,
    memory::{AddressSpace, Advice, AreaFlags, Limits, MapRequest, MemoryFile, Placement, Source},
    platform::{Context, Event, Platform, Protection, Registers},
};

const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x4000_0000;
const RW: Protection = Protection::READ.union(Protection::WRITE);

/// `1: mov [rdi], al; add rdi, rsi; dec rcx; jnz 1b; syscall`
const STORE: &[u8] = b"\x88\x07\x48\x01\xf7\x48\xff\xc9\x75\xf6\x0f\x05";
/// `1: movzx eax, byte [rdi]; add rdx, rax; add rdi, rsi; dec rcx; jnz 1b; syscall`
const SUM: &[u8] = b"\x0f\xb6\x07\x48\x01\xc2\x48\x01\xf7\x48\xff\xc9\x75\xf2\x0f\x05";

/// A guest thread in an address space.
struct Guest {
    memory: Arc<AddressSpace>,
    context: Context,
    faults: u32,
}

impl Guest {
    fn new(platform: &Arc<Platform>, memory: &Arc<MemoryFile>) -> Guest {
        let space = AddressSpace::new(platform, memory).unwrap();
        space.set_mmap_top(0x7000_0000_0000);
        map(&space, CODE, 1, RW | Protection::EXECUTE, AreaFlags::empty());
        space.write(UserAddress(CODE), STORE).unwrap();
        space.write(UserAddress(CODE + 64), SUM).unwrap();
        Guest::on(space)
    }

    fn on(memory: Arc<AddressSpace>) -> Guest {
        let context = memory.space().new_context(Executor::current_cpu()).unwrap();
        Guest { memory, context, faults: 0 }
    }

    fn fork(&self) -> Guest {
        Guest::on(self.memory.fork(&[]).unwrap())
    }

    async fn run(&mut self, mut registers: Registers) -> Result<Registers, i32> {
        loop {
            self.context.resume(&registers);
            match std::future::poll_fn(|cx| self.context.poll_event(cx, &mut registers)).await {
                Event::Syscall => return Ok(registers),
                Event::Fault(fault) => {
                    self.faults += 1;
                    self.memory.handle_fault(&fault, registers.rsp).map_err(|(signal, _)| signal)?;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Stores a byte into each of some pages.
    async fn store(&mut self, address: u64, pages: u64, value: u8) -> Result<(), i32> {
        let registers = Registers {
            rip: CODE,
            rdi: address,
            rsi: PAGE_SIZE,
            rcx: pages,
            rax: value.into(),
            eflags: 0x202,
            ..Default::default()
        };
        self.run(registers).await.map(|_| ())
    }

    /// The sum of one byte of each of some pages.
    async fn sum(&mut self, address: u64, pages: u64) -> Result<u64, i32> {
        let registers =
            Registers { rip: CODE + 64, rdi: address, rsi: PAGE_SIZE, rcx: pages, eflags: 0x202, ..Default::default() };
        self.run(registers).await.map(|registers| registers.rdx)
    }
}

fn map(space: &AddressSpace, at: u64, pages: u64, protection: Protection, flags: AreaFlags) -> u64 {
    let placement = if at == 0 { Placement::Hint(0) } else { Placement::Fixed(at) };
    let length = pages * PAGE_SIZE;
    let request = MapRequest { placement, length, protection, flags, source: Source::Anonymous, populate: false };
    space.map(&request, &Limits::UNLIMITED).unwrap()
}

async fn a_child_sees_what_was_and_the_parent_what_is(platform: Arc<Platform>, memory: Arc<MemoryFile>) {
    let mut parent = Guest::new(&platform, &memory);
    map(&parent.memory, DATA, 256, RW, AreaFlags::empty());
    map(&parent.memory, DATA + (1 << 30), 4, RW, AreaFlags::SHARED);
    parent.store(DATA, 128, 1).await.unwrap();
    assert_eq!(parent.faults, 0, "the host answers first touches");
    let mut child = parent.fork();
    parent.store(DATA, 256, 2).await.unwrap();
    assert_eq!((parent.sum(DATA, 256).await, child.sum(DATA, 256).await), (Ok(512), Ok(128)));
    child.store(DATA + 4 * PAGE_SIZE, 200, 3).await.unwrap();
    assert_eq!((parent.sum(DATA, 256).await, child.sum(DATA, 256).await), (Ok(512), Ok(4 + 600)));
    child.store(DATA + (1 << 30), 4, 5).await.unwrap();
    assert_eq!(parent.sum(DATA + (1 << 30), 4).await, Ok(20));
    let faults = parent.faults;
    parent.store(DATA, 256, 4).await.unwrap();
    assert_eq!(parent.faults, faults, "what was copied stays writable");
    // Grandchildren, and a parent that goes first.
    let mut grandchild = child.fork();
    drop(child);
    drop(parent);
    assert_eq!(grandchild.sum(DATA, 256).await, Ok(604));
    grandchild.store(DATA, 256, 1).await.unwrap();
    assert_eq!(grandchild.sum(DATA, 256).await, Ok(256));
}

async fn what_is_given_up_reads_as_zeros(platform: Arc<Platform>, memory: Arc<MemoryFile>) {
    let mut guest = Guest::new(&platform, &memory);
    map(&guest.memory, DATA, 256, RW, AreaFlags::empty());
    guest.store(DATA, 256, 1).await.unwrap();
    guest.memory.advise(DATA, 128 * PAGE_SIZE, Advice::DontNeed).unwrap();
    assert_eq!(guest.sum(DATA, 256).await, Ok(128));
    guest.memory.unmap(DATA + 200 * PAGE_SIZE, 56 * PAGE_SIZE).unwrap();
    assert_eq!(guest.sum(DATA, 256).await, Err(libc::SIGSEGV));
    assert_eq!(guest.sum(DATA, 200).await, Ok(72));
    for _ in 0..200 {
        let at = map(&guest.memory, 0, 1, RW, AreaFlags::empty());
        assert_eq!(guest.sum(at, 1).await, Ok(0));
        guest.store(at, 1, 9).await.unwrap();
        guest.memory.unmap(at, PAGE_SIZE).unwrap();
    }
    guest.memory.protect(DATA, PAGE_SIZE, Protection::READ, false, &Limits::UNLIMITED).unwrap();
    assert_eq!(guest.store(DATA, 1, 1).await, Err(libc::SIGSEGV));
}

async fn huge_and_growing_areas_appear_when_touched(platform: Arc<Platform>, memory: Arc<MemoryFile>) {
    let mut guest = Guest::new(&platform, &memory);
    let huge = map(&guest.memory, 0, (8 << 40) / PAGE_SIZE, RW, AreaFlags::NO_RESERVE);
    guest.store(huge + (5 << 40), 1000, 1).await.unwrap();
    assert_eq!(guest.sum(huge + (5 << 40), 1000).await, Ok(1000));
    let top = DATA + (1 << 30);
    map(&guest.memory, top - PAGE_SIZE, 1, RW, AreaFlags::GROWS_DOWN);
    guest.store(top - 1000 * PAGE_SIZE, 1000, 1).await.unwrap();
    assert_eq!(guest.store(top - 2049 * PAGE_SIZE, 1, 1).await, Err(libc::SIGSEGV), "RLIMIT_STACK is 8 MiB");
}

async fn bench(platform: Arc<Platform>, memory: Arc<MemoryFile>) {
    let mut guest = Guest::new(&platform, &memory);
    let report = |what: &str, start: Instant, n: u64| println!("{what:40} {:>9} ns", start.elapsed().as_nanos() as u64 / n);
    let start = Instant::now();
    for _ in 0..2000 {
        let at = map(&guest.memory, 0, 1, RW, AreaFlags::empty());
        guest.store(at, 1, 1).await.unwrap();
        guest.memory.unmap(at, PAGE_SIZE).unwrap();
    }
    report("mmap + touch + munmap", start, 2000);

    map(&guest.memory, DATA, 4096, RW, AreaFlags::empty());
    let start = Instant::now();
    guest.store(DATA, 4096, 1).await.unwrap();
    report("page touch", start, 4096);

    // As a shell is: a few dozen areas, some of them written.
    for i in 0..30 {
        map(&guest.memory, DATA + (1 << 30) + i * (1 << 20), 16, RW, AreaFlags::empty());
        guest.store(DATA + (1 << 30) + i * (1 << 20), 16, 1).await.unwrap();
    }
    let start = Instant::now();
    for _ in 0..50 {
        drop(guest.memory.fork(&[]).unwrap());
    }
    report("fork (30 areas) + drop", start, 50);
    let start = Instant::now();
    for _ in 0..50 {
        let mut child = guest.fork();
        child.store(DATA + (1 << 30), 1, 2).await.unwrap();
        guest.store(DATA + (1 << 30), 1, 2).await.unwrap();
    }
    report("fork, each writes once, exit", start, 50);
    let mut child = guest.fork();
    let start = Instant::now();
    child.store(DATA, 4096, 2).await.unwrap();
    report("page written after fork", start, 4096);
    drop(child);
    let start = Instant::now();
    for _ in 0..200_000 {
        let _: u64 = guest.memory.read_value(UserAddress(DATA + 8)).unwrap();
    }
    report("read of a word by the sentry", start, 200_000);
}

/// Runs a future on a worker, waits for it.
fn on_worker<F: Future<Output = ()> + Send + 'static>(future: F) {
    let (sender, receiver) = mpsc::channel();
    Executor::spawn(0, async move {
        future.await;
        let _ = sender.send(());
    });
    receiver.recv_timeout(Duration::from_secs(60)).expect("it failed or hangs");
}

fn main() {
    let cpus: Vec<u32> = (0..std::thread::available_parallelism().map_or(1, |count| count.get() as u32)).collect();
    let platform = Platform::start(&cpus).expect("the platform does not start here");
    let memory = MemoryFile::new(u64::MAX).expect("no memory file");
    if std::env::args().any(|argument| argument == "--bench") {
        return on_worker(bench(platform, memory));
    }
    macro_rules! tests {
        ($($name:ident)*) => { $(
            on_worker($name(platform.clone(), memory.clone()));
            println!("test {} ok", stringify!($name));
        )* };
    }
    tests! {
        a_child_sees_what_was_and_the_parent_what_is
        what_is_given_up_reads_as_zeros
        huge_and_growing_areas_appear_when_touched
    }
}
