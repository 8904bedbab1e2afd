//! vfs: the service that knows what a sandbox's files are called, who may do what with them, and where they are.
//!
//! It owns the mount tree, the names, the inodes, the writable layer in memory, and file locks. It touches no file's data: it
//! donates fds, its own memfds or those that the gofer gave it, and the sentry reads, writes and maps them.
//!
//! | module | what it owns |
//! |---|---|
//! | [`server`] | messages in, messages out |
//! | [`debug`] | what its debug socket answers |
//! | [`operations`] | the requests |
//! | [`walk`] | paths: symbolic links, `..`, mounts, permissions to search |
//! | [`permissions`] | who may do what |
//! | [`mounts`] | the mount table |
//! | [`tree`] | file systems: names and inodes, in memory, over a lower layer, or on the host |
//! | [`locks`] | advisory locks |
//! | [`nodes`] | what the sentry holds |
//! | [`publish`] | what the sentry sees without asking |
//! | [`gofer`] | the client of the gofer |
//! | [`world`] | all of the above together, and how it is set up |
//! | [`host`] | the host's system calls; the only unsafe code |
//!
//! `policy.seccomp` is what it may ask of the host.
//!
//! **Invariants.** One lock guards the world; each thread of the server has its own connection to the sentry and to the gofer.
//! vfs never calls the sentry. Nothing that the sentry sends is believed: an id names nothing unless it is in [`nodes`].

pub mod debug;
pub mod gofer;
pub mod host;
pub mod locks;
pub mod mounts;
pub mod nodes;
pub mod operations;
pub mod permissions;
pub mod publish;
pub mod server;
pub mod tree;
pub mod walk;
pub mod world;
