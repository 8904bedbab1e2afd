//! Rewritten pages of files, and their thunks: made once, shown by every address space that maps the file.
//!
//! Invariants:
//! - A *text page* never changes. One more site makes a new version, in a new page of the memory file; address spaces go over to
//!   it by mapping it, so no thread ever executes bytes that are being written.
//! - A *thunk page* only grows, in bytes that no text page in use jumps to yet.
//! - A thunk page has one distance from the file's pages, so the same bytes serve wherever the file is mapped.
//! - The cache holds a reference to each of these pages: their offsets in the memory file mean nothing else as long as they are here. A
//!   version that nobody shows any more is used again for text only: a stub that is about to die may map it still.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::super::{MemoryFile, object::FileObject, object::host_stat};
use crate::{
    abi::PAGE_SIZE,
    platform::rewrite::{Candidate, LENGTH, Thunk, Thunks},
};

/// What is in unused bytes of a thunk page: breakpoints.
const UNUSED: u8 = 0xcc;
/// Files' pages that are kept at most.
const MOST: usize = 8192;

/// A file with certain contents, as rewritten on behalf of one user's processes. What is rewritten follows from where a process
/// made calls, so a hostile one could have bytes rewritten that are no instruction: it must not reach processes that it could
/// not have changed anyway.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileKey {
    user: u32,
    identity: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileKey {
    pub fn of(object: &FileObject, user: u32) -> Option<FileKey> {
        let stat = host_stat(object.raw_fd()).ok()?;
        Some(FileKey {
            user,
            identity: object.identity,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        })
    }
}

/// A rewritten page.
pub struct TextPage {
    pub key: FileKey,
    /// Which page of the file.
    pub index: u64,
    /// Where it lies in the memory file.
    pub offset: u64,
    original: Box<[u8]>,
    sites: Vec<(Candidate, i32)>,
    /// The thunk pages that it jumps to.
    pub needs: Vec<i64>,
}

impl TextPage {
    /// Whether the call that ends at this offset was rewritten.
    pub fn covers(&self, end: usize) -> bool {
        self.sites.iter().any(|(site, _)| site.end == end)
    }
}

/// Thunks for sites in one place of a file.
pub struct ThunkPage {
    /// Which page it would be if the file went on there (perhaps before its start).
    pub index: i64,
    /// Where it lies in the memory file.
    pub offset: u64,
    pub thunks: Vec<Placed>,
}

/// A thunk in its page.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub start: usize,
    pub length: usize,
    /// Offset in the file of the instruction that jumps here.
    pub site: i64,
    /// Offset in the file of what follows the call.
    pub end: i64,
    pub moved: usize,
}

impl ThunkPage {
    /// A place for `length` bytes that starts within `low..=high`.
    fn room(&self, low: usize, high: usize, length: usize) -> Option<usize> {
        let free = |at: &usize| self.thunks.iter().all(|thunk| at + length <= thunk.start || *at >= thunk.start + thunk.length);
        let ends = self.thunks.iter().map(|thunk| thunk.start + thunk.length);
        let high = high.min((PAGE_SIZE as usize).checked_sub(length)?);
        ends.chain([low]).filter(|at| (low..=high).contains(at)).filter(free).min()
    }
}

/// See the module.
#[derive(Default)]
pub struct TextCache {
    newest: HashMap<(FileKey, u64), Arc<TextPage>>,
    text: BTreeMap<u64, Arc<TextPage>>,
    places: HashMap<(FileKey, i64), u64>,
    thunks: BTreeMap<u64, ThunkPage>,
    /// Pages of the memory file to be used again.
    spare: Vec<u64>,
}

impl TextCache {
    /// The newest version of a file's page.
    pub fn newest(&self, key: FileKey, index: u64) -> Option<&Arc<TextPage>> {
        self.newest.get(&(key, index))
    }

    /// The newest versions of a file's pages within a range.
    pub fn of_file(&self, key: FileKey, pages: std::ops::Range<u64>) -> Vec<Arc<TextPage>> {
        self.newest.values().filter(|page| page.key == key && pages.contains(&page.index)).cloned().collect()
    }

    /// The version that lies there in the memory file.
    pub fn text_at(&self, offset: u64) -> Option<&Arc<TextPage>> {
        self.text.get(&offset)
    }

    /// Those that lie within a range of the memory file.
    pub fn text_within(&self, low: u64, high: u64) -> impl Iterator<Item = &Arc<TextPage>> {
        self.text.range(low..high).map(|(_, page)| page)
    }

    /// The thunk page that lies there in the memory file.
    pub fn thunks_at(&self, offset: u64) -> Option<&ThunkPage> {
        self.thunks.get(&offset)
    }

    /// Those that lie within a range of the memory file.
    pub fn thunks_within(&self, low: u64, high: u64) -> impl Iterator<Item = &ThunkPage> {
        self.thunks.range(low..high).map(|(_, page)| page)
    }

    /// Where the thunk page with this index lies in the memory file.
    pub fn place(&self, key: FileKey, index: i64) -> Option<u64> {
        self.places.get(&(key, index)).copied()
    }

    /// The page's original bytes: as kept, or as read.
    pub fn original(&self, key: FileKey, index: u64, object: &FileObject) -> Option<Box<[u8]>> {
        if let Some(page) = self.newest(key, index) {
            return Some(page.original.clone());
        }
        let mut bytes = vec![0; PAGE_SIZE as usize].into_boxed_slice();
        (object.read(index * PAGE_SIZE, &mut bytes) > 0).then_some(bytes)
    }

    /// A new version with one more site, whose thunk goes into the page with index `page`. `None` when that has no room.
    pub fn rewrite(
        &mut self,
        memory: &MemoryFile,
        thunks: &Thunks,
        (key, index): (FileKey, u64),
        original: &[u8],
        candidate: &Candidate,
        page: i64,
    ) -> Option<Arc<TextPage>> {
        let old = self.newest.get(&(key, index)).cloned();
        let reach = |site: &Candidate| (site.start, site.end.max(site.origin()));
        let (low, high) = reach(candidate);
        let sites: &[(Candidate, i32)] = old.as_ref().map_or(&[], |old| &old.sites);
        if sites.iter().any(|(site, _)| reach(site).0 < high && low < reach(site).1) || self.text.len() >= MOST {
            return None;
        }
        let in_file = |offset: usize| (index * PAGE_SIZE) as i64 + offset as i64;
        let (page_start, origin) = (page * PAGE_SIZE as i64, in_file(candidate.origin()));
        let window = match candidate.fixed {
            None => (0, PAGE_SIZE as i64),
            Some(fixed) => (origin + i64::from(fixed) - page_start, origin + i64::from(fixed) + 255 - page_start),
        };
        let clamp = |at: i64| at.clamp(0, PAGE_SIZE as i64) as usize;
        if window.1 < 0 || window.0 >= PAGE_SIZE as i64 {
            return None;
        }
        let length = candidate.moved + LENGTH;
        let offset = match self.place(key, page) {
            Some(offset) => offset,
            None => self.make_thunk_page(memory, key, page)?,
        };
        let thunk_page = self.thunks.get_mut(&offset)?;
        let start = thunk_page.room(clamp(window.0), clamp(window.1), length)?;
        let at = page_start + start as i64;
        let displacement = i32::try_from(at - origin).ok()?;
        let moved = original.get(candidate.start..candidate.start + candidate.moved)?;
        let code = Thunk { moved, back: in_file(candidate.end) - at }.bytes(thunks)?;
        if code.len() != length {
            return None;
        }
        // SAFETY: the page is the cache's, within the memory file's mapping; nobody executes these bytes yet.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), memory.pointer(offset + start as u64), length) };
        let placed =
            Placed { start, length, site: in_file(candidate.start), end: in_file(candidate.end), moved: candidate.moved };
        thunk_page.thunks.push(placed);

        let mut bytes = original.to_vec();
        let sites: Vec<_> = sites.iter().copied().chain([(*candidate, displacement)]).collect();
        sites.iter().for_each(|(site, displacement)| site.apply(&mut bytes, *displacement));
        let offset = self.take(memory)?;
        // SAFETY: the page was just taken, so nobody else uses it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.pointer(offset), PAGE_SIZE as usize) };
        let mut needs = old.map_or_else(Vec::new, |old| old.needs.clone());
        if !needs.contains(&page) {
            needs.push(page);
        }
        let version = Arc::new(TextPage { key, index, offset, original: original.into(), sites, needs });
        self.newest.insert((key, index), version.clone());
        self.text.insert(offset, version.clone());
        self.sweep(memory, &version);
        Some(version)
    }

    fn make_thunk_page(&mut self, memory: &MemoryFile, key: FileKey, index: i64) -> Option<u64> {
        let offset = self.take(memory)?;
        // SAFETY: the page was just taken, so nobody else uses it.
        unsafe { memory.pointer(offset).write_bytes(UNUSED, PAGE_SIZE as usize) };
        self.places.insert((key, index), offset);
        self.thunks.insert(offset, ThunkPage { index, offset, thunks: Vec::new() });
        Some(offset)
    }

    /// A page of the memory file to be overwritten.
    fn take(&mut self, memory: &MemoryFile) -> Option<u64> {
        self.spare.pop().or_else(|| memory.allocate_uncleared(PAGE_SIZE, None).ok())
    }

    /// Takes back older versions of a page that nobody shows any more.
    fn sweep(&mut self, memory: &MemoryFile, version: &TextPage) {
        let spare = &mut self.spare;
        self.text.retain(|&offset, page| {
            let same = page.key == version.key && page.index == version.index && offset != version.offset;
            let unused = same && memory.run(offset).is_some_and(|(_, _, references)| references == 1);
            if unused {
                spare.push(offset);
            }
            !unused
        });
    }
}
