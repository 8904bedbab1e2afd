//! The gofer: the only service that can reach files of the host.
//!
//! It is handed directories (and single files) of the host as `O_PATH` fds of detached mounts, its *roots*, and serves what
//! lies beneath them to one client, vfs. It keeps no cache and no opinion: who in the guest may do what is checked by vfs, what
//! a path means (symbolic links, `..`, mounts) is interpreted by vfs. The gofer only makes sure that nothing outside the roots
//! can be named, that a read-only root stays as it is, and that what it donates is a regular file.
//!
//! | module | what it owns |
//! |---|---|
//! | [`roots`] | the roots |
//! | [`files`] | handles, and what can be done with them |
//! | [`server`] | messages in, messages out |
//! | [`debug`] | what its debug socket answers |
//! | [`host`] | the host's system calls; the only unsafe code |
//!
//! `policy.seccomp` is what it may ask of the host.
//!
//! **Invariants.** Every fd in the handle table was opened from a root, one component at a time, with `RESOLVE_BENEATH`, without
//! following any symbolic link. No component contains a slash or is `.` or `..` (the decoder sees to it, see
//! `bulkhead_ipc::gofer`). `/proc` is not there: nothing is reopened by path.

pub mod debug;
pub mod files;
pub mod host;
pub mod roots;
pub mod server;
