//! What a memory file knows of the file whose contents it holds, and is the authority for while the sentry may write to it. vfs and
//! the sentry both put it in: they have to agree.

use super::{Attributes, Timestamp};

/// What fstat(2) says about a memory file.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileStatus {
    /// Bytes.
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
    /// Last access.
    pub accessed: Timestamp,
    /// Last modification.
    pub modified: Timestamp,
    /// Last change of the host's inode.
    pub changed: Timestamp,
}

impl FileStatus {
    /// Puts in what the memory file knows of a file whose attributes these are; each may have changed last.
    pub fn complete(&self, attributes: &mut Attributes) {
        attributes.size = self.size;
        attributes.blocks = self.blocks;
        attributes.accessed = self.accessed;
        attributes.modified = self.modified;
        attributes.changed = attributes.changed.max(self.changed);
    }
}

impl From<&libc::stat> for FileStatus {
    fn from(status: &libc::stat) -> Self {
        let time = |seconds, nanoseconds: i64| Timestamp { seconds, nanoseconds: nanoseconds.clamp(0, 999_999_999) as u32 };
        FileStatus {
            size: status.st_size.cast_unsigned(),
            blocks: status.st_blocks.cast_unsigned(),
            accessed: time(status.st_atime, status.st_atime_nsec),
            modified: time(status.st_mtime, status.st_mtime_nsec),
            changed: time(status.st_ctime, status.st_ctime_nsec),
        }
    }
}
