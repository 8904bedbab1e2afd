use std::{
    collections::BTreeMap,
    io::Write,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::Arc,
};

use bulkhead_ipc::Errno;
use proptest::prelude::*;

use crate::{
    abi::{PAGE_SIZE, UserAddress},
    memory::{
        AddressSpace, Advice, AreaFlags, FutexKey, Limits, MapRequest, MappableFile, Placement, RemapRequest, Source,
        space::State,
    },
    platform::Protection,
};

const RW: Protection = Protection::READ.union(Protection::WRITE);
const BASE: u64 = 0x10_0000;

fn space() -> Arc<AddressSpace> {
    AddressSpace::for_tests()
}

fn request(placement: Placement, length: u64, flags: AreaFlags) -> MapRequest {
    MapRequest { placement, length, protection: RW, flags, source: Source::Anonymous, populate: false }
}

fn map(space: &AddressSpace, at: u64, pages: u64, flags: AreaFlags) -> u64 {
    let request = request(Placement::Fixed(at), pages * PAGE_SIZE, flags);
    space.map(&request, &Limits::UNLIMITED).unwrap()
}

fn file(contents: &[u8]) -> MappableFile {
    // SAFETY: a new fd.
    let fd = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"file".as_ptr(), libc::MFD_CLOEXEC)) };
    let mut file = std::fs::File::from(fd);
    file.write_all(contents).unwrap();
    MappableFile { fd: Arc::new(file.into()), writable: true, device: 1, inode: 2, name: Arc::new(|| b"/file".to_vec()) }
}

#[test]
fn what_is_written_after_a_fork_is_seen_by_the_writer_only() {
    let parent = space();
    map(&parent, BASE, 64, AreaFlags::empty());
    map(&parent, BASE + (64 << 12), 1, AreaFlags::SHARED);
    parent.touch(BASE, Some(1)).unwrap();
    let child = parent.fork(&[]).unwrap();
    assert_eq!(child.touch(BASE, None), Ok(1));
    child.touch(BASE, Some(2)).unwrap();
    parent.touch(BASE + 1, Some(3)).unwrap();
    assert_eq!((parent.touch(BASE, None), child.touch(BASE, None)), (Ok(1), Ok(2)));
    assert_eq!((parent.touch(BASE + 1, None), child.touch(BASE + 1, None)), (Ok(3), Ok(0)));
    // The sentry's own writes break sharing as well.
    parent.write(UserAddress(BASE + 5 * PAGE_SIZE), b"x").unwrap();
    assert_eq!(child.touch(BASE + 5 * PAGE_SIZE, None), Ok(0));
    // Shared memory stays shared, and so do futex words in it.
    let shared = BASE + (64 << 12);
    child.touch(shared, Some(9)).unwrap();
    assert_eq!(parent.touch(shared, None), Ok(9));
    let key = |space: &AddressSpace, at| space.futex_key(UserAddress(at), false).unwrap();
    assert_eq!(key(&parent, shared), key(&child, shared));
    assert!(matches!(key(&parent, BASE), FutexKey::Private(..)));
    assert_ne!(key(&parent, BASE), key(&child, BASE));
}

#[test]
fn pages_that_both_will_write_soon_are_parted_at_once() {
    let parent = space();
    map(&parent, BASE, 64, AreaFlags::empty());
    for page in 0..64 {
        parent.touch(BASE + page * PAGE_SIZE, Some(1)).unwrap();
    }
    let child = parent.fork(&[BASE + 5, BASE + 20 * PAGE_SIZE, BASE - 1]).unwrap();
    let operations = (parent.operations(), child.operations());
    parent.touch(BASE, Some(2)).unwrap();
    child.touch(BASE, Some(3)).unwrap();
    parent.touch(BASE + 20 * PAGE_SIZE, Some(2)).unwrap();
    assert_eq!((parent.operations(), child.operations()), operations, "no fault needed anything");
    parent.touch(BASE + 40 * PAGE_SIZE, Some(2)).unwrap();
    for (page, ours, theirs) in [(0, 2, 3), (20, 2, 1), (40, 2, 1), (63, 1, 1)] {
        assert_eq!(parent.touch(BASE + page * PAGE_SIZE, None), Ok(ours));
        assert_eq!(child.touch(BASE + page * PAGE_SIZE, None), Ok(theirs));
    }
}

#[test]
fn what_a_child_wrote_to_first_is_parted_at_the_next_fork() {
    let parent = space();
    map(&parent, BASE, 256, AreaFlags::empty());
    for page in 0..256 {
        parent.touch(BASE + page * PAGE_SIZE, Some(1)).unwrap();
    }
    let (soon, later) = (BASE + 100 * PAGE_SIZE, BASE + 20 * PAGE_SIZE);
    let fork = || {
        let child = parent.fork(&[soon]).unwrap();
        let operations = (parent.operations(), child.operations());
        child.touch(later, Some(3)).unwrap();
        parent.touch(later, Some(2)).unwrap();
        assert_eq!((parent.touch(later, None), child.touch(later, None)), (Ok(2), Ok(3)));
        (parent.operations(), child.operations()) == operations
    };
    assert!(!fork(), "the first child copies it when it writes");
    assert!(fork(), "the second has its copy");
    let operations = parent.operations();
    assert!(fork());
    assert_eq!(parent.operations(), operations, "and for the parent nothing changes any more");
    // What no child needs any more is not copied for ever.
    for _ in 0..40 {
        drop(parent.fork(&[soon]).unwrap());
    }
    assert!(!fork());
}

#[test]
fn a_program_takes_over_the_stub_of_the_one_before_it_and_shows_nothing_of_that() {
    let old = space();
    map(&old, BASE, 64, AreaFlags::empty());
    for page in 0..64 {
        old.touch(BASE + page * PAGE_SIZE, Some(1)).unwrap();
    }
    let used = old.memory.used();
    let new = old.followed_by(State { mmap_top: 0x7000_0000_0000, ..State::default() });
    map(&new, BASE + PAGE_SIZE, 2, AreaFlags::empty());
    new.write(UserAddress(BASE + PAGE_SIZE), b"\x07").unwrap();
    assert_eq!(old.touch(BASE + PAGE_SIZE, None), Ok(1), "until then nothing changes");
    new.take_over(&old).unwrap();
    assert!(new.holds_stub() && !old.holds_stub());
    assert_eq!(new.touch(BASE + PAGE_SIZE, None), Ok(7));
    assert!(new.touch(BASE, None).is_err() && new.touch(BASE + 40 * PAGE_SIZE, None).is_err());
    assert_eq!(old.write(UserAddress(BASE), b"x"), Err(Errno::EFAULT), "who still has the old one cannot reach the new");
    assert!(new.memory.used() < used, "the old one's pages went back");
    drop(old);
    new.touch(BASE + 2 * PAGE_SIZE, Some(9)).unwrap();
    assert_eq!((new.touch(BASE + PAGE_SIZE, None), new.touch(BASE + 2 * PAGE_SIZE, None)), (Ok(7), Ok(9)));
}

#[test]
fn the_last_owner_writes_without_a_copy() {
    let parent = space();
    map(&parent, BASE, 64, AreaFlags::empty());
    for page in 0..64 {
        parent.touch(BASE + page * PAGE_SIZE, Some(1)).unwrap();
    }
    drop(parent.fork(&[]).unwrap());
    let (used, operations) = (parent.memory.used(), parent.operations());
    for page in 0..64 {
        parent.touch(BASE + page * PAGE_SIZE, Some(2)).unwrap();
    }
    assert_eq!(parent.memory.used(), used);
    assert_eq!(parent.operations(), operations + 1, "one change of protection for all pages");
}

#[test]
fn a_copy_at_a_low_address_does_not_reach_below_it() {
    let parent = space();
    // One after the other in the memory file, so that their pages are one run there, but the second lies lowest.
    map(&parent, BASE + (1 << 32), 1024, AreaFlags::empty());
    map(&parent, BASE, 4, AreaFlags::empty());
    for at in [BASE, BASE + (1 << 32)] {
        parent.touch(at, Some(1)).unwrap();
    }
    for shared in [true, false] {
        let child = parent.fork(&[]).unwrap();
        if !shared {
            drop(child);
        }
        parent.touch(BASE, Some(2)).unwrap();
        assert_eq!((parent.touch(BASE, None), parent.touch(BASE + (1 << 32), None)), (Ok(2), Ok(1)));
    }
}

#[test]
fn the_peak_that_processes_report_is_no_more_than_what_exists() {
    let space = space();
    map(&space, BASE, 1 << 18, AreaFlags::empty());
    for page in 0..100 {
        space.touch(BASE + page * PAGE_SIZE, Some(1)).unwrap();
    }
    assert_eq!(space.peak_resident(), 100 * PAGE_SIZE);
    space.unmap(BASE, PAGE_SIZE << 18).unwrap();
    assert_eq!(space.peak_resident(), 100 * PAGE_SIZE);
}

#[test]
fn memory_that_is_given_up_goes_back_to_the_host() {
    let space = space();
    map(&space, BASE, 1024, AreaFlags::empty());
    for page in 0..1024 {
        space.touch(BASE + page * PAGE_SIZE, Some(1)).unwrap();
    }
    assert_eq!(space.memory.used(), 1024 * PAGE_SIZE);
    assert_eq!(space.usage().resident, 1024 * PAGE_SIZE);
    space.advise(BASE, 512 * PAGE_SIZE, Advice::DontNeed).unwrap();
    assert_eq!(space.memory.used(), 512 * PAGE_SIZE);
    assert_eq!(space.touch(BASE, None), Ok(0));
    space.unmap(BASE, 1024 * PAGE_SIZE).unwrap();
    assert_eq!(space.memory.used(), 0);
    assert_eq!(space.touch(BASE, None), Err(libc::SIGSEGV));
}

#[test]
fn a_private_file_mapping_keeps_its_writes_to_itself_and_ends_with_the_file() {
    let space = space();
    let mappable = file(&[7; 5000]);
    let mut request = request(Placement::Fixed(BASE), 4 * PAGE_SIZE, AreaFlags::empty());
    request.source = Source::File(mappable.clone(), 0);
    request.protection = Protection::READ;
    space.map(&request, &Limits::UNLIMITED).unwrap();
    space.protect(BASE, 4 * PAGE_SIZE, RW, false, &Limits::UNLIMITED).unwrap();
    space.touch(BASE + 4999, Some(1)).unwrap();
    assert_eq!((space.touch(BASE + 4998, None), space.touch(BASE + 4999, None)), (Ok(7), Ok(1)));
    assert_eq!(space.touch(BASE + 5001, None), Ok(0));
    assert_eq!(space.touch(BASE + 2 * PAGE_SIZE, Some(1)), Err(libc::SIGBUS));
    assert!(space.write(UserAddress(BASE + 2 * PAGE_SIZE), b"x").is_err());
    let mut byte = [0];
    // SAFETY: one byte of our own.
    unsafe { libc::pread(mappable.fd.as_raw_fd(), byte.as_mut_ptr().cast(), 1, 4999) };
    assert_eq!(byte, [7]);
    space.advise(BASE, PAGE_SIZE * 2, Advice::DontNeed).unwrap();
    assert_eq!(space.touch(BASE + 4999, None), Ok(7));
}

#[test]
fn the_sentry_reads_and_writes_a_shared_file_mapping_through_the_file() {
    let space = space();
    let mappable = file(&[1; 4100]);
    let mut request = request(Placement::Fixed(BASE), 2 * PAGE_SIZE, AreaFlags::SHARED);
    request.source = Source::File(mappable.clone(), 0);
    space.map(&request, &Limits::UNLIMITED).unwrap();
    space.write(UserAddress(BASE + 4098), &[5; 10]).unwrap();
    let mut bytes = [9; 4];
    space.read(UserAddress(BASE + 4098), &mut bytes).unwrap();
    assert_eq!(bytes, [5, 5, 0, 0]);
    assert_eq!(space.compare_exchange_u32(UserAddress(BASE), 0x0101_0101, 3), Ok(0x0101_0101));
    assert_eq!(space.load_u32(UserAddress(BASE)), Ok(3));
    // SAFETY: plain call.
    unsafe { libc::ftruncate(mappable.fd.as_raw_fd(), 0) };
    assert!(space.compare_exchange_u32(UserAddress(BASE), 0, 1).is_err());
    assert!(space.read(UserAddress(BASE), &mut bytes).is_err());
}

#[test]
fn a_stack_grows_to_its_limit() {
    let space = space();
    let top = BASE + (64 << 20);
    map(&space, top - 4 * PAGE_SIZE, 4, AreaFlags::GROWS_DOWN | AreaFlags::STACK);
    space.set_stack_limit(1 << 20);
    assert!(space.touch(top - (512 << 10), Some(1)).is_ok());
    assert!(space.write(UserAddress(top - (1 << 20)), b"x").is_ok());
    assert_eq!(space.touch(top - (1 << 20) - 1, Some(1)), Err(libc::SIGSEGV));
}

#[test]
fn mremap_carries_the_contents() {
    let space = space();
    map(&space, BASE, 4, AreaFlags::empty());
    map(&space, BASE + 4 * PAGE_SIZE, 1, AreaFlags::SHARED);
    space.touch(BASE + 3 * PAGE_SIZE, Some(7)).unwrap();
    let mut remap =
        RemapRequest { old: BASE, old_length: 4 << 12, new_length: 8 << 12, may_move: false, fixed: None, keep: false };
    assert_eq!(space.remap(&remap, &Limits::UNLIMITED), Err(crate::Errno::ENOMEM));
    remap.may_move = true;
    let new = space.remap(&remap, &Limits::UNLIMITED).unwrap();
    assert_eq!(space.touch(new + 3 * PAGE_SIZE, None), Ok(7));
    assert_eq!(space.touch(new + 7 * PAGE_SIZE, Some(1)), Ok(1));
    assert_eq!(space.touch(BASE, None), Err(libc::SIGSEGV));
}

#[test]
fn the_heap_moves_both_ways() {
    let space = space();
    space.set_heap(BASE + 100);
    assert_eq!(space.set_heap_end(0, &Limits::UNLIMITED), BASE + 100);
    assert_eq!(space.set_heap_end(BASE + 9000, &Limits::UNLIMITED), BASE + 9000);
    space.touch(BASE + 8999, Some(1)).unwrap();
    assert_eq!(space.set_heap_end(BASE + 100, &Limits::UNLIMITED), BASE + 100);
    assert_eq!(space.set_heap_end(BASE + 9000, &Limits::UNLIMITED), BASE + 9000);
    assert_eq!(space.touch(BASE + 8999, None), Ok(0), "what was given up comes back as zeros");
    assert_eq!(space.maps().last().unwrap().name, b"[heap]");
}

/// The model: what each page of a few dozen holds, or that it is not mapped.
const PAGES: u64 = 48;

#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64),
    Unmap(u64, u64),
    Protect(u64, u64, bool),
    Forget(u64, u64),
    Store(u64, u8),
    Write(u64, u64, u8),
    Move(u64, u64, u64),
    Fork,
    Switch(usize),
    Exit(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let page = 0..PAGES;
    let count = 1u64..20;
    let step = prop_oneof![
        2 => (page.clone(), count.clone()).prop_map(|(p, n)| Step::Map(p, n)),
        1 => (page.clone(), count.clone()).prop_map(|(p, n)| Step::Unmap(p, n)),
        1 => (page.clone(), count.clone(), any::<bool>()).prop_map(|(p, n, w)| Step::Protect(p, n, w)),
        1 => (page.clone(), count.clone()).prop_map(|(p, n)| Step::Forget(p, n)),
        6 => (page.clone(), 1u8..).prop_map(|(p, v)| Step::Store(p, v)),
        3 => (page.clone(), count.clone(), 1u8..).prop_map(|(p, n, v)| Step::Write(p, n, v)),
        1 => (page.clone(), page, count).prop_map(|(p, to, n)| Step::Move(p, to, n)),
        2 => Just(Step::Fork),
        2 => any::<usize>().prop_map(Step::Switch),
        1 => any::<usize>().prop_map(Step::Exit),
    ];
    proptest::collection::vec(step, 1..100)
}

type Model = BTreeMap<u64, (u8, bool)>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn address_spaces_hold_what_a_simple_model_holds(steps in steps()) {
        let mut all: Vec<(Arc<AddressSpace>, Model)> = vec![(space(), Model::new())];
        let memory = all[0].0.memory.clone();
        let mut current = 0;
        let at = |page: u64| BASE + page * PAGE_SIZE;
        for step in steps {
            let count = all.len();
            let (space, model) = &mut all[current];
            match step {
                Step::Map(p, n) => {
                    map(space, at(p), n, AreaFlags::empty());
                    (p..p + n).for_each(|page| { model.insert(page, (0, true)); });
                }
                Step::Unmap(p, n) => {
                    space.unmap(at(p), n * PAGE_SIZE).unwrap();
                    model.retain(|page, _| *page < p || *page >= p + n);
                }
                Step::Protect(p, n, write) => {
                    let protection = if write { RW } else { Protection::READ };
                    let result = space.protect(at(p), n * PAGE_SIZE, protection, false, &Limits::UNLIMITED);
                    let mapped = (p..p + n).take_while(|page| model.contains_key(page)).count() as u64;
                    prop_assert_eq!(result.is_ok(), mapped == n);
                    (p..p + mapped).for_each(|page| model.get_mut(&page).unwrap().1 = write);
                }
                Step::Forget(p, n) => {
                    let _ = space.advise(at(p), n * PAGE_SIZE, Advice::DontNeed);
                    model.range_mut(p..p + n).for_each(|(_, page)| page.0 = 0);
                }
                Step::Store(p, value) => {
                    let result = space.touch(at(p), Some(value));
                    match model.get_mut(&p) {
                        Some((byte, true)) => { prop_assert!(result.is_ok()); *byte = value; }
                        _ => prop_assert_eq!(result, Err(libc::SIGSEGV)),
                    }
                }
                Step::Write(p, n, value) => {
                    let bytes = vec![value; (n * PAGE_SIZE) as usize];
                    let done = space.write_some(UserAddress(at(p)), &bytes).unwrap_or(0) as u64 / PAGE_SIZE;
                    let expected = (p..p + n).take_while(|page| model.get(page).is_some_and(|page| page.1)).count() as u64;
                    prop_assert_eq!(done, expected);
                    (p..p + done).for_each(|page| model.get_mut(&page).unwrap().0 = value);
                }
                Step::Move(p, to, n) => {
                    let remap = RemapRequest {
                        old: at(p), old_length: n * PAGE_SIZE, new_length: n * PAGE_SIZE, may_move: true,
                        fixed: Some(at(to)), keep: false,
                    };
                    let before: Vec<_> = (p..p + n).map_while(|page| model.get(&page).copied()).collect();
                    let movable = before.len() as u64 == n && before.iter().all(|page| page.1 == before[0].1);
                    let apart = p + n <= to || to + n <= p;
                    let result = space.remap(&remap, &Limits::UNLIMITED);
                    prop_assert_eq!(result.is_ok(), movable && apart);
                    if result.is_ok() {
                        model.retain(|page, _| !(p..p + n).contains(page));
                        before.into_iter().enumerate().for_each(|(i, page)| { model.insert(to + i as u64, page); });
                    }
                }
                Step::Fork if count < 5 => {
                    let child = (space.fork(&[]).unwrap(), model.clone());
                    all.push(child);
                }
                Step::Fork => {}
                Step::Switch(to) => current = to % count,
                Step::Exit(i) if count > 1 => {
                    all.remove(i % count);
                    current = 0;
                }
                Step::Exit(_) => {}
            }
            for (space, model) in &all {
                for page in 0..PAGES + 20 {
                    let expected = model.get(&page).map(|page| page.0).ok_or(libc::SIGSEGV);
                    prop_assert_eq!(space.touch(at(page), None), expected);
                }
            }
        }
        drop(all);
        // Nothing is left but small ranges that wait to be used again.
        prop_assert!(memory.used() <= 64 * 16 * PAGE_SIZE);
    }
}
