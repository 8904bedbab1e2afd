//! The sentry's own accesses to guest memory: checked copies, host iovecs, futex words.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bulkhead_ipc::Errno;

use super::{
    AddressSpace, FutexKey,
    areas::Backing,
    object::{FileObject, Window},
    space::State,
};
use crate::{
    abi::{PAGE_SIZE, UserAddress, page_down},
    platform::Protection,
};

/// Parts of host files up to this size are copied aside for a host call, larger ones mapped.
const ASIDE: u64 = 64 << 10;
/// Most iovecs that the host takes in one call.
const IOVECS: usize = 1024;

/// What the sentry is about to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Read,
    Write,
    /// Write to private memory whatever its protection (ptrace(2)).
    Force,
}

/// Where bytes from an address on are, for the sentry.
enum Segment {
    /// In the memory file, mapped here for so many bytes.
    Memory(*mut u8, u64),
    /// In a host file at this offset, for so many bytes.
    File(Arc<FileObject>, u64, u64),
    /// In the vDSO's image from here on.
    Image(usize),
}

impl AddressSpace {
    /// Finds the bytes at an address, after what a fault there would have done.
    fn segment(&self, state: &mut State, address: u64, want: Want) -> Result<Segment, Errno> {
        // Twice at most: a stack grows, then its page is there; a page is copied, then it is.
        for _ in 0..4 {
            let page = page_down(address);
            let Some((start, area)) = state.areas.at(address) else {
                if !self.grow_stack(state, page) {
                    return Err(Errno::EFAULT);
                }
                continue;
            };
            let write = want != Want::Read;
            let allowed = match want {
                Want::Read => !area.protection.is_empty(),
                Want::Write => area.protection.contains(Protection::WRITE),
                Want::Force => !area.shared() || area.protection.contains(Protection::WRITE),
            };
            if !allowed {
                return Err(Errno::EFAULT);
            }
            let text = area.protection.contains(Protection::EXECUTE);
            if self.is_rewritten(state, page) || write && text && self.is_rewritten(state, page.wrapping_sub(PAGE_SIZE)) {
                if write {
                    self.forget_text_now(state, page, page + PAGE_SIZE)?;
                } else if let Some((object, offset)) = area.file_at(start, address) {
                    return Ok(Segment::File(object.clone(), offset, page + PAGE_SIZE - address));
                }
                continue;
            }
            // Text that is rewritten may begin at the next page, in the same piece.
            let most = if state.rewritten && area.protection.contains(Protection::EXECUTE) {
                page + PAGE_SIZE - address
            } else {
                u64::MAX
            };
            match (state.pieces.at(address), &area.backing) {
                (_, Backing::Vvar) => return Err(Errno::EFAULT),
                (_, Backing::Vdso) if write => return Err(Errno::EFAULT),
                (_, Backing::Vdso) => return Ok(Segment::Image((address - start) as usize)),
                (Some((piece_start, piece)), _) if !(write && piece.copy_on_write) => {
                    let pointer = self.memory.pointer(piece.offset + (address - piece_start));
                    return Ok(Segment::Memory(pointer, (piece.end.min(area.end) - address).min(most)));
                }
                (None, Backing::File(object, offset)) if !write || area.shared() => {
                    let gap_end = state.pieces.gap_around(address, start, area.end).1;
                    return Ok(Segment::File(object.clone(), offset + (address - start), gap_end - address));
                }
                (None, Backing::Anonymous) => {
                    let area = area.clone();
                    self.appear(state, start, &area, page)?;
                }
                _ => {
                    let area = area.clone();
                    self.own(state, start, &area, page)?;
                }
            }
        }
        Err(Errno::EFAULT)
    }

    /// Copies in; EFAULT when any byte cannot be read.
    pub fn read(&self, address: UserAddress, into: &mut [u8]) -> Result<(), Errno> {
        match self.read_some(address, into) {
            Ok(n) if n == into.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Copies in as many bytes as can be read before the first fault; 0 is EFAULT unless `into` is empty.
    pub fn read_some(&self, address: UserAddress, into: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        let mut done = 0;
        while done < into.len() {
            let Some(at) = address.0.checked_add(done as u64) else { break };
            let Ok(segment) = self.segment(&mut state, at, Want::Read) else { break };
            let n = self.copy_in(&segment, &mut into[done..]);
            if n == 0 {
                break;
            }
            done += n;
        }
        if done == 0 && !into.is_empty() { Err(Errno::EFAULT) } else { Ok(done) }
    }

    fn copy_in(&self, segment: &Segment, into: &mut [u8]) -> usize {
        match segment {
            Segment::Memory(pointer, length) => {
                let n = into.len().min(*length as usize);
                // SAFETY: the segment is within the memory file's mapping; the guest may change the bytes meanwhile, which a
                // plain copy of bytes tolerates.
                unsafe { std::ptr::copy_nonoverlapping(*pointer, into.as_mut_ptr(), n) };
                n
            }
            Segment::File(object, offset, length) => {
                let n = into.len().min(*length as usize);
                object.read(*offset, &mut into[..n])
            }
            Segment::Image(start) => {
                let image = self.host.vdso_image().get(*start..).unwrap_or_default();
                let n = into.len().min(image.len());
                into[..n].copy_from_slice(&image[..n]);
                n
            }
        }
    }

    /// Copies out; EFAULT when any byte cannot be written (some may have been).
    pub fn write(&self, address: UserAddress, from: &[u8]) -> Result<(), Errno> {
        match self.write_some(address, from) {
            Ok(n) if n == from.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Copies out as much as can be written before the first fault.
    pub fn write_some(&self, address: UserAddress, from: &[u8]) -> Result<usize, Errno> {
        self.copy_out(address, from, Want::Write)
    }

    /// Writes through missing write permission (ptrace, core of exec set-up).
    pub fn write_forced(&self, address: UserAddress, from: &[u8]) -> Result<(), Errno> {
        match self.copy_out(address, from, Want::Force) {
            Ok(n) if n == from.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn copy_out(&self, address: UserAddress, from: &[u8], want: Want) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        let mut done = 0;
        while done < from.len() {
            let Some(at) = address.0.checked_add(done as u64) else { break };
            let n = match self.segment(&mut state, at, want) {
                Ok(Segment::Memory(pointer, length)) => {
                    let n = (from.len() - done).min(length as usize);
                    // SAFETY: as in `copy_in`, the other way.
                    unsafe { std::ptr::copy_nonoverlapping(from[done..].as_ptr(), pointer, n) };
                    n
                }
                Ok(Segment::File(object, offset, length)) => {
                    let n = (from.len() - done).min(length as usize);
                    object.write(offset, &from[done..done + n])
                }
                _ => 0,
            };
            if n == 0 {
                break;
            }
            done += n;
        }
        if done == 0 && !from.is_empty() { Err(Errno::EFAULT) } else { Ok(done) }
    }

    /// Fills with zeros.
    pub fn zero(&self, address: UserAddress, length: u64) -> Result<(), Errno> {
        const ZEROS: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
        let mut done = 0;
        while done < length {
            let n = (length - done).min(PAGE_SIZE) as usize;
            self.write(address.offset(done), &ZEROS[..n])?;
            done += n as u64;
        }
        Ok(())
    }

    /// A NUL-terminated string, without the NUL; ENAMETOOLONG beyond `max` bytes.
    pub fn read_string(&self, address: UserAddress, max: usize) -> Result<Vec<u8>, Errno> {
        // Most strings are short, and what is behind the string need not be readable: never across a page in one step.
        let mut string = Vec::new();
        let mut buffer = [0u8; 256];
        let mut at = address.0;
        loop {
            let to_page = PAGE_SIZE - at % PAGE_SIZE;
            let n = (buffer.len() as u64).min(to_page) as usize;
            let n = self.read_some(UserAddress(at), &mut buffer[..n])?;
            match buffer[..n].iter().position(|byte| *byte == 0) {
                Some(end) => {
                    string.extend_from_slice(&buffer[..end]);
                    return if string.len() > max { Err(Errno::ENAMETOOLONG) } else { Ok(string) };
                }
                None => string.extend_from_slice(&buffer[..n]),
            }
            if string.len() > max {
                return Err(Errno::ENAMETOOLONG);
            }
            at = at.checked_add(n as u64).ok_or(Errno::EFAULT)?;
        }
    }

    /// A value.
    pub fn read_value<T: zerocopy::FromBytes + zerocopy::IntoBytes>(&self, address: UserAddress) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// A value.
    pub fn write_value<T: zerocopy::IntoBytes + zerocopy::Immutable>(
        &self,
        address: UserAddress,
        value: &T,
    ) -> Result<(), Errno> {
        self.write(address, value.as_bytes())
    }

    /// Host iovecs of the sentry's own mapping of this guest range, for host calls that read into (`write` = true) or write
    /// from guest memory directly; stops at the first page that cannot be accessed (EFAULT if that is the first), and after
    /// as many parts as one host call takes. They stay valid while `f` runs; `f` must not use this address space, whose lock is
    /// held.
    pub fn with_host_iovecs<T>(
        &self,
        address: UserAddress,
        length: usize,
        write: bool,
        f: impl FnOnce(&mut [libc::iovec]) -> T,
    ) -> Result<T, Errno> {
        let mut state = self.state.lock();
        let mut iovecs: Vec<libc::iovec> = Vec::with_capacity(4);
        let mut windows = Vec::new();
        let mut copies: Vec<Vec<u8>> = Vec::new();
        let mut done = 0;
        let want = if write { Want::Write } else { Want::Read };
        while done < length && iovecs.len() < IOVECS {
            let Some(at) = address.0.checked_add(done as u64) else { break };
            let left = (length - done) as u64;
            let (base, n) = match self.segment(&mut state, at, want) {
                Ok(Segment::Memory(pointer, available)) => (pointer, available.min(left)),
                Ok(Segment::File(object, offset, available)) if write || available.min(left) > ASIDE => {
                    let n = available.min(left);
                    let low = page_down(offset);
                    let Ok(window) = Window::new(&object, low, offset + n - low, write) else { break };
                    let base = window.base.wrapping_add((offset - low) as usize);
                    windows.push(window);
                    (base, n)
                }
                Ok(segment) => {
                    let mut copy = vec![0; left.min(ASIDE) as usize];
                    let n = self.copy_in(&segment, &mut copy);
                    let base = copy.as_mut_ptr();
                    copies.push(copy);
                    (base, n as u64)
                }
                Err(_) => break,
            };
            if n == 0 {
                break;
            }
            done += n as usize;
            match iovecs.last_mut() {
                Some(last) if last.iov_base.cast::<u8>().wrapping_add(last.iov_len) == base && windows.is_empty() => {
                    last.iov_len += n as usize;
                }
                _ => iovecs.push(libc::iovec { iov_base: base.cast(), iov_len: n as usize }),
            }
        }
        if done == 0 && length > 0 {
            return Err(Errno::EFAULT);
        }
        Ok(f(&mut iovecs))
    }

    /// Loads an aligned u32 atomically (EINVAL unaligned).
    pub fn load_u32(&self, address: UserAddress) -> Result<u32, Errno> {
        if !address.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        match self.segment(&mut state, address.0, Want::Read)? {
            // SAFETY: aligned, as pieces are by pages, and within the memory file's mapping.
            Segment::Memory(pointer, _) => Ok(unsafe { AtomicU32::from_ptr(pointer.cast()) }.load(Ordering::SeqCst)),
            segment => {
                let mut bytes = [0; 4];
                match self.copy_in(&segment, &mut bytes) {
                    4 => Ok(u32::from_ne_bytes(bytes)),
                    _ => Err(Errno::EFAULT),
                }
            }
        }
    }

    /// Compares and swaps; the old value.
    pub fn compare_exchange_u32(&self, address: UserAddress, old: u32, new: u32) -> Result<u32, Errno> {
        if !address.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        match self.segment(&mut state, address.0, Want::Write)? {
            Segment::Memory(pointer, _) => {
                // SAFETY: as in `load_u32`.
                let word = unsafe { AtomicU32::from_ptr(pointer.cast()) };
                let (Ok(seen) | Err(seen)) = word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
                Ok(seen)
            }
            Segment::File(object, offset, _) => object.compare_exchange(offset, old, new),
            Segment::Image(_) => Err(Errno::EFAULT),
        }
    }

    /// What identifies a futex word: for a shared one, the memory object and offset behind it.
    pub fn futex_key(&self, address: UserAddress, private: bool) -> Result<FutexKey, Errno> {
        if address.0 >= self.guest_end() {
            return Err(Errno::EFAULT);
        }
        let local = FutexKey::Private(self.id, address.0);
        if private {
            return Ok(local);
        }
        let state = self.state.lock();
        let (start, area) = state.areas.at(address.0).ok_or(Errno::EFAULT)?;
        if !area.shared() {
            return Ok(local);
        }
        match (state.pieces.at(address.0), area.file_at(start, address.0)) {
            (Some((piece_start, piece)), _) => Ok(FutexKey::Shared(0, piece.offset + (address.0 - piece_start))),
            (None, Some((object, offset))) => Ok(FutexKey::Shared(object.identity, offset)),
            (None, None) => Err(Errno::EFAULT),
        }
    }
}
