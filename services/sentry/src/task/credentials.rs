//! Who a task is: user and group ids, capabilities, securebits; and how execve(2) changes them (capabilities(7)).

use bulkhead_ipc::setup::CapabilitySets;

/// Capability numbers of capabilities(7).
#[allow(missing_docs)]
pub mod capability {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const LINUX_IMMUTABLE: u32 = 9;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_ADMIN: u32 = 12;
    pub const NET_RAW: u32 = 13;
    pub const IPC_LOCK: u32 = 14;
    pub const IPC_OWNER: u32 = 15;
    pub const SYS_MODULE: u32 = 16;
    pub const SYS_RAWIO: u32 = 17;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_PACCT: u32 = 20;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_BOOT: u32 = 22;
    pub const SYS_NICE: u32 = 23;
    pub const SYS_RESOURCE: u32 = 24;
    pub const SYS_TIME: u32 = 25;
    pub const SYS_TTY_CONFIG: u32 = 26;
    pub const MKNOD: u32 = 27;
    pub const LEASE: u32 = 28;
    pub const SETFCAP: u32 = 31;
    pub const MAC_OVERRIDE: u32 = 32;
    pub const SYSLOG: u32 = 34;
    pub const BPF: u32 = 39;
    pub const CHECKPOINT_RESTORE: u32 = 40;
    /// The highest number there is.
    pub const LAST: u32 = 40;
    /// All of them.
    pub const ALL: u64 = (1 << (LAST + 1)) - 1;
    /// Those that decide about files: setfsuid(2) takes them from and gives them to a changed file-system user.
    pub const FILES: u64 = 1 << CHOWN
        | 1 << DAC_OVERRIDE
        | 1 << DAC_READ_SEARCH
        | 1 << FOWNER
        | 1 << FSETID
        | 1 << LINUX_IMMUTABLE
        | 1 << MKNOD
        | 1 << MAC_OVERRIDE;
}

/// SECBIT_NOROOT.
pub const SECBIT_NOROOT: u32 = 1;
/// SECBIT_NO_SETUID_FIXUP.
pub const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
/// SECBIT_KEEP_CAPS.
pub const SECBIT_KEEP_CAPS: u32 = 1 << 4;
/// SECBIT_KEEP_CAPS_LOCKED.
pub const SECBIT_KEEP_CAPS_LOCKED: u32 = 1 << 5;
/// SECBIT_NO_CAP_AMBIENT_RAISE.
pub const SECBIT_NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
/// Every bit that lies directly below its lock.
pub const SECBITS: u32 = 0x55;
/// Every lock.
pub const SECBIT_LOCKS: u32 = 0xaa;

/// credentials(7), immutable: a change makes a new one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    pub capabilities: CapabilitySets,
    pub securebits: u32,
    pub no_new_privileges: bool,
}

impl Credentials {
    /// Whether the effective set has this capability (a number of [`capability`]).
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities.effective & (1 << capability) != 0
    }

    /// Whether `gid` is the file-system group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }

    /// Whether one may look into and steer a process with these credentials (ptrace(2)'s access check, by real ids).
    pub fn may_inspect(&self, other: &Credentials) -> bool {
        let users = [other.uid, other.euid, other.suid].iter().all(|id| *id == self.uid);
        let groups = [other.gid, other.egid, other.sgid].iter().all(|id| *id == self.gid);
        users && groups || self.has(capability::SYS_PTRACE)
    }

    /// What a change of the user ids does to the capabilities (cap_emulate_setxuid of Linux). `self` has the new ids.
    pub fn after_user_change(mut self, old: &Credentials) -> Credentials {
        if self.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
            return self;
        }
        let had_root = old.uid == 0 || old.euid == 0 || old.suid == 0;
        let has_root = self.uid == 0 || self.euid == 0 || self.suid == 0;
        let caps = &mut self.capabilities;
        if had_root && !has_root {
            if self.securebits & SECBIT_KEEP_CAPS == 0 {
                caps.permitted = 0;
                caps.effective = 0;
            }
            // Ambient capabilities go in any case.
            caps.ambient = 0;
        }
        if old.euid == 0 && self.euid != 0 {
            caps.effective = 0;
        }
        if old.euid != 0 && self.euid == 0 {
            caps.effective = caps.permitted;
        }
        self
    }

    /// What a change of the file-system user id alone does.
    pub fn after_filesystem_user_change(mut self, old: &Credentials) -> Credentials {
        if self.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
            return self;
        }
        let caps = &mut self.capabilities;
        if old.fsuid == 0 && self.fsuid != 0 {
            caps.effective &= !capability::FILES;
        }
        if old.fsuid != 0 && self.fsuid == 0 {
            caps.effective |= caps.permitted & capability::FILES;
        }
        self
    }

    /// What execve(2) makes of them for a program with these set-user-id and set-group-id owners (already refused by the
    /// loader where no_new_privs or nosuid says so). The flag says whether the program is to run "secure" (AT_SECURE).
    pub fn after_exec(&self, set_uid: Option<u32>, set_gid: Option<u32>) -> (Credentials, bool) {
        let mut new = self.clone();
        if let Some(uid) = set_uid {
            new.euid = uid;
        }
        if let Some(gid) = set_gid {
            new.egid = gid;
        }
        let changed = new.euid != self.euid || new.egid != self.egid;
        (new.suid, new.fsuid, new.sgid, new.fsgid) = (new.euid, new.euid, new.egid, new.egid);

        let old = &self.capabilities;
        let root_is_special = self.securebits & SECBIT_NOROOT == 0;
        // File capabilities: none, but for root's, which has all of them.
        let (mut file_inheritable, mut file_permitted, mut file_effective) = (0, 0, false);
        if root_is_special {
            if new.euid == 0 || new.uid == 0 {
                (file_inheritable, file_permitted) = (capability::ALL, capability::ALL);
            }
            file_effective = new.euid == 0;
        }
        let privileged_file = changed;
        let caps = &mut new.capabilities;
        caps.ambient = if privileged_file { 0 } else { old.ambient };
        caps.permitted = (old.inheritable & file_inheritable) | (file_permitted & old.bounding) | caps.ambient;
        caps.effective = if file_effective { caps.permitted } else { caps.ambient };
        new.securebits &= !SECBIT_KEEP_CAPS;
        let gained = new.capabilities.permitted & !new.capabilities.ambient != 0;
        let secure = changed || (new.uid != 0 && gained && (file_effective || new.euid == 0));
        (new, secure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: u64 = 0xa804_25fb;

    fn user(uid: u32, capabilities: CapabilitySets) -> Credentials {
        Credentials { uid, euid: uid, suid: uid, fsuid: uid, capabilities, ..Default::default() }
    }
    fn sets(permitted: u64, effective: u64, inheritable: u64, ambient: u64) -> CapabilitySets {
        CapabilitySets { bounding: DOCKER, permitted, effective, inheritable, ambient }
    }

    #[test]
    fn root_gets_the_bounding_set_on_exec() {
        let (new, secure) = user(0, sets(0, 0, 0, 0)).after_exec(None, None);
        assert_eq!(new.capabilities, sets(DOCKER, DOCKER, 0, 0));
        assert!(!secure);
    }

    #[test]
    fn a_user_keeps_only_ambient_capabilities_on_exec() {
        let net = 1 << capability::NET_BIND_SERVICE;
        let (new, _) = user(1000, sets(DOCKER, DOCKER, net, net)).after_exec(None, None);
        assert_eq!(new.capabilities, sets(net, net, net, net));
        let (new, _) = user(1000, sets(DOCKER, DOCKER, 0, 0)).after_exec(None, None);
        assert_eq!(new.capabilities, sets(0, 0, 0, 0));
    }

    #[test]
    fn a_set_user_id_root_program_is_privileged_secure_and_loses_ambient() {
        let net = 1 << capability::NET_BIND_SERVICE;
        let (new, secure) = user(1000, sets(net, net, net, net)).after_exec(Some(0), None);
        assert_eq!((new.uid, new.euid, new.suid, new.fsuid), (1000, 0, 0, 0));
        assert_eq!(new.capabilities, sets(DOCKER | net, DOCKER | net, net, 0));
        assert!(secure);
    }

    #[test]
    fn noroot_takes_the_magic_from_root() {
        let mut root = user(0, sets(DOCKER, DOCKER, 0, 0));
        root.securebits = SECBIT_NOROOT;
        assert_eq!(root.after_exec(None, None).0.capabilities, sets(0, 0, 0, 0));
    }

    #[test]
    fn leaving_root_clears_capabilities_unless_kept() {
        let root = user(0, sets(DOCKER, DOCKER, 0, 0));
        let become_user =
            |root: &Credentials| Credentials { uid: 5, euid: 5, suid: 5, fsuid: 5, ..root.clone() }.after_user_change(root);
        assert_eq!(become_user(&root).capabilities, sets(0, 0, 0, 0));
        let keeping = Credentials { securebits: SECBIT_KEEP_CAPS, ..root };
        assert_eq!(become_user(&keeping).capabilities, sets(DOCKER, 0, 0, 0));
    }
}
