//! Raw calls on the host that no library wraps: the only module with `unsafe` code. Each function has a safe face.
#![allow(unsafe_code)]

mod fork;
mod inherited;
mod mount_tree;
mod packet;
mod spawn;
mod terminal;

pub use fork::{Forked, close_inherited, fork};
pub use inherited::{Inherited, inherited_fds};
pub use mount_tree::open_mount_tree;
pub use packet::open_packet_socket;
pub use spawn::{IdMap, Launch, ServiceProcess};
pub use terminal::{RawMode, TerminalPair, make_controlling, open_terminal, set_window_size, window_size};
