//! Time: clocks, interval timers, POSIX timers. Times are nanoseconds in `u64`; what does not fit saturates.

mod clock;
pub mod posix;
mod process;
mod schedule;
mod values;

pub use clock::{Clock, CpuKind};
pub use process::{IntervalKind, ProcessTimers};
pub use schedule::Schedule;
pub use values::{RawItimerSpec, RawItimerVal, RawTimespec, RawTimeval, SECOND, read_timespec, read_timeval};
