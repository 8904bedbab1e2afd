//! netstack: the compartment that is to own the sandbox's TCP/IP stack and is the only one to touch its link.
//!
//! So far it is a hull: it starts, locks itself down and answers on its debug socket. Containers have a loopback interface
//! that nothing listens on, and the sentry answers `socket(AF_INET, …)` by itself with an error.
//!
//! | module | what it owns |
//! |---|---|
//! | [`server`] | its life: from the set-up to the supervisor's going |
//! | [`debug`] | what its debug socket answers |
//!
//! `policy.seccomp` is what it may ask of the host.
#![forbid(unsafe_code)]

pub mod debug;
pub mod server;
