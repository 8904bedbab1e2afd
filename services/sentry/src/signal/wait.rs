//! Waits that a signal ends.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use bulkhead_ipc::Errno;

use crate::{executor, task::Task};

impl Task {
    /// Whether a signal waits that would be delivered now, or the thread is to exit or stop.
    pub fn has_pending_signal(&self) -> bool {
        self.signals.attention()
    }

    /// Waits for `future`, or for a signal: `Err(ERESTARTSYS)` then (callers map it to the right restart code).
    pub async fn interruptible<T>(&self, future: impl Future<Output = T>) -> Result<T, Errno> {
        self.unless(future, Task::has_pending_signal).await.ok_or(Errno::ERESTARTSYS)
    }

    /// As `interruptible`, with a deadline in executor time (`None` waits for ever): `Ok(None)` when it passed.
    pub async fn interruptible_until<T>(
        &self,
        deadline: Option<u64>,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, Errno> {
        let Some(deadline) = deadline else { return self.interruptible(future).await.map(Some) };
        let mut future = pin!(future);
        let mut sleep = pin!(executor::sleep_until(deadline));
        self.interruptible(poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
            sleep.as_mut().poll(cx).map(|()| None)
        }))
        .await
    }

    /// Waits for `future` unless the thread is to end (vfork and the like, which no other signal interrupts): `Err(EINTR)` then.
    pub async fn killable<T>(&self, future: impl Future<Output = T>) -> Result<T, Errno> {
        let ends = |task: &Task| task.signals.is_ending() || task.process.signals.exit_status().is_some();
        self.unless(future, ends).await.ok_or(Errno::EINTR)
    }

    /// Polls `future`; when it is not ready and `stop` holds, gives up. A kick has it polled again.
    async fn unless<T>(&self, future: impl Future<Output = T>, stop: impl Fn(&Task) -> bool) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
            self.signals.set_waker(cx.waker());
            if stop(self) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}
