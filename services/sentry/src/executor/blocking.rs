//! A small pool of threads for host calls that may sleep on a disk.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

/// Threads at most.
const THREADS: usize = 4;
/// An idle thread ends after this time.
const IDLE: Duration = Duration::from_secs(10);
/// What is run here is a host call and little around it.
const STACK: usize = 256 * 1024;

type Work = Box<dyn FnOnce() + Send>;

struct Pool {
    state: Mutex<State>,
    more: Condvar,
}

struct State {
    work: VecDeque<Work>,
    threads: usize,
    idle: usize,
}

static POOL: Pool = Pool { state: Mutex::new(State { work: VecDeque::new(), threads: 0, idle: 0 }), more: Condvar::new() };

/// Gives work to the pool; whoever needs to know when it is done says so in the work.
pub(crate) fn submit(work: Work) {
    let mut state = POOL.state.lock();
    state.work.push_back(work);
    if state.idle >= state.work.len() {
        POOL.more.notify_one();
    } else if state.threads < THREADS {
        state.threads += 1;
        if std::thread::Builder::new().name("blocking".into()).stack_size(STACK).spawn(serve).is_err() {
            state.threads -= 1;
            if state.threads == 0 {
                // No thread can be had: better slowly here than never.
                let work = std::mem::take(&mut state.work);
                drop(state);
                work.into_iter().for_each(|work| work());
            }
        }
    }
}

fn serve() {
    super::unpin_thread();
    let mut state = POOL.state.lock();
    loop {
        if let Some(work) = state.work.pop_front() {
            drop(state);
            work();
            state = POOL.state.lock();
            continue;
        }
        state.idle += 1;
        let timeout = POOL.more.wait_for(&mut state, IDLE).timed_out();
        state.idle -= 1;
        if timeout && state.work.is_empty() {
            state.threads -= 1;
            return;
        }
    }
}

enum Progress<T> {
    Working(Option<Waker>),
    Done(T),
    Taken,
}

/// Runs `work`, which may sleep on the host (a disk), on a small pool of threads. It goes on when the future is dropped.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let progress = Arc::new(Mutex::new(Progress::Working(None)));
    let theirs = progress.clone();
    submit(Box::new(move || {
        let result = work();
        let before = std::mem::replace(&mut *theirs.lock(), Progress::Done(result));
        if let Progress::Working(Some(waker)) = before {
            waker.wake();
        }
    }));
    poll_fn(move |cx| {
        let mut progress = progress.lock();
        match &mut *progress {
            Progress::Working(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => match std::mem::replace(&mut *progress, Progress::Taken) {
                Progress::Done(result) => Poll::Ready(result),
                _ => Poll::Pending,
            },
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Executor;

    #[test]
    fn more_work_than_threads_is_all_done() {
        let done: u32 = Executor::block_on(async {
            let mut sum = 0;
            for n in 0..20 {
                sum += blocking(move || n).await;
            }
            sum
        });
        assert_eq!(done, 190);
    }
}
