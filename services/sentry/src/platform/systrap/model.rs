//! The hand-over of a context page between a guest's host thread, the worker that serves it and those who interrupt it, under a model
//! checker: it tries all ways in which they can interleave (with a few preemptions) and all values that a read may see.
//!
//! The guest's side is assembly, so this is a model of the code, not the code. Each step says which line it stands for: a number or a
//! label of `code.rs`, a function of `context.rs`. The checker takes sequentially consistent accesses for acquire and release only; where
//! the code has them a fence stands here, and one beside each locked instruction, which is one. Nothing sleeps for a time: a wake-up, a post
//! or an interrupt that is lost is a deadlock.
//!
//! Not modelled: what the extended state is ([`super::layout::LOAD`] goes the way that GO_ON goes), how a post finds its worker
//! (`crate::executor`'s own model), forgeries.

use std::sync::Arc;

use loom::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::SeqCst, fence},
    },
    thread,
};

use super::layout::{
    GO_ON, POSTED, RUNNING, SAVE, SLEEPING, STOP_FULLY, STOPPED_BY_SIGNAL, STOPPED_IN_THUNK, STOPPED_RETURNING, STOPPED_SAVED,
};

/// Signals, as far as they matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Signal {
    /// [`super::layout::INTERRUPT`].
    Interrupt,
    /// What `hlt` raises.
    Fault,
}

/// What the worker hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Syscall(u32),
    Interrupted,
}

/// What the kernel knows of the host thread.
#[derive(Default)]
struct Host {
    /// An interrupt was sent and not delivered yet.
    pending: bool,
    /// Counts wake-ups of the state word.
    wakes: u32,
}

/// A context page, the sentry's record of it, and the host thread.
struct Page {
    state: AtomicU32,
    kind: AtomicU32,
    next: AtomicU32,
    signal: AtomicU32,
    /// How often the thread looks for the answer before it tells the worker that it stopped.
    spins: AtomicU32,
    /// All registers of a stop in a thunk.
    general: AtomicU32,
    /// All registers of a stop by a signal.
    frame: AtomicU32,
    /// The record.
    running: AtomicBool,
    interrupt: AtomicBool,
    waker: Mutex<bool>,
    /// The worker's task was woken.
    woken: (Mutex<bool>, Condvar),
    host: (Mutex<Host>, Condvar),
}

fn load(word: &AtomicU32) -> u32 {
    fence(SeqCst);
    word.load(SeqCst)
}

fn exchange(word: &AtomicU32, value: u32) -> u32 {
    fence(SeqCst);
    let old = word.swap(value, SeqCst);
    fence(SeqCst);
    old
}

impl Page {
    fn new() -> Arc<Page> {
        Arc::new(Page {
            state: AtomicU32::new(RUNNING),
            kind: AtomicU32::new(STOPPED_BY_SIGNAL),
            next: AtomicU32::new(GO_ON),
            signal: AtomicU32::new(0),
            spins: AtomicU32::new(0),
            general: AtomicU32::new(0),
            frame: AtomicU32::new(0),
            running: AtomicBool::new(true),
            interrupt: AtomicBool::new(false),
            waker: Mutex::new(false),
            woken: (Mutex::new(false), Condvar::new()),
            host: (Mutex::new(Host::default()), Condvar::new()),
        })
    }
}

/// The kernel.
impl Page {
    /// FUTEX_WAKE on the state word.
    fn futex_wake(&self) {
        self.host.0.lock().unwrap().wakes += 1;
        self.host.1.notify_one();
    }

    /// FUTEX_WAIT on the state word; a signal that is not blocked ends it, too.
    fn futex_wait(&self, expected: u32, interruptible: bool) {
        let mut host = self.host.0.lock().unwrap();
        if self.state.load(Relaxed) != expected {
            return;
        }
        let wakes = host.wakes;
        while host.wakes == wakes && !(interruptible && host.pending) {
            host = self.host.1.wait(host).unwrap();
        }
    }

    /// tgkill(2).
    fn send_interrupt(&self) {
        self.host.0.lock().unwrap().pending = true;
        self.host.1.notify_one();
    }

    /// Whether an interrupt arrives here.
    fn takes_interrupt(&self) -> bool {
        std::mem::take(&mut self.host.0.lock().unwrap().pending)
    }

    fn compute_until_interrupted(&self) {
        let mut host = self.host.0.lock().unwrap();
        while !host.pending {
            host = self.host.1.wait(host).unwrap();
        }
    }
}

/// The host thread.
impl Page {
    /// `bulkhead_stub_post`: by looking for the answer, as often as it was told; then as below. An interrupt between looks is seen by the
    /// next thing that the caller does.
    fn post(&self) {
        for _ in 0..self.spins.load(Relaxed) {
            if self.state.load(Relaxed) == RUNNING {
                return;
            }
            if self.spins.load(Relaxed) == 0 {
                break;
            }
            thread::yield_now();
        }
        self.tell();
    }

    /// `44`, and what the worker does that drains it.
    fn tell(&self) {
        fence(SeqCst);
        if std::mem::take(&mut *self.waker.lock().unwrap()) {
            *self.woken.0.lock().unwrap() = true;
            self.woken.1.notify_one();
        }
    }

    /// `33`.
    fn post_from_handler(&self, kind: u32, signal: Signal) {
        self.kind.store(kind, Relaxed);
        self.signal.store(signal as u32, Relaxed);
        exchange(&self.state, POSTED);
        self.post();
    }

    /// `2` to `3`, in a handler: nothing interrupts it.
    fn wait_in_handler(&self) {
        loop {
            fence(SeqCst);
            match self.state.compare_exchange(POSTED, SLEEPING, SeqCst, SeqCst) {
                Err(RUNNING) => break,
                _ => self.futex_wait(SLEEPING, false),
            }
        }
    }

    /// `30`: a signal in guest code. Gives the registers it goes on with.
    fn stop_by_signal(&self, signal: Signal, registers: u32) -> u32 {
        self.frame.store(registers, Relaxed);
        self.post_from_handler(STOPPED_BY_SIGNAL, signal);
        self.wait_in_handler();
        // `35`.
        self.frame.load(Relaxed)
    }

    /// `37`: a signal after the release, before the guest is back. Gives the registers it goes on with.
    fn stop_returning(&self, signal: Signal) -> u32 {
        self.post_from_handler(STOPPED_RETURNING, signal);
        self.wait_in_handler();
        self.frame.load(Relaxed)
    }

    /// The handler, where it interrupted the code that thunks run behind the post: whether it was released before.
    fn released_when_interrupted(&self) -> bool {
        self.takes_interrupt() && self.state.load(Relaxed) == RUNNING
    }

    /// `bulkhead_stub_thunk`: a call. Gives the registers it goes on with.
    fn call(&self, registers: u32) -> u32 {
        self.general.store(registers, Relaxed);
        let mut kind = STOPPED_IN_THUNK;
        loop {
            // `39`. Before the post an interrupt is forgotten (`32`).
            self.kind.store(kind, Relaxed);
            let _forgotten = self.takes_interrupt();
            exchange(&self.state, POSTED);
            if self.released_when_interrupted() {
                return self.stop_returning(Signal::Interrupt);
            }
            self.post();
            loop {
                if self.released_when_interrupted() {
                    return self.stop_returning(Signal::Interrupt);
                }
                fence(SeqCst);
                match self.state.compare_exchange(POSTED, SLEEPING, SeqCst, SeqCst) {
                    Err(RUNNING) => break,
                    _ => self.futex_wait(SLEEPING, true),
                }
            }
            // `4`.
            match self.next.load(Relaxed) {
                STOP_FULLY => return self.stop_returning(Signal::Fault),
                SAVE => kind = STOPPED_SAVED,
                _ => break,
            }
        }
        if self.released_when_interrupted() {
            return self.stop_returning(Signal::Interrupt);
        }
        self.general.load(Relaxed)
    }

    /// Guest code that runs until it is interrupted. Gives the registers it goes on with.
    fn compute(&self, registers: u32) -> u32 {
        self.compute_until_interrupted();
        let interrupted = self.takes_interrupt();
        assert!(interrupted);
        self.stop_by_signal(Signal::Interrupt, registers)
    }
}

fn in_thunk(kind: u32) -> bool {
    kind == STOPPED_IN_THUNK || kind == STOPPED_SAVED
}

/// The worker's task, and others in the sentry.
struct Worker {
    page: Arc<Page>,
    at_once: bool,
    in_thunk: bool,
}

impl Worker {
    fn new(page: &Arc<Page>) -> Worker {
        Worker { page: page.clone(), at_once: false, in_thunk: false }
    }

    /// `Context::release`.
    fn release(&self) {
        if exchange(&self.page.state, RUNNING) == SLEEPING {
            self.page.futex_wake();
        }
        if self.page.interrupt.load(SeqCst) {
            self.page.send_interrupt();
        }
    }

    /// `Context::resume`.
    fn resume(&mut self, registers: u32) {
        self.page.running.store(true, SeqCst);
        fence(SeqCst);
        if self.page.interrupt.swap(false, SeqCst) {
            self.page.running.store(false, SeqCst);
            self.at_once = true;
            return;
        }
        if self.in_thunk {
            self.page.general.store(registers, Relaxed);
            self.page.next.store(GO_ON, Relaxed);
        } else {
            self.page.frame.store(registers, Relaxed);
        }
        self.release();
    }

    /// `Context::save` (SAVE) and `Context::complete` (STOP_FULLY): other stops of the same call.
    fn go_for(&mut self, next: u32) {
        while self.in_thunk && (next == STOP_FULLY || self.page.kind.load(Relaxed) == STOPPED_IN_THUNK) {
            self.page.running.store(true, SeqCst);
            self.page.next.store(next, Relaxed);
            self.release();
            self.wait_until(|page| (load(&page.state) != RUNNING).then_some(()));
            self.page.running.store(false, SeqCst);
            self.in_thunk = in_thunk(self.page.kind.load(Relaxed));
        }
    }

    /// `poll_fn` around a look: look, leave the waker, look again, sleep.
    fn wait_until<T>(&self, mut look: impl FnMut(&Page) -> Option<T>) -> T {
        loop {
            if let Some(found) = look(&self.page) {
                return found;
            }
            *self.page.waker.lock().unwrap() = true;
            if load(&self.page.state) != RUNNING {
                continue;
            }
            let mut woken = self.page.woken.0.lock().unwrap();
            while !*woken {
                woken = self.page.woken.1.wait(woken).unwrap();
            }
            *woken = false;
        }
    }

    /// `Shared::adopt`: from now on the thread looks for the answers, so often each time.
    fn watch(&self, looks: u32) {
        self.page.spins.store(looks, SeqCst);
        fence(SeqCst);
    }

    /// `Waiting::spin`, as often, and `Waiting::ended`: whether the thread stopped meanwhile.
    fn spin(&self, looks: u32) -> bool {
        for _ in 0..looks {
            if self.page.state.load(Acquire) != RUNNING {
                return true;
            }
            thread::yield_now();
        }
        self.page.spins.store(0, SeqCst);
        fence(SeqCst);
        false
    }

    /// `Context::poll_event`.
    fn event(&mut self) -> Event {
        if std::mem::take(&mut self.at_once) {
            return Event::Interrupted;
        }
        let page = self.page.clone();
        loop {
            self.wait_until(|page| (load(&page.state) != RUNNING).then_some(()));
            // `Context::look`.
            let kind = page.kind.load(Relaxed);
            self.in_thunk = in_thunk(kind);
            let interrupted = !self.in_thunk && page.signal.load(Relaxed) == Signal::Interrupt as u32;
            let found = if kind == STOPPED_BY_SIGNAL { page.frame.load(Relaxed) } else { page.general.load(Relaxed) };
            if interrupted && !page.interrupt.swap(false, SeqCst) {
                if kind == STOPPED_RETURNING {
                    page.frame.store(found, Relaxed);
                }
                self.release();
                continue;
            }
            page.running.store(false, SeqCst);
            if interrupted {
                return Event::Interrupted;
            }
            return Event::Syscall(found);
        }
    }
}

/// `Interrupter::interrupt`.
fn interrupt(page: &Page) {
    // An exchange, as a sequentially consistent store is one on this machine; the checker would let a later exchange miss a mere store.
    page.interrupt.swap(true, SeqCst);
    fence(SeqCst);
    if page.running.load(SeqCst) && load(&page.state) == RUNNING {
        page.send_interrupt();
    }
}

fn check(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

#[test]
fn a_call_and_its_answer_arrive_whole() {
    check(3, || {
        let page = Page::new();
        let guest = page.clone();
        let host = thread::spawn(move || {
            assert_eq!(guest.call(1), 101);
            assert_eq!(guest.call(2), 102);
            guest.stop_by_signal(Signal::Fault, 3)
        });
        let mut worker = Worker::new(&page);
        for call in 1..=2 {
            assert_eq!(worker.event(), Event::Syscall(call));
            worker.resume(100 + call);
        }
        assert_eq!(worker.event(), Event::Syscall(3));
        worker.resume(103);
        assert_eq!(host.join().unwrap(), 103);
    });
}

#[test]
fn a_thread_that_was_watched_is_heard_of_when_nobody_watches_any_more() {
    check(2, || {
        let page = Page::new();
        let guest = page.clone();
        let host = thread::spawn(move || {
            assert_eq!(guest.call(1), 101);
            assert_eq!(guest.call(2), 102);
        });
        let mut worker = Worker::new(&page);
        assert_eq!(worker.event(), Event::Syscall(1));
        worker.watch(2);
        worker.resume(101);
        worker.spin(2);
        assert_eq!(worker.event(), Event::Syscall(2));
        worker.resume(102);
        host.join().unwrap();
    });
}

/// A guest that calls and then computes until its registers say that it may end; the last that is heard of it is 7.
fn calls_and_computes(page: &Page) {
    let mut registers = page.call(1);
    while registers == 101 {
        registers = page.compute(registers);
    }
    assert_eq!(registers, 200);
    if page.takes_interrupt() {
        assert_eq!(page.stop_by_signal(Signal::Interrupt, 200), 200);
    }
    page.frame.store(7, Relaxed);
    page.post_from_handler(STOPPED_BY_SIGNAL, Signal::Fault);
}

/// One wish, at any time, while the guest calls and computes: the worker hears of it once, after the call.
fn interrupted(preemptions: usize, first: Option<u32>, watched: bool) {
    check(preemptions, move || {
        let page = Page::new();
        let (guest, other) = (page.clone(), page.clone());
        let host = thread::spawn(move || calls_and_computes(&guest));
        let interrupter = thread::spawn(move || interrupt(&other));
        let mut worker = Worker::new(&page);
        assert_eq!(worker.event(), Event::Syscall(1));
        if let Some(next) = first {
            worker.go_for(next);
        }
        if watched {
            worker.watch(1);
        }
        worker.resume(101);
        if watched {
            worker.spin(1);
        }
        assert_eq!(worker.event(), Event::Interrupted);
        worker.resume(200);
        assert_eq!(worker.event(), Event::Syscall(7));
        host.join().unwrap();
        interrupter.join().unwrap();
    });
}

#[test]
fn a_wish_to_interrupt_is_fulfilled_whenever_it_comes() {
    interrupted(2, None, false);
}

#[test]
fn a_wish_to_interrupt_is_fulfilled_also_when_the_stop_is_made_a_full_one() {
    interrupted(1, Some(STOP_FULLY), false);
}

#[test]
fn a_wish_to_interrupt_is_fulfilled_also_while_a_worker_watches() {
    interrupted(1, None, true);
}

#[test]
fn a_wish_to_interrupt_is_fulfilled_also_when_the_extended_state_is_saved() {
    interrupted(1, Some(SAVE), false);
}

/// The checker does find a lost interrupt: here the worker looks for the wish before it sets the thread free.
#[test]
#[should_panic(expected = "deadlock")]
fn a_worker_that_looks_for_a_wish_too_early_loses_it() {
    check(2, || {
        let page = Page::new();
        let (guest, other) = (page.clone(), page.clone());
        let host = thread::spawn(move || calls_and_computes(&guest));
        let interrupter = thread::spawn(move || interrupt(&other));
        let mut worker = Worker::new(&page);
        assert_eq!(worker.event(), Event::Syscall(1));
        page.running.store(true, SeqCst);
        if !page.interrupt.swap(false, SeqCst) {
            page.general.store(101, Relaxed);
            if exchange(&page.state, RUNNING) == SLEEPING {
                page.futex_wake();
            }
            assert_eq!(worker.event(), Event::Interrupted);
        }
        worker.resume(200);
        assert_eq!(worker.event(), Event::Syscall(7));
        host.join().unwrap();
        interrupter.join().unwrap();
    });
}
