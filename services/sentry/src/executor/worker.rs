//! Workers: one pinned thread per CPU with a run queue, a slot for the task that was woken last, deadlines, and the guest
//! threads that post to it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use async_task::Runnable;
use parking_lot::Mutex;

use super::{
    clock,
    futex::{futex_wait_until, futex_wake},
    sleep,
    timer::Deadlines,
};

/// Where guest threads post that they stopped.
pub(crate) trait Posts: Send + Sync {
    /// The word on which this worker sleeps: 1 while it sleeps. Posters set it to 0 and wake. Guests can write it, so it is
    /// only a hint: the worker looks by itself when [`Posts::next_look`] says so.
    fn sleeping(&self, worker: usize) -> &AtomicU32;
    /// Whether anybody has posted to this worker.
    fn any(&self, worker: usize) -> bool;
    /// Wakes the tasks of those who posted to this worker.
    fn drain(&self, worker: usize);
    /// The worker is about to sleep: when it must look again though nobody woke it.
    fn next_look(&self, worker: usize) -> Option<u64>;
    /// That time has come.
    fn look(&self, worker: usize);
    /// A task's poll on this worker is over.
    fn after_turn(&self, worker: usize);
}

struct Configuration {
    cpus: Vec<u32>,
    posts: Option<Arc<dyn Posts>>,
}

static CONFIGURATION: OnceLock<Configuration> = OnceLock::new();
static WORKERS: OnceLock<Workers> = OnceLock::new();

struct Workers {
    all: Vec<Worker>,
    posts: Option<Arc<dyn Posts>>,
}

/// Tasks that wait for their turn.
#[derive(Default)]
struct Queue {
    tasks: Mutex<VecDeque<Runnable>>,
    /// How many, for a look without the lock.
    length: AtomicUsize,
}

impl Queue {
    fn push(&self, runnable: Runnable) {
        let mut tasks = self.tasks.lock();
        tasks.push_back(runnable);
        self.length.store(tasks.len(), Ordering::SeqCst);
    }

    fn pop(&self) -> Option<Runnable> {
        if self.is_empty() {
            return None;
        }
        let mut tasks = self.tasks.lock();
        let first = tasks.pop_front();
        self.length.store(tasks.len(), Ordering::SeqCst);
        first
    }

    fn is_empty(&self) -> bool {
        self.length.load(Ordering::SeqCst) == 0
    }
}

#[derive(Default)]
struct Worker {
    queue: Queue,
    deadlines: Deadlines,
    /// Whether it sleeps, for those inside the sentry: guests cannot reach this one.
    asleep: AtomicBool,
    /// Its futex word when there is no platform.
    own_word: AtomicU32,
}

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
    /// The task woken last by what runs on this worker: polled next, because it shares the cache and the CPU with its waker.
    static NEXT: RefCell<Option<Runnable>> = const { RefCell::new(None) };
    /// Counts the polls of tasks on this worker.
    static TURN: Cell<u64> = const { Cell::new(0) };
    /// While posts are drained, woken tasks queue up in order.
    static IN_ORDER: Cell<bool> = const { Cell::new(false) };
}

/// After so many tasks from the slot in a row the queue has its turn.
const SLOT_TURNS: u32 = 16;

/// What to run on; once, before the first task. `false` when workers run already.
pub(crate) fn configure(cpus: &[u32], posts: Arc<dyn Posts>) -> bool {
    clock::start();
    CONFIGURATION.set(Configuration { cpus: cpus.to_vec(), posts: Some(posts) }).is_ok()
}

fn configuration() -> &'static Configuration {
    CONFIGURATION.get_or_init(|| Configuration { cpus: Vec::new(), posts: None })
}

fn workers() -> &'static Workers {
    let mut first = false;
    let workers = WORKERS.get_or_init(|| {
        first = true;
        let configuration = configuration();
        Workers {
            all: (0..configuration.cpus.len().max(1)).map(|_| Worker::default()).collect(),
            posts: configuration.posts.clone(),
        }
    });
    if first {
        for index in 0..workers.all.len() {
            let cpu = configuration().cpus.get(index).copied();
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).stack_size(1024 * 1024);
            if let Err(error) = thread.spawn(move || run(index, cpu)) {
                // Without its workers the sentry cannot do anything at all.
                tracing::error!(%error, "cannot start a worker");
                std::process::abort();
            }
        }
    }
    workers
}

pub(crate) fn current() -> Option<usize> {
    CURRENT.get()
}

/// Tells whether a task was away from its worker: two calls give the same only within one poll (of a task that stays on its
/// worker; else they may, by chance).
pub(crate) fn turn() -> u64 {
    TURN.get()
}

/// Whether a worker sleeps: nothing in the sentry needs its CPU.
pub(crate) fn asleep(worker: usize) -> bool {
    workers().all[worker].asleep.load(Ordering::Relaxed)
}

/// Whether the calling worker, `worker`, would have something to do at `time` if the task that it polls let it.
pub(crate) fn has_work(worker: usize, time: u64) -> bool {
    let workers = workers();
    let me = &workers.all[worker];
    !me.queue.is_empty()
        || me.deadlines.due_at(time)
        || NEXT.with(|next| next.borrow().is_some())
        || workers.posts.as_ref().is_some_and(|posts| posts.any(worker))
}

pub(super) fn count() -> usize {
    configuration().cpus.len().max(1)
}

pub(super) fn deadlines(worker: usize) -> &'static Deadlines {
    &workers().all[worker].deadlines
}

/// Makes a worker look around if it sleeps.
pub(crate) fn wake(index: usize) {
    let workers = workers();
    let worker = &workers.all[index];
    let word = workers.word(index);
    sleep::wake(&worker.asleep, word, || futex_wake(word));
}

pub(super) fn spawn(cpu: usize, future: impl Future<Output = ()> + Send + 'static) {
    let home = cpu.min(count() - 1);
    let (runnable, task) = async_task::spawn(future, move |runnable| schedule(runnable, home));
    task.detach();
    inject(runnable, home);
}

fn schedule(runnable: Runnable, home: usize) {
    match CURRENT.get() {
        Some(index) if IN_ORDER.get() => workers().all[index].queue.push(runnable),
        Some(index) => {
            let displaced = NEXT.with(|next| next.borrow_mut().replace(runnable));
            if let Some(displaced) = displaced {
                workers().all[index].queue.push(displaced);
            }
        }
        None => inject(runnable, home),
    }
}

fn inject(runnable: Runnable, index: usize) {
    workers().all[index].queue.push(runnable);
    if CURRENT.get() != Some(index) {
        wake(index);
    }
}

impl Workers {
    fn word(&self, index: usize) -> &AtomicU32 {
        match &self.posts {
            Some(posts) => posts.sleeping(index),
            None => &self.all[index].own_word,
        }
    }
}

/// A worker that unwinds would leave its tasks hanging for ever: end the sentry instead.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn run(index: usize, cpu: Option<u32>) {
    let _guard = AbortOnUnwind;
    CURRENT.set(Some(index));
    if let Some(cpu) = cpu {
        pin_thread(0, cpu);
    }
    let workers = WORKERS.wait();
    let me = &workers.all[index];
    let mut slot_turns = 0;
    loop {
        let mut idle = true;
        if let Some(posts) = &workers.posts
            && posts.any(index)
        {
            IN_ORDER.set(true);
            posts.drain(index);
            IN_ORDER.set(false);
        }
        idle &= !me.deadlines.run();
        // A few tasks, then look at posts and deadlines again.
        for _ in 0..8 {
            let slot = if slot_turns < SLOT_TURNS { NEXT.with(|next| next.borrow_mut().take()) } else { None };
            let runnable = match slot {
                Some(runnable) => {
                    slot_turns += 1;
                    Some(runnable)
                }
                None => {
                    slot_turns = 0;
                    let queued = me.queue.pop();
                    queued.or_else(|| NEXT.with(|next| next.borrow_mut().take()))
                }
            };
            match runnable {
                Some(runnable) => {
                    idle = false;
                    TURN.set(TURN.get().wrapping_add(1));
                    runnable.run();
                    if let Some(posts) = &workers.posts {
                        posts.after_turn(index);
                    }
                }
                None => break,
            }
        }
        if idle {
            sleep(workers, index);
        }
    }
}

fn sleep(workers: &Workers, index: usize) {
    clock::settle();
    let me = &workers.all[index];
    let word = workers.word(index);
    let look = workers.posts.as_ref().and_then(|posts| posts.next_look(index));
    if let (Some(posts), Some(look)) = (&workers.posts, look)
        && super::now() >= look
    {
        IN_ORDER.set(true);
        posts.look(index);
        IN_ORDER.set(false);
        return;
    }
    let deadline = me.deadlines.first();
    let until = match (look, deadline) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let idle = || {
        let posted = workers.posts.as_ref().is_some_and(|posts| posts.any(index));
        !posted && me.queue.is_empty() && me.deadlines.first() == deadline
    };
    sleep::sleep(&me.asleep, word, idle, || futex_wait_until(word, 1, until));
}

/// Binds a thread (0: the calling one) to a host CPU. A host that forbids it only costs speed.
pub(crate) fn pin_thread(tid: i32, cpu: u32) {
    let mut set = [0_u64; 16];
    let Some(word) = set.get_mut(cpu as usize / 64) else { return };
    *word |= 1 << (cpu % 64);
    // SAFETY: the set is valid for the length that is given.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, tid, size_of_val(&set), set.as_ptr()) };
}

/// Lets the calling thread run on any of the workers' CPUs: threads inherit the one of the worker that started them.
pub(crate) fn unpin_thread() {
    let mut set = [0_u64; 16];
    for cpu in &configuration().cpus {
        if let Some(word) = set.get_mut(*cpu as usize / 64) {
            *word |= 1 << (cpu % 64);
        }
    }
    if set != [0; 16] {
        // SAFETY: the set is valid for the length that is given.
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&set), set.as_ptr()) };
    }
}

struct Parked(std::thread::Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use crate::executor::{Executor, Readiness, WaitQueue, wait_for};

    #[test]
    fn two_tasks_hand_a_value_back_and_forth() {
        let (sender, receiver) = mpsc::channel();
        let queue = Arc::new(WaitQueue::new());
        let turn = Arc::new(parking_lot::Mutex::new(0_u32));
        for me in 0..2 {
            let (queue, turn, sender) = (queue.clone(), turn.clone(), sender.clone());
            Executor::spawn(0, async move {
                for _ in 0..1000 {
                    wait_for(&queue, Readiness::IN, || (*turn.lock() % 2 == me).then_some(())).await;
                    *turn.lock() += 1;
                    queue.wake(Readiness::IN);
                }
                sender.send(()).unwrap_or(());
            });
        }
        for _ in 0..2 {
            assert!(receiver.recv_timeout(std::time::Duration::from_secs(20)).is_ok());
        }
        assert_eq!(*turn.lock(), 2000);
    }
}
