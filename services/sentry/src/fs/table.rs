//! Tables of file descriptors.
//!
//! Owns which number stands for which open file. Never drops an `OpenFile` while its lock is held: what is taken out is
//! returned, because closing may call other services.

use std::sync::Arc;

use bulkhead_ipc::Errno;
use parking_lot::RwLock;

use super::OpenFile;
use crate::abi::FdNumber;

/// One open number.
#[derive(Clone)]
struct Slot {
    file: Arc<OpenFile>,
    close_on_exec: bool,
}

#[derive(Clone, Default)]
struct Slots {
    slots: Vec<Option<Slot>>,
    /// No number below this one is free.
    lowest_free: usize,
}

impl Slots {
    fn get(&self, fd: FdNumber) -> Option<&Slot> {
        self.slots.get(usize::try_from(fd.0).ok()?)?.as_ref()
    }

    fn put(&mut self, index: usize, slot: Slot) -> Option<Slot> {
        if index >= self.slots.len() {
            self.slots.resize(index + 1, None);
        }
        if index == self.lowest_free {
            self.lowest_free += 1;
        }
        self.slots[index].replace(slot)
    }

    fn take(&mut self, index: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(index)?.take()?;
        self.lowest_free = self.lowest_free.min(index);
        Some(slot)
    }

    fn first_free(&self, from: usize) -> usize {
        let from = from.max(self.lowest_free);
        self.slots.iter().skip(from).position(Option::is_none).map_or_else(|| self.slots.len().max(from), |n| from + n)
    }
}

/// A table of file descriptors.
pub struct FdTable {
    slots: RwLock<Slots>,
}

/// Numbers end here whatever the limit says (fs.nr_open).
pub const MAX_NUMBERS: u64 = 1 << 20;

impl FdTable {
    /// Empty.
    pub fn new() -> Arc<FdTable> {
        Arc::new(FdTable { slots: RwLock::default() })
    }

    /// EBADF when it is not open.
    pub fn get(&self, fd: FdNumber) -> Result<Arc<OpenFile>, Errno> {
        self.slots.read().get(fd).map(|slot| slot.file.clone()).ok_or(Errno::EBADF)
    }

    /// Lowest free number from `from` on and below `limit`; EMFILE.
    pub fn install(&self, file: Arc<OpenFile>, close_on_exec: bool, from: i32, limit: u64) -> Result<FdNumber, Errno> {
        let from = usize::try_from(from).map_err(|_| Errno::EINVAL)?;
        let mut slots = self.slots.write();
        let index = slots.first_free(from);
        if index as u64 >= limit.min(MAX_NUMBERS) {
            return Err(Errno::EMFILE);
        }
        let floor = slots.lowest_free;
        slots.put(index, Slot { file, close_on_exec });
        if from <= floor {
            slots.lowest_free = index + 1;
        }
        Ok(FdNumber(index as i32))
    }

    /// Whether `install` would find a number below `limit` now.
    pub fn has_room(&self, limit: u64) -> bool {
        (self.slots.read().first_free(0) as u64) < limit.min(MAX_NUMBERS)
    }

    /// dup2: puts `file` at `fd`; what was there is returned to be closed.
    pub fn replace(&self, fd: FdNumber, file: Arc<OpenFile>, close_on_exec: bool) -> Option<Arc<OpenFile>> {
        let index = usize::try_from(fd.0).ok()?;
        self.slots.write().put(index, Slot { file, close_on_exec }).map(|slot| slot.file)
    }

    /// Takes it out; EBADF.
    pub fn remove(&self, fd: FdNumber) -> Result<Arc<OpenFile>, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        self.slots.write().take(index).map(|slot| slot.file).ok_or(Errno::EBADF)
    }

    /// (close_on_exec, file) of every open number, ascending.
    pub fn list(&self) -> Vec<(FdNumber, bool, Arc<OpenFile>)> {
        let slots = self.slots.read();
        let open = slots.slots.iter().enumerate();
        open.filter_map(|(n, slot)| slot.as_ref().map(|s| (FdNumber(n as i32), s.close_on_exec, s.file.clone()))).collect()
    }

    /// A copy (fork).
    pub fn fork(&self) -> Arc<FdTable> {
        Arc::new(FdTable { slots: RwLock::new(self.slots.read().clone()) })
    }

    /// Closes what is close-on-exec (execve); returns the files.
    pub fn take_close_on_exec(&self) -> Vec<Arc<OpenFile>> {
        self.take_where(|_, close_on_exec| close_on_exec)
    }

    /// Closes everything (exit).
    pub fn take_all(&self) -> Vec<Arc<OpenFile>> {
        self.take_where(|_, _| true)
    }

    /// Closes the numbers `first..=last` (close_range(2)); returns the files.
    pub fn take_range(&self, first: u32, last: u32) -> Vec<Arc<OpenFile>> {
        self.take_where(|n, _| n >= first as usize && n <= last as usize)
    }

    fn take_where(&self, mut wanted: impl FnMut(usize, bool) -> bool) -> Vec<Arc<OpenFile>> {
        let mut slots = self.slots.write();
        let mut taken = Vec::new();
        for index in 0..slots.slots.len() {
            if slots.slots[index].as_ref().is_some_and(|slot| wanted(index, slot.close_on_exec)) {
                taken.extend(slots.take(index).map(|slot| slot.file));
            }
        }
        taken
    }

    /// FD_CLOEXEC.
    pub fn close_on_exec(&self, fd: FdNumber) -> Result<bool, Errno> {
        self.slots.read().get(fd).map(|slot| slot.close_on_exec).ok_or(Errno::EBADF)
    }

    /// FD_CLOEXEC.
    pub fn set_close_on_exec(&self, fd: FdNumber, on: bool) -> Result<(), Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.write();
        let slot = slots.slots.get_mut(index).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
        slot.close_on_exec = on;
        Ok(())
    }

    /// FD_CLOEXEC on for the open ones of `first..=last` (CLOSE_RANGE_CLOEXEC).
    pub fn set_close_on_exec_range(&self, first: u32, last: u32) {
        let mut slots = self.slots.write();
        let open = slots.slots.iter_mut().enumerate().skip(first as usize).take_while(|(n, _)| *n <= last as usize);
        open.filter_map(|(_, slot)| slot.as_mut()).for_each(|slot| slot.close_on_exec = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::device::{CharDevice, Device};

    fn file() -> Arc<OpenFile> {
        OpenFile::new(Arc::new(CharDevice::unnamed(Device::Null)), libc::O_RDWR as u32, None)
    }

    #[test]
    fn the_lowest_free_number_is_taken() {
        let table = FdTable::new();
        for expected in 0..4 {
            assert_eq!(table.install(file(), false, 0, 1024).unwrap(), FdNumber(expected));
        }
        table.remove(FdNumber(1)).unwrap();
        assert_eq!(table.install(file(), false, 2, 1024).unwrap(), FdNumber(4));
        assert_eq!(table.install(file(), false, 0, 1024).unwrap(), FdNumber(1));
        assert_eq!(table.install(file(), false, 0, 1024).unwrap(), FdNumber(5));
        assert!(table.replace(FdNumber(9), file(), false).is_none());
        assert_eq!(table.install(file(), false, 0, 1024).unwrap(), FdNumber(6));
        assert_eq!(table.install(file(), false, 9, 1024).unwrap(), FdNumber(10));
    }

    #[test]
    fn numbers_end_at_the_limit() {
        let table = FdTable::new();
        table.install(file(), false, 0, 1).unwrap();
        assert_eq!(table.install(file(), false, 0, 1), Err(Errno::EMFILE));
        assert_eq!(table.install(file(), false, -1, 10), Err(Errno::EINVAL));
        assert!(table.get(FdNumber(1)).is_err());
        assert!(table.get(FdNumber(-100)).is_err());
    }

    #[test]
    fn execve_closes_what_is_marked_and_nothing_else() {
        let table = FdTable::new();
        table.install(file(), true, 0, 10).unwrap();
        table.install(file(), false, 0, 10).unwrap();
        let copy = table.fork();
        assert_eq!(table.take_close_on_exec().len(), 1);
        assert!(table.get(FdNumber(0)).is_err());
        assert!(table.get(FdNumber(1)).is_ok());
        assert!(copy.close_on_exec(FdNumber(0)).unwrap());
    }
}
