//! What files have in common that stand behind nothing but a descriptor (eventfd, timerfd, signalfd, epoll).

use bulkhead_ipc::vfs::Attributes;

use super::ownership::ANONYMOUS_DEVICE;

/// All of them share one inode, as under Linux.
const INODE: u64 = 12;

/// fstat(2) of any of them: no type, readable and writable by the owner.
pub(super) fn attributes() -> Attributes {
    Attributes { device: ANONYMOUS_DEVICE, inode: INODE, mode: 0o600, links: 1, block_size: 4096, ..Attributes::default() }
}
