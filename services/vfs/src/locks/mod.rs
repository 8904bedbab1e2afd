//! Advisory locks of one inode: record locks (POSIX and open file description) with splitting and merging, and flock(2) locks.
//! Waiting is the sentry's: a lock that conflicts is EAGAIN here.

use bulkhead_ipc::{
    Errno,
    vfs::{Lock, LockFamily, LockKind},
};

/// Locks on one inode at most; ENOLCK beyond.
const LIMIT: usize = 65536;

/// The locks of an inode. Invariant: record locks of one owner do not overlap, and neighbours of the same kind are one.
#[derive(Debug, Default)]
pub struct Locks {
    record: Vec<Lock>,
    flock: Vec<Lock>,
}

fn conflict(held: &Lock, wanted: &Lock) -> bool {
    held.owner != wanted.owner
        && held.start <= wanted.end
        && wanted.start <= held.end
        && (held.kind == LockKind::Write || wanted.kind == LockKind::Write)
}

impl Locks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.record.is_empty() && self.flock.is_empty()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Lock> {
        self.record.iter().chain(&self.flock)
    }

    fn of(&mut self, family: LockFamily) -> &mut Vec<Lock> {
        match family {
            LockFamily::Record => &mut self.record,
            LockFamily::Flock => &mut self.flock,
        }
    }

    /// F_SETLK, flock(2): sets, changes or clears.
    pub fn set(&mut self, mut lock: Lock) -> Result<(), Errno> {
        if lock.family == LockFamily::Flock {
            (lock.start, lock.end) = (0, u64::MAX);
        }
        if lock.start > lock.end {
            return Err(Errno::EINVAL);
        }
        let locks = self.of(lock.family);
        if lock.kind != LockKind::Unlock && locks.iter().any(|held| conflict(held, &lock)) {
            return Err(Errno::EAGAIN);
        }
        if locks.len() >= LIMIT && lock.kind != LockKind::Unlock {
            return Err(Errno::ENOLCK);
        }
        cut(locks, &lock);
        if lock.kind != LockKind::Unlock {
            merge(locks, lock);
        }
        Ok(())
    }

    /// F_GETLK: a lock that is in the way.
    pub fn get(&mut self, lock: &Lock) -> Option<Lock> {
        self.of(lock.family).iter().filter(|held| conflict(held, lock)).min_by_key(|held| held.start).copied()
    }

    /// Forgets an owner.
    pub fn drop_owner(&mut self, family: LockFamily, owner: u64) {
        self.of(family).retain(|held| held.owner != owner);
    }
}

/// Takes the range of `lock` out of what its owner holds.
fn cut(locks: &mut Vec<Lock>, lock: &Lock) {
    let mut rest = Vec::new();
    locks.retain(|held| {
        if held.owner != lock.owner || held.end < lock.start || lock.end < held.start {
            return true;
        }
        if held.start < lock.start {
            rest.push(Lock { end: lock.start - 1, ..*held });
        }
        if held.end > lock.end {
            rest.push(Lock { start: lock.end + 1, ..*held });
        }
        false
    });
    locks.append(&mut rest);
}

/// Adds `lock`, whose range is free, and joins it to its neighbours.
fn merge(locks: &mut Vec<Lock>, mut lock: Lock) {
    locks.retain(|held| {
        let same = held.owner == lock.owner && held.kind == lock.kind;
        let before = held.end.checked_add(1) == Some(lock.start);
        let behind = lock.end.checked_add(1) == Some(held.start);
        if !(same && (before || behind)) {
            return true;
        }
        lock.start = lock.start.min(held.start);
        lock.end = lock.end.max(held.end);
        false
    });
    locks.push(lock);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: u64, kind: LockKind, start: u64, end: u64) -> Lock {
        Lock { family: LockFamily::Record, kind, owner, pid: owner as i32, start, end }
    }

    fn ranges(locks: &Locks) -> Vec<(u64, LockKind, u64, u64)> {
        let mut all: Vec<_> = locks.record.iter().map(|l| (l.owner, l.kind, l.start, l.end)).collect();
        all.sort_by_key(|l| (l.0, l.2));
        all
    }

    #[test]
    fn unlocking_the_middle_splits_and_locking_it_again_merges() {
        let mut locks = Locks::default();
        locks.set(lock(1, LockKind::Write, 0, u64::MAX)).unwrap();
        locks.set(lock(1, LockKind::Unlock, 10, 19)).unwrap();
        assert_eq!(ranges(&locks), [(1, LockKind::Write, 0, 9), (1, LockKind::Write, 20, u64::MAX)]);
        locks.set(lock(2, LockKind::Write, 10, 19)).unwrap();
        assert_eq!(locks.set(lock(1, LockKind::Read, 5, 12)), Err(Errno::EAGAIN));
        locks.drop_owner(LockFamily::Record, 2);
        locks.set(lock(1, LockKind::Write, 10, 19)).unwrap();
        assert_eq!(ranges(&locks), [(1, LockKind::Write, 0, u64::MAX)]);
    }

    #[test]
    fn a_downgrade_lets_readers_in() {
        let mut locks = Locks::default();
        locks.set(lock(1, LockKind::Write, 0, 9)).unwrap();
        let wanted = lock(2, LockKind::Read, 0, 9);
        assert_eq!(locks.get(&wanted).unwrap().pid, 1);
        locks.set(lock(1, LockKind::Read, 0, 9)).unwrap();
        assert_eq!(locks.get(&wanted), None);
        locks.set(wanted).unwrap();
        assert_eq!(locks.set(lock(1, LockKind::Write, 0, 0)), Err(Errno::EAGAIN));
    }

    #[test]
    fn flock_and_record_locks_do_not_see_each_other() {
        let mut locks = Locks::default();
        locks.set(lock(1, LockKind::Write, 0, 9)).unwrap();
        let flock = Lock { family: LockFamily::Flock, ..lock(2, LockKind::Write, 3, 3) };
        locks.set(flock).unwrap();
        assert_eq!(locks.set(Lock { owner: 3, kind: LockKind::Read, ..flock }), Err(Errno::EAGAIN));
        assert!(!locks.is_empty());
    }
}
