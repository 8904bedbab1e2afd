//! eventfd(2): a counter that can be waited for.

use std::{any::Any, sync::Arc};

use bulkhead_ipc::{Errno, vfs::Attributes};
use parking_lot::Mutex;

use super::{FileOps, Offset, OpenFile, UserBuffers, anonymous};
use crate::{
    executor::{Readiness, WaitQueue},
    task::Thread,
};

/// The counter's highest value.
const MOST: u64 = u64::MAX - 1;
const SIZE: usize = size_of::<u64>();

/// An eventfd.
pub struct EventFd {
    count: Mutex<u64>,
    /// EFD_SEMAPHORE: a read takes one.
    semaphore: bool,
    queue: Arc<WaitQueue>,
}

impl EventFd {
    /// Starts at `count`.
    pub fn new(count: u64, semaphore: bool) -> EventFd {
        EventFd { count: Mutex::new(count), semaphore, queue: Arc::new(WaitQueue::new()) }
    }

    /// Takes all, or one of a semaphore; EAGAIN when there is none.
    fn take(&self) -> Result<u64, Errno> {
        let taken = {
            let mut count = self.count.lock();
            let taken = if self.semaphore { (*count).min(1) } else { *count };
            *count -= taken;
            taken
        };
        if taken == 0 {
            return Err(Errno::EAGAIN);
        }
        self.queue.wake(Readiness::OUT | Readiness::WRNORM);
        Ok(taken)
    }

    /// Adds; EAGAIN when the counter cannot take so much.
    fn add(&self, value: u64) -> Result<(), Errno> {
        {
            let mut count = self.count.lock();
            if value > MOST {
                return Err(Errno::EINVAL);
            }
            if MOST - *count < value {
                return Err(Errno::EAGAIN);
            }
            *count += value;
        }
        self.queue.wake(Readiness::IN | Readiness::RDNORM);
        Ok(())
    }
}

impl FileOps for EventFd {
    fn read(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        if buffers.remaining() < SIZE {
            return Err(Errno::EINVAL);
        }
        let taken = self.take()?;
        buffers.put(&taken.to_le_bytes())
    }
    fn write(&self, _: &OpenFile, buffers: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        if buffers.remaining() < SIZE {
            return Err(Errno::EINVAL);
        }
        let (mut bytes, start) = ([0; SIZE], buffers.done);
        if buffers.take(&mut bytes)? < SIZE {
            return Err(Errno::EFAULT);
        }
        let result = self.add(u64::from_le_bytes(bytes));
        if result.is_err() {
            // A blocking write tries again with the same bytes.
            buffers.done = start;
        }
        result.map(|()| SIZE)
    }
    fn poll(&self, _: &OpenFile) -> Readiness {
        let count = *self.count.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN | Readiness::RDNORM, count > 0);
        ready.set(Readiness::OUT | Readiness::WRNORM, count < MOST);
        ready
    }
    fn wait_queue(&self) -> Option<&Arc<WaitQueue>> {
        Some(&self.queue)
    }
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(anonymous::attributes())
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventfd]".to_vec()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_gives_all_and_a_semaphore_one_at_a_time() {
        let counter = EventFd::new(3, false);
        assert_eq!(counter.take(), Ok(3));
        assert_eq!(counter.take(), Err(Errno::EAGAIN));
        let semaphore = EventFd::new(2, true);
        assert_eq!((semaphore.take(), semaphore.take()), (Ok(1), Ok(1)));
        assert_eq!(semaphore.take(), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_counter_does_not_overflow() {
        let counter = EventFd::new(5, false);
        assert_eq!(counter.add(u64::MAX), Err(Errno::EINVAL));
        assert_eq!(counter.add(MOST - 5), Ok(()));
        assert_eq!(counter.add(1), Err(Errno::EAGAIN));
        assert_eq!(counter.take(), Ok(MOST));
    }
}
