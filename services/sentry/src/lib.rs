//! The sentry answers a container's system calls. It owns tasks and memory, signals, futexes, time, fd tables and every file
//! that is not on a mount (pipes, eventfds, terminals, /proc); for files on mounts it asks vfs.
//!
//! Data flows one way: trap ([`platform`]) → table ([`syscalls`]) → handler → kernel object ([`task`], [`memory`], [`fs`],
//! [`signal`]) → platform.
//!
//! Lock order, outermost first: pid table, process, task, fd table, open file, address space, memory file, platform. No lock is
//! held across an `.await`.

pub mod abi;
pub mod debug;
mod executions;
pub mod executor;
pub mod fs;
pub mod futex;
pub mod kernel;
pub mod loader;
pub mod memory;
pub mod platform;
pub mod procfs;
pub mod server;
pub mod signal;
pub mod socket;
pub mod syscalls;
pub mod task;
pub mod time;
pub mod trace;
pub mod tty;

pub use bulkhead_ipc::Errno;
