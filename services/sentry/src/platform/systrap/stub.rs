//! Stubs seen from the sentry: making them, telling their agents what to do, making threads in them, noticing their death.

use std::{
    collections::HashMap,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
    },
};

use bulkhead_ipc::Errno;
use parking_lot::Mutex;

use super::{
    code::Code,
    frame::ExtendedState,
    layout::*,
    posts::Load,
    record::Records,
    regions::{Regions, STUBS},
    template::{self, HostVdso},
    waiting::Spins,
};
use crate::{
    executor::{self, futex_wake, now, pin_thread},
    platform::PlatformError,
};

/// A system call for an agent: number and six arguments.
pub type Command = [u64; 7];

/// Written to a stub's eventfd by the reaper.
static DEAD: u64 = 1 << 56;
/// Stubs that wait for work once the first was asked for.
const SPARES: usize = 3;

/// A stub is made in 0.2 ms and dies in 0.1 ms. Where they take so long on average, foreign programs keep the CPU busy, and the next fork
/// would wait for it: at a load of 6 on two CPUs a fork took 3 ms instead of 0.5.
const CROWDED: u64 = 1_000_000;
/// The average is over about so many. One that takes long says nothing: in a thousand a second there is always one that somebody
/// interrupted.
const AVERAGED: u64 = 8;
/// And it counts as no longer than this.
const LONG: u64 = 4 * CROWDED;
/// How long it is not tried there again.
const SHUNNED: u64 = 500_000_000;

/// Numbers from 0 up, of which some are in use.
struct Numbers {
    free: Vec<usize>,
    next: usize,
    limit: usize,
}

impl Numbers {
    fn take(&mut self) -> Option<usize> {
        self.free.pop().or_else(|| {
            (self.next < self.limit).then(|| {
                self.next += 1;
                self.next - 1
            })
        })
    }
}

/// What all parts of the platform share.
pub struct Shared {
    /// Memory shared with stubs.
    pub regions: Regions,
    /// Form of the extended state.
    pub form: ExtendedState,
    /// Host CPU of each worker.
    pub cpus: Vec<u32>,
    /// By slot.
    pub records: Records,
    /// What each worker has to compute.
    pub loads: Vec<Load>,
    /// How often who spins looks.
    pub spins: Spins,
    slots: Mutex<Numbers>,
    places: Mutex<Numbers>,
    /// Living stubs by pid, the template too.
    stubs: Mutex<HashMap<i32, Arc<Stub>>>,
    template: OnceLock<Arc<Stub>>,
    /// Held while a stub is made: the template is told one thing at a time, and the reaper waits for the new one's entry.
    making: Mutex<()>,
    spares: Mutex<Spares>,
    reaper: OnceLock<()>,
    /// How long work in the background takes on average.
    takes: AtomicU64,
    /// Until then it stays on the CPU of who asks for it.
    crowded_until: AtomicU64,
}

#[derive(Default)]
struct Spares {
    ready: Vec<Arc<Stub>>,
    refilling: bool,
}

/// A stub.
pub struct Stub {
    /// Host process.
    pub pid: i32,
    /// Which command page is its.
    place: usize,
    done: OwnedFd,
    agent: Mutex<Agent>,
    threads: Mutex<Threads>,
    dead: AtomicBool,
    /// Whether we killed it.
    condemned: AtomicBool,
}

#[derive(Default)]
struct Agent {
    sequence: u32,
    bound: Option<usize>,
}

#[derive(Default)]
struct Threads {
    used: Vec<usize>,
    parked: Vec<usize>,
    dead: bool,
}

impl Shared {
    /// Makes the template.
    pub fn start(
        regions: Regions,
        form: ExtendedState,
        code: &Code,
        vdso: &HostVdso,
        cpus: &[u32],
    ) -> Result<Arc<Shared>, PlatformError> {
        let done = eventfd().map_err(|errno| PlatformError::Host("make an eventfd", errno))?;
        let pid = template::start(&regions, code, vdso, &done)?;
        let template = Arc::new(Stub::new(pid, 0, done));
        let shared = Arc::new(Shared {
            regions,
            form,
            cpus: cpus.to_vec(),
            records: Records::default(),
            loads: cpus.iter().map(|_| Load::default()).collect(),
            spins: Spins::measure(),
            // The last slot is the template's scratch page.
            slots: Mutex::new(Numbers { free: Vec::new(), next: 0, limit: SLOTS - 1 }),
            places: Mutex::new(Numbers { free: Vec::new(), next: 1, limit: STUBS }),
            stubs: Mutex::new(HashMap::from([(pid, template.clone())])),
            template: OnceLock::from(template),
            making: Mutex::new(()),
            spares: Mutex::default(),
            reaper: OnceLock::new(),
            takes: AtomicU64::new(0),
            crowded_until: AtomicU64::new(0),
        });
        Ok(shared)
    }

    /// A stub in which no guest code has run.
    pub fn fresh_stub(self: &Arc<Self>) -> Result<Arc<Stub>, Errno> {
        self.reaper.get_or_init(|| {
            let shared = Arc::downgrade(self);
            let thread = std::thread::Builder::new().name("reaper".into()).stack_size(128 * 1024);
            if let Err(error) = thread.spawn(move || reap(&shared)) {
                tracing::error!(%error, "cannot start the reaper: the death of a stub will go unnoticed");
            }
        });
        let mut spares = self.spares.lock();
        let ready = spares.ready.pop();
        if !spares.refilling && spares.ready.len() < SPARES {
            spares.refilling = true;
            let (shared, away) = (self.clone(), self.quiet_cpu());
            executor::submit(Box::new(move || shared.refill(away)));
        }
        drop(spares);
        match ready {
            Some(stub) if !stub.dead.load(Acquire) => Ok(stub),
            _ => self.make_stub(),
        }
    }

    /// Where work in the background does not keep the calling worker's guests waiting: the index of the CPU with the least to
    /// compute but this one. This one where there is no other, or where the others were busy with something else a moment ago.
    pub fn quiet_cpu(&self) -> Option<usize> {
        let here = executor::current_worker()?;
        if now() < self.crowded_until.load(Relaxed) {
            return Some(here);
        }
        (0..self.cpus.len()).filter(|cpu| *cpu != here).min_by_key(|cpu| self.loads[*cpu].now()).or(Some(here))
    }

    /// Work in the background on one stub began at that time, and is done.
    fn took_since(&self, start: u64) {
        let time = now();
        let takes = self.takes.load(Relaxed);
        let takes = takes - takes / AVERAGED + time.saturating_sub(start).min(LONG) / AVERAGED;
        let is_crowded = takes > CROWDED && time >= self.crowded_until.load(Relaxed);
        if is_crowded {
            self.crowded_until.store(time + SHUNNED, Relaxed);
        }
        self.takes.store(if is_crowded { 0 } else { takes }, Relaxed);
    }

    /// Makes spare stubs, on the CPU `away` (nobody waits for them).
    fn refill(self: Arc<Self>, away: Option<usize>) {
        if let Some(away) = away {
            pin_thread(0, self.cpus[away]);
        }
        self.make_spares(away);
        if away.is_some() {
            executor::unpin_thread();
        }
    }

    fn make_spares(self: &Arc<Self>, away: Option<usize>) {
        loop {
            let start = now();
            if let (Some(away), Some(template)) = (away, self.template.get()) {
                template.bind(self, away);
            }
            // A stub comes with a thread, which most of its users ask for next.
            let made = self.make_stub().and_then(|stub| self.make_thread(&stub, away).map(|slot| (stub, slot)));
            self.took_since(start);
            let mut spares = self.spares.lock();
            let more = match made {
                Ok((stub, slot)) => {
                    stub.park(self, slot);
                    spares.ready.push(stub);
                    spares.ready.len() < SPARES
                }
                Err(errno) => {
                    tracing::debug!(%errno, "cannot make a spare stub");
                    false
                }
            };
            if !more {
                spares.refilling = false;
                return;
            }
        }
    }

    fn make_stub(&self) -> Result<Arc<Stub>, Errno> {
        let _making = self.making.lock();
        let template = self.template.get().ok_or(Errno::EAGAIN)?;
        let done = eventfd()?;
        let place = self.places.lock().take().ok_or(Errno::EAGAIN)?;
        let page = self.regions.command(place);
        page.sequence.store(0, SeqCst);
        page.done.store(done.as_raw_fd() as u32, SeqCst);
        let scratch = self.regions.base + SCRATCH;
        let offset = place as u64 * COMMAND_SIZE;
        let clone: Command = [libc::SYS_clone as u64, CLONE_STUB, 0, scratch, 0, offset, self.regions.commands_fd() as u64];
        if let Err(errno) = template.run(self, &[clone]) {
            self.places.lock().free.push(place);
            return Err(errno);
        }
        let stub = Arc::new(Stub::new(self.regions.scratch().load(SeqCst) as i32, place, done));
        self.stubs.lock().insert(stub.pid, stub.clone());
        drop(_making);
        stub.wait()?;
        Ok(stub)
    }

    /// A thread in a stub, on its way to its first stop, which it posts to this home, or to the caller's worker. Returns its slot.
    pub fn make_thread(&self, stub: &Stub, home: Option<usize>) -> Result<usize, Errno> {
        let slot = self.slots.lock().take().ok_or(Errno::EAGAIN)?;
        let address = self.regions.slot_address(slot);
        let control = self.regions.control(slot);
        let home = home.unwrap_or_else(executor::Executor::current_cpu);
        control.state.store(RUNNING, Relaxed);
        control.home.store(home as u32, Relaxed);
        control.spins.store(0, Relaxed);
        control.negated.store((address + CONTROL).wrapping_neg(), Relaxed);
        for (word, value) in control.stack.iter().zip([address + SAVED_SIZE, 0, STACK_SIZE]) {
            word.store(value, Relaxed);
        }
        let map: Command = [
            libc::SYS_mmap as u64,
            address,
            SLOT_SIZE,
            (libc::PROT_READ | libc::PROT_WRITE) as u64,
            (libc::MAP_SHARED | libc::MAP_FIXED) as u64,
            self.regions.contexts_fd() as u64,
            slot as u64 * SLOT_SIZE,
        ];
        let control_address = address + CONTROL;
        let tid = control_address + control::TID as u64;
        let clone: Command = [libc::SYS_clone as u64, CLONE_THREAD, control_address, tid, 0, 0, address];
        if let Err(errno) = stub.run(self, &[map, clone]) {
            // The slot may be mapped there now, so nobody else gets it before the stub is gone.
            stub.park_nothing(self, slot);
            return Err(errno);
        }
        let record = self.records.get(slot);
        record.fresh.store(true, Relaxed);
        record.lost.store(false, Relaxed);
        record.running.store(false, Relaxed);
        record.counted.store(0, Relaxed);
        record.pid.store(stub.pid, Relaxed);
        record.tid.store(control.tid.load(SeqCst) as i32, Relaxed);
        record.home.store(home, Relaxed);
        let bound = stub.agent.lock().bound.unwrap_or(usize::MAX);
        record.bound.store(bound, Release);
        Ok(slot)
    }

    /// Whether a parked thread has stopped with all of its state in a frame. One that stopped in a thunk is sent on to such a stop.
    fn settled(&self, slot: usize) -> bool {
        let control = self.regions.control(slot);
        if control.state.load(Acquire) == RUNNING {
            return false;
        }
        if control.kind.load(Relaxed) & STOPPED_IN_THUNK == 0 {
            return true;
        }
        control.next.store(STOP_FULLY, Relaxed);
        if control.state.swap(RUNNING, SeqCst) == SLEEPING {
            futex_wake(&control.state);
        }
        false
    }

    fn release_slot(&self, slot: usize) {
        self.regions.discard_slot(slot);
        self.slots.lock().free.push(slot);
    }

    /// Ends a stub and waits until it is dead; on the CPU `away`, so that its end does not take the time of those who live.
    pub fn end_stub(&self, stub: &Stub, away: Option<usize>) {
        if let Some(away) = away {
            pin_thread(0, self.cpus[away]);
            stub.bind(self, away);
            let slots: Vec<usize> = {
                let threads = stub.threads.lock();
                threads.used.iter().chain(&threads.parked).copied().collect()
            };
            for slot in slots {
                let record = self.records.get(slot);
                pin_stub_thread(stub.pid, record.tid.load(Relaxed), self.cpus[away]);
            }
        }
        let start = now();
        stub.kill();
        stub.wait_for_death();
        self.took_since(start);
        if away.is_some() {
            executor::unpin_thread();
        }
    }

    /// Ends a stub by its pid.
    pub fn kill(&self, pid: i32) {
        let stub = self.stubs.lock().get(&pid).cloned();
        if let Some(stub) = stub {
            stub.kill();
        }
    }

    fn died(&self, pid: i32, how: &str) {
        let mut found = self.stubs.lock().remove(&pid);
        if found.is_none() {
            // It may be so new that its maker has not entered it yet.
            let _making = self.making.lock();
            found = self.stubs.lock().remove(&pid);
        }
        let Some(stub) = found else { return };
        stub.dead.store(true, SeqCst);
        if stub.place == 0 {
            tracing::error!(pid, how, "the template stub died: no new process can be made");
        } else if !stub.condemned.load(SeqCst) {
            tracing::warn!(pid, how, "a stub died");
        }
        let (used, parked) = {
            let mut threads = stub.threads.lock();
            threads.dead = true;
            (threads.used.clone(), std::mem::take(&mut threads.parked))
        };
        for slot in used {
            let record = self.records.get(slot);
            record.lost.store(true, SeqCst);
            record.notify();
        }
        for slot in parked {
            self.release_slot(slot);
        }
        // SAFETY: an eventfd write of 8 bytes from 8 bytes.
        unsafe { libc::write(stub.done.as_raw_fd(), (&raw const DEAD).cast(), 8) };
        if stub.place != 0 {
            // Whoever is telling it something has heard of its death before the page is another's.
            let _agent = stub.agent.lock();
            self.regions.discard_command(stub.place);
            self.places.lock().free.push(stub.place);
        }
    }
}

impl Stub {
    fn new(pid: i32, place: usize, done: OwnedFd) -> Stub {
        Stub {
            pid,
            place,
            done,
            agent: Mutex::default(),
            threads: Mutex::default(),
            dead: AtomicBool::new(false),
            condemned: AtomicBool::new(false),
        }
    }

    /// Has the agent carry out a batch of at most [`BATCH`] commands in order, up to the first that fails; waits.
    pub fn run(&self, shared: &Shared, batch: &[Command]) -> Result<(), Errno> {
        let mut agent = self.agent.lock();
        if self.dead.load(SeqCst) {
            return Err(Errno::ESRCH);
        }
        if let Some(worker) = executor::current_worker() {
            self.bind_agent(shared, &mut agent, worker);
        }
        let page = shared.regions.command(self.place);
        for (words, command) in page.commands.iter().zip(batch) {
            for (word, value) in words.iter().zip(command) {
                word.store(*value, Relaxed);
            }
        }
        page.count.store(batch.len().min(BATCH) as u32, Relaxed);
        agent.sequence = agent.sequence.wrapping_add(1);
        page.sequence.store(agent.sequence, SeqCst);
        futex_wake(&page.sequence);
        self.wait()
    }

    fn bind_agent(&self, shared: &Shared, agent: &mut Agent, worker: usize) {
        if agent.bound != Some(worker)
            && let Some(cpu) = shared.cpus.get(worker)
        {
            pin_thread(self.pid, *cpu);
            agent.bound = Some(worker);
        }
    }

    /// Has the agent run on a worker's CPU.
    fn bind(&self, shared: &Shared, worker: usize) {
        self.bind_agent(shared, &mut self.agent.lock(), worker);
    }

    /// Waits until the reaper has said that it is dead. Nobody else tells the agent anything any more.
    fn wait_for_death(&self) {
        // What is read before that is the completion of a batch that nobody waited for.
        while !self.dead.load(SeqCst) {
            if self.wait() == Err(Errno::ESRCH) {
                break;
            }
        }
    }

    /// Waits for the agent's completion.
    fn wait(&self) -> Result<(), Errno> {
        let mut value = 0_u64;
        loop {
            // SAFETY: an eventfd read of 8 bytes into 8 bytes.
            let read = unsafe { libc::read(self.done.as_raw_fd(), (&raw mut value).cast(), 8) };
            if read == 8 {
                break;
            }
            let errno = Errno::last();
            if errno != Errno::EINTR {
                return Err(errno);
            }
        }
        if value & DEAD != 0 {
            // For whoever waits next, too.
            // SAFETY: an eventfd write of 8 bytes from 8 bytes.
            unsafe { libc::write(self.done.as_raw_fd(), (&raw const DEAD).cast(), 8) };
            return Err(Errno::ESRCH);
        }
        match (value >> 32) & 0xffff {
            0 => Ok(()),
            errno => Err(Errno::new(errno as i32)),
        }
    }

    /// A thread of it that is not in use, which is so from now on.
    pub fn take_thread(&self, shared: &Shared) -> Result<usize, Errno> {
        {
            let mut threads = self.threads.lock();
            if threads.dead {
                return Err(Errno::ESRCH);
            }
            // One that was dropped while it ran may run still.
            let stopped = |slot: &usize| shared.records.get(*slot).fresh.load(Acquire) || shared.settled(*slot);
            if let Some(index) = threads.parked.iter().position(stopped) {
                let slot = threads.parked.swap_remove(index);
                threads.used.push(slot);
                return Ok(slot);
            }
        }
        let slot = shared.make_thread(self, None)?;
        let mut threads = self.threads.lock();
        if threads.dead {
            drop(threads);
            shared.release_slot(slot);
            return Err(Errno::ESRCH);
        }
        threads.used.push(slot);
        Ok(slot)
    }

    /// Gives a thread back.
    pub fn park(&self, shared: &Shared, slot: usize) {
        let mut threads = self.threads.lock();
        threads.used.retain(|used| *used != slot);
        if threads.dead {
            drop(threads);
            shared.release_slot(slot);
        } else {
            shared.settled(slot);
            threads.parked.push(slot);
        }
    }

    /// Keeps a slot that has no thread until the stub is gone.
    fn park_nothing(&self, shared: &Shared, slot: usize) {
        let mut threads = self.threads.lock();
        if threads.dead {
            drop(threads);
            shared.release_slot(slot);
        } else {
            // In use by nobody, for ever; released by `died` with the used ones' owners gone: so as a parked one that never stops.
            shared.records.get(slot).fresh.store(false, Relaxed);
            threads.parked.push(slot);
        }
    }

    /// Ends the host process. Its contexts become [`crate::platform::Event::Lost`].
    pub fn kill(&self) {
        self.condemned.store(true, SeqCst);
        if !self.dead.load(SeqCst) {
            // SAFETY: plain system call. The pid is that of a child which is not reaped yet (or is being reaped: then the number
            // is not in use again so soon).
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
    }
}

/// Binds a thread of a stub to a host CPU, if it is one: a guest may have forged the number.
pub fn pin_stub_thread(pid: i32, tid: i32, cpu: u32) -> bool {
    // SAFETY: signal 0 only asks whether the thread is in the process.
    let genuine = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) == 0 };
    if genuine {
        pin_thread(tid, cpu);
    }
    genuine
}

fn eventfd() -> Result<OwnedFd, Errno> {
    // SAFETY: plain system call; the result is checked and owned by nobody else.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
        if fd < 0 { Err(Errno::last()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// The reaper's thread: sleeps until a stub dies.
fn reap(shared: &Weak<Shared>) {
    executor::unpin_thread();
    loop {
        // SAFETY: siginfo_t is plain data, and valid to write to.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED), info)
        };
        if result != 0 {
            if Errno::last() == Errno::EINTR {
                continue;
            }
            return;
        }
        // SAFETY: waitid filled in the fields of SIGCHLD.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        let how = match info.si_code {
            libc::CLD_EXITED => format!("exit status {status}"),
            _ => format!("signal {status}"),
        };
        match shared.upgrade() {
            Some(shared) => shared.died(pid, &how),
            None => return,
        }
    }
}
