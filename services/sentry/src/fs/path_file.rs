//! What stands behind a description that was opened with O_PATH: a place, nothing more.

use std::any::Any;

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, NodeId},
};

use super::{
    FileOps, Location, Offset, OpenFile, UserBuffers,
    regular::{path_of, stat_node},
};
use crate::{abi::UserAddress, executor::Readiness, memory::MappableFile, task::Thread};

/// A place.
pub struct PathFile {
    location: Location,
}

impl PathFile {
    /// The place `location`.
    pub fn new(location: Location) -> PathFile {
        PathFile { location }
    }
}

impl FileOps for PathFile {
    fn read(&self, _: &OpenFile, _: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }
    fn write(&self, _: &OpenFile, _: &mut UserBuffers<'_>, _: Offset) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }
    fn seek(&self, _: &OpenFile, _: i64, _: i32) -> Result<u64, Errno> {
        Err(Errno::EBADF)
    }
    fn poll(&self, _: &OpenFile) -> Readiness {
        Readiness::NVAL
    }
    fn ioctl(&self, _: &Thread, _: &OpenFile, _: u32, _: UserAddress) -> Result<u64, Errno> {
        Err(Errno::EBADF)
    }
    fn attributes(&self, thread: &Thread) -> Result<Attributes, Errno> {
        match &self.location {
            Location::Vfs(handle) => stat_node(handle),
            Location::Special(place) => place.attributes(thread),
        }
    }
    fn read_directory(
        &self,
        _: &Thread,
        _: &OpenFile,
        _: &mut dyn FnMut(&bulkhead_ipc::vfs::DirEntry) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn mappable(&self) -> Result<MappableFile, Errno> {
        Err(Errno::EBADF)
    }
    fn truncate(&self, _: &OpenFile, _: u64) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn allocate(&self, _: &OpenFile, _: i32, _: u64, _: u64) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn sync(&self, _: bool) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn describe(&self) -> Vec<u8> {
        match &self.location {
            Location::Vfs(handle) => path_of(handle, NodeId::ROOT).unwrap_or_default(),
            Location::Special(place) => place.path(NodeId::ROOT),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
