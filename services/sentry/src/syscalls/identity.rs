//! User and group ids, supplementary groups, capabilities (credentials(7), capabilities(7)).

use std::sync::{Arc, atomic::Ordering};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    abi::{Arguments, SysResult, UserAddress},
    task::{Credentials, Thread, capability},
};

/// "Leave as it is", in setreuid(2) and the like; no id.
const KEEP: u32 = u32::MAX;
/// NGROUPS_MAX.
const MOST_GROUPS: i32 = 65536;

impl Thread {
    /// Takes on new credentials. A process whose effective ids change is no longer dumpable, and no longer told of its parent's
    /// death.
    pub(crate) fn set_credentials(&mut self, new: Credentials) {
        let old = self.credentials();
        let ids = |c: &Credentials| (c.euid, c.egid, c.fsuid, c.fsgid);
        if ids(&old) != ids(&new) || new.capabilities.permitted & !old.capabilities.permitted != 0 {
            self.process.dumpable.store(0, Ordering::Relaxed);
            self.parent_death_signal.store(0, Ordering::Relaxed);
        }
        *self.task.credentials.write() = Arc::new(new);
    }
}

/// getuid(2).
pub fn getuid(thread: &mut Thread, _: Arguments) -> SysResult {
    Ok(thread.credentials().uid.into())
}

/// geteuid(2).
pub fn geteuid(thread: &mut Thread, _: Arguments) -> SysResult {
    Ok(thread.credentials().euid.into())
}

/// getgid(2).
pub fn getgid(thread: &mut Thread, _: Arguments) -> SysResult {
    Ok(thread.credentials().gid.into())
}

/// getegid(2).
pub fn getegid(thread: &mut Thread, _: Arguments) -> SysResult {
    Ok(thread.credentials().egid.into())
}

/// getresuid(2).
pub fn getresuid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let c = thread.credentials();
    write_three(thread, arguments, [c.uid, c.euid, c.suid])
}

/// getresgid(2).
pub fn getresgid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let c = thread.credentials();
    write_three(thread, arguments, [c.gid, c.egid, c.sgid])
}

fn write_three(thread: &Thread, arguments: Arguments, ids: [u32; 3]) -> SysResult {
    let memory = thread.memory();
    for (i, id) in ids.iter().enumerate() {
        memory.write_value(arguments.address(i), id)?;
    }
    Ok(0)
}

/// The three ids of one kind, and what changes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ids {
    real: u32,
    effective: u32,
    saved: u32,
}

impl Ids {
    fn has(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid(2).
    fn set(self, id: u32, privileged: bool) -> Result<Ids, Errno> {
        if id == KEEP {
            Err(Errno::EINVAL)
        } else if privileged {
            Ok(Ids { real: id, effective: id, saved: id })
        } else if id == self.real || id == self.saved {
            Ok(Ids { effective: id, ..self })
        } else {
            Err(Errno::EPERM)
        }
    }

    /// setreuid(2).
    fn set_two(self, real: u32, effective: u32, privileged: bool) -> Result<Ids, Errno> {
        let mut new = self;
        if real != KEEP {
            if !privileged && real != self.real && real != self.effective {
                return Err(Errno::EPERM);
            }
            new.real = real;
        }
        if effective != KEEP {
            if !privileged && !self.has(effective) {
                return Err(Errno::EPERM);
            }
            new.effective = effective;
        }
        if real != KEEP || effective != KEEP && effective != self.real {
            new.saved = new.effective;
        }
        Ok(new)
    }

    /// setresuid(2).
    fn set_three(self, ids: [u32; 3], privileged: bool) -> Result<Ids, Errno> {
        if !privileged && ids.iter().any(|id| *id != KEEP && !self.has(*id)) {
            return Err(Errno::EPERM);
        }
        let pick = |new, old| if new == KEEP { old } else { new };
        let [real, effective, saved] = ids;
        Ok(Ids { real: pick(real, self.real), effective: pick(effective, self.effective), saved: pick(saved, self.saved) })
    }
}

/// Changes the user ids, and the capabilities with them.
fn change_user(thread: &mut Thread, change: impl FnOnce(Ids, bool) -> Result<Ids, Errno>) -> SysResult {
    let old = thread.credentials();
    let ids = Ids { real: old.uid, effective: old.euid, saved: old.suid };
    let new = change(ids, old.has(capability::SETUID))?;
    let changed =
        Credentials { uid: new.real, euid: new.effective, suid: new.saved, fsuid: new.effective, ..Credentials::clone(&old) };
    thread.set_credentials(changed.after_user_change(&old));
    Ok(0)
}

/// Changes the group ids.
fn change_group(thread: &mut Thread, change: impl FnOnce(Ids, bool) -> Result<Ids, Errno>) -> SysResult {
    let old = thread.credentials();
    let ids = Ids { real: old.gid, effective: old.egid, saved: old.sgid };
    let new = change(ids, old.has(capability::SETGID))?;
    thread.set_credentials(Credentials {
        gid: new.real,
        egid: new.effective,
        sgid: new.saved,
        fsgid: new.effective,
        ..Credentials::clone(&old)
    });
    Ok(0)
}

/// setuid(2).
pub fn setuid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    change_user(thread, |ids, privileged| ids.set(arguments.uint(0), privileged))
}

/// setgid(2).
pub fn setgid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    change_group(thread, |ids, privileged| ids.set(arguments.uint(0), privileged))
}

/// setreuid(2).
pub fn setreuid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    change_user(thread, |ids, privileged| ids.set_two(arguments.uint(0), arguments.uint(1), privileged))
}

/// setregid(2).
pub fn setregid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    change_group(thread, |ids, privileged| ids.set_two(arguments.uint(0), arguments.uint(1), privileged))
}

/// setresuid(2).
pub fn setresuid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let wanted = [arguments.uint(0), arguments.uint(1), arguments.uint(2)];
    change_user(thread, |ids, privileged| ids.set_three(wanted, privileged))
}

/// setresgid(2).
pub fn setresgid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let wanted = [arguments.uint(0), arguments.uint(1), arguments.uint(2)];
    change_group(thread, |ids, privileged| ids.set_three(wanted, privileged))
}

/// setfsuid(2): tells the old one, whether or not it changed it.
pub fn setfsuid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (old, id) = (thread.credentials(), arguments.uint(0));
    let allowed = [old.uid, old.euid, old.suid, old.fsuid].contains(&id) || old.has(capability::SETUID);
    if id != KEEP && id != old.fsuid && allowed {
        let new = Credentials { fsuid: id, ..Credentials::clone(&old) };
        thread.set_credentials(new.after_filesystem_user_change(&old));
    }
    Ok(old.fsuid.into())
}

/// setfsgid(2).
pub fn setfsgid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (old, id) = (thread.credentials(), arguments.uint(0));
    let allowed = [old.gid, old.egid, old.sgid, old.fsgid].contains(&id) || old.has(capability::SETGID);
    if id != KEEP && id != old.fsgid && allowed {
        thread.set_credentials(Credentials { fsgid: id, ..Credentials::clone(&old) });
    }
    Ok(old.fsgid.into())
}

/// getgroups(2).
pub fn getgroups(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let groups = &thread.credentials().groups;
    match arguments.int(0) {
        0 => {}
        size if size < 0 || (size as usize) < groups.len() => return Err(Errno::EINVAL),
        _ => thread.memory().write(arguments.address(1), groups.as_bytes())?,
    }
    Ok(groups.len() as u64)
}

/// setgroups(2).
pub fn setgroups(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let old = thread.credentials();
    if !old.has(capability::SETGID) {
        return Err(Errno::EPERM);
    }
    let count = arguments.int(0);
    if !(0..=MOST_GROUPS).contains(&count) {
        return Err(Errno::EINVAL);
    }
    let mut groups = vec![0u32; count as usize];
    thread.memory().read(arguments.address(1), groups.as_mut_bytes())?;
    if groups.contains(&KEEP) {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    thread.set_credentials(Credentials { groups, ..Credentials::clone(&old) });
    Ok(0)
}

/// struct __user_cap_header_struct.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// struct __user_cap_data_struct: 32 capabilities of each set.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// How many words each set has; an unknown version is told ours.
fn capability_words(thread: &Thread, at: UserAddress, header: CapabilityHeader) -> Result<usize, Errno> {
    match header.version {
        VERSION_1 => Ok(1),
        VERSION_2 | VERSION_3 => Ok(2),
        _ => {
            thread.memory().write_value(at, &CapabilityHeader { version: VERSION_3, ..header })?;
            Err(Errno::EINVAL)
        }
    }
}

/// capget(2).
pub fn capget(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let (at, data) = (arguments.address(0), arguments.address(1));
    let header: CapabilityHeader = thread.memory().read_value(at)?;
    let words = match capability_words(thread, at, header) {
        // So one asks for the version.
        Err(Errno::EINVAL) if data.is_null() => return Ok(0),
        words => words?,
    };
    let sets = thread.task.find(header.pid)?.credentials().capabilities;
    if data.is_null() {
        return Ok(0);
    }
    let word = |i: u32| CapabilityWords {
        effective: (sets.effective >> (32 * i)) as u32,
        permitted: (sets.permitted >> (32 * i)) as u32,
        inheritable: (sets.inheritable >> (32 * i)) as u32,
    };
    let both = [word(0), word(1)];
    thread.memory().write(data, both.get(..words).unwrap_or_default().as_bytes())?;
    Ok(0)
}

/// capset(2).
pub fn capset(thread: &mut Thread, arguments: Arguments) -> SysResult {
    let header: CapabilityHeader = thread.memory().read_value(arguments.address(0))?;
    let words = capability_words(thread, arguments.address(0), header)?;
    if header.pid != 0 && header.pid != thread.tid() {
        return Err(Errno::EPERM);
    }
    let mut data = [CapabilityWords::default(); 2];
    thread.memory().read(arguments.address(1), data.get_mut(..words).unwrap_or_default().as_mut_bytes())?;
    let join = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32) & capability::ALL;
    let [low, high] = data;
    let effective = join(low.effective, high.effective);
    let permitted = join(low.permitted, high.permitted);
    let inheritable = join(low.inheritable, high.inheritable);

    let old = thread.credentials();
    let sets = &old.capabilities;
    let allowed_inheritable = if old.has(capability::SETPCAP) { u64::MAX } else { sets.inheritable | sets.permitted };
    if inheritable & !allowed_inheritable != 0
        || inheritable & !(sets.inheritable | sets.bounding) != 0
        || permitted & !sets.permitted != 0
        || effective & !permitted != 0
    {
        return Err(Errno::EPERM);
    }
    let mut new = Credentials::clone(&old);
    new.capabilities.effective = effective;
    new.capabilities.permitted = permitted;
    new.capabilities.inheritable = inheritable;
    new.capabilities.ambient &= permitted & inheritable;
    thread.set_credentials(new);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET_UID_PROGRAM: Ids = Ids { real: 1000, effective: 0, saved: 0 };

    #[test]
    fn an_unprivileged_process_moves_between_its_own_ids_only() {
        let user = Ids { real: 1000, effective: 1000, saved: 0 };
        assert_eq!(user.set(0, false), Ok(Ids { effective: 0, ..user }));
        assert_eq!(user.set(5, false), Err(Errno::EPERM));
        assert_eq!(user.set_three([KEEP, 0, KEEP], false), Ok(Ids { effective: 0, ..user }));
        assert_eq!(user.set_three([5, KEEP, KEEP], false), Err(Errno::EPERM));
        assert_eq!(user.set_two(0, KEEP, false), Err(Errno::EPERM));
    }

    #[test]
    fn a_privileged_setuid_sets_all_three() {
        assert_eq!(SET_UID_PROGRAM.set(7, true), Ok(Ids { real: 7, effective: 7, saved: 7 }));
        assert_eq!(SET_UID_PROGRAM.set(KEEP, true), Err(Errno::EINVAL));
    }

    #[test]
    fn setreuid_swaps_and_saves() {
        let swapped = SET_UID_PROGRAM.set_two(0, 1000, false);
        assert_eq!(swapped, Ok(Ids { real: 0, effective: 1000, saved: 1000 }));
        assert_eq!(SET_UID_PROGRAM.set_two(KEEP, 1000, false), Ok(Ids { effective: 1000, ..SET_UID_PROGRAM }));
    }
}
