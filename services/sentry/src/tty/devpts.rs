//! devpts: the file system in which pseudo-terminals have names, and the device ptmx that makes them.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use bulkhead_ipc::{
    Errno,
    vfs::{Attributes, ForeignFs},
};
use parking_lot::Mutex;

use super::{
    console::Console,
    file::{Master, Slave},
    pty::Pty,
};
use crate::{
    fs::{
        FileOps,
        ownership::Ownership,
        special::{SpecialEntry, SpecialNode, device},
    },
    kernel::Kernel,
    task::Thread,
};

/// /proc/sys/kernel/pty/max.
pub const MOST: u32 = 4096;
/// Device number of ptmx.
const PTMX: (u32, u32) = (5, 2);

const CAP_CHOWN: u32 = 0;
const CAP_FOWNER: u32 = 3;

/// Options of a devpts mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Who owns a slave; whoever opened its master when not given.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// Permission bits of slaves.
    pub mode: u32,
    /// Permission bits of ptmx.
    pub ptmx_mode: u32,
    /// Terminals at most.
    pub most: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { uid: None, gid: None, mode: 0o600, ptmx_mode: 0, most: MOST }
    }
}

impl Options {
    /// From mount(8)'s comma-separated form; what is unknown or no number is ignored.
    pub fn parse(text: &str) -> Options {
        let mut options = Options::default();
        for option in text.split(',') {
            let Some((name, value)) = option.split_once('=') else { continue };
            let permissions = || u32::from_str_radix(value, 8).ok().map(|mode| mode & 0o777);
            match name {
                "uid" => options.uid = value.parse().ok(),
                "gid" => options.gid = value.parse().ok(),
                "mode" => options.mode = permissions().unwrap_or(options.mode),
                "ptmxmode" => options.ptmx_mode = permissions().unwrap_or(options.ptmx_mode),
                "max" => options.most = value.parse().map_or(options.most, |most: u32| most.min(MOST)),
                _ => {}
            }
        }
        options
    }
}

/// All terminals of the kernel.
#[derive(Default)]
pub struct Terminals {
    devpts: Mutex<Option<Arc<Devpts>>>,
    pub(super) consoles: Mutex<Vec<Arc<Console>>>,
}

impl Terminals {
    /// The container's devpts, made when it is asked for.
    pub fn devpts(&self, kernel: &Kernel) -> Arc<Devpts> {
        let made = || Devpts::new(Options::parse(&kernel.settings.devpts_options));
        self.devpts.lock().get_or_insert_with(made).clone()
    }
}

/// A number that was given out. It is taken as long as somebody has an end open, and names the terminal as long as it has a master.
struct Entry {
    pty: Weak<Pty>,
    named: bool,
}

impl Entry {
    fn is_free(&self) -> bool {
        !self.named && self.pty.strong_count() == 0
    }

    fn named(&self) -> Option<Arc<Pty>> {
        self.pty.upgrade().filter(|_| self.named)
    }
}

/// One devpts.
pub struct Devpts {
    options: Options,
    ptys: Mutex<BTreeMap<u32, Entry>>,
    ptmx_mode: Mutex<u32>,
    itself: Weak<Devpts>,
}

impl Devpts {
    /// Without terminals.
    pub fn new(options: Options) -> Arc<Devpts> {
        Arc::new_cyclic(|itself| Devpts {
            options,
            ptys: Mutex::default(),
            ptmx_mode: Mutex::new(options.ptmx_mode),
            itself: itself.clone(),
        })
    }

    /// A new terminal of the caller's, with the lowest free number; ENOSPC when there are too many.
    pub(super) fn allocate(&self, thread: &Thread) -> Result<Arc<Pty>, Errno> {
        let credentials = thread.credentials();
        self.add(&thread.kernel, credentials.fsuid, credentials.fsgid)
    }

    /// A new terminal of this owner's, unless the mount's options name another.
    pub(super) fn add(&self, kernel: &Arc<Kernel>, uid: u32, gid: u32) -> Result<Arc<Pty>, Errno> {
        let itself = self.itself.upgrade().ok_or(Errno::EIO)?;
        let mut ptys = self.ptys.lock();
        let free = |number: &u32| ptys.get(number).is_none_or(Entry::is_free);
        let number = (0..self.options.most).find(free).ok_or(Errno::ENOSPC)?;
        let ownership = Ownership {
            permissions: self.options.mode,
            uid: self.options.uid.unwrap_or(uid),
            gid: self.options.gid.unwrap_or(gid),
        };
        let pty = Pty::new(kernel, &itself, number, ownership);
        ptys.insert(number, Entry { pty: Arc::downgrade(&pty), named: true });
        Ok(pty)
    }

    /// The terminal with this number.
    pub fn get(&self, number: u32) -> Option<Arc<Pty>> {
        self.ptys.lock().get(&number)?.named()
    }

    /// Takes a name away.
    pub(super) fn remove(&self, number: u32) {
        let mut ptys = self.ptys.lock();
        if let Some(entry) = ptys.get_mut(&number) {
            entry.named = false;
        }
        ptys.retain(|_, entry| !entry.is_free());
    }

    /// Number of terminals (/proc/sys/kernel/pty/nr).
    pub fn count(&self) -> usize {
        self.ptys.lock().values().filter(|entry| !entry.is_free()).count()
    }

    /// The terminals that have names, the newest first.
    fn named(&self) -> Vec<Arc<Pty>> {
        self.ptys.lock().values().rev().filter_map(Entry::named).collect()
    }
}

/// The root directory of a devpts.
pub struct Root {
    devpts: Arc<Devpts>,
}

impl Root {
    /// Of this one.
    pub fn new(devpts: Arc<Devpts>) -> Root {
        Root { devpts }
    }
}

impl SpecialNode for Root {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(Attributes { inode: 1, links: 2, mode: libc::S_IFDIR | 0o755, ..Attributes::default() })
    }

    fn lookup(&self, _: &Thread, name: &[u8]) -> Result<Arc<dyn SpecialNode>, Errno> {
        if name == b"ptmx" {
            return Ok(Arc::new(Ptmx { devpts: self.devpts.clone() }));
        }
        let number = std::str::from_utf8(name).ok().and_then(crate::procfs::number).ok_or(Errno::ENOENT)?;
        let pty = u32::try_from(number).ok().and_then(|number| self.devpts.get(number)).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(SlaveNode { pty }))
    }

    fn entries(&self, _: &Thread) -> Result<Vec<SpecialEntry>, Errno> {
        let entry = |name: String, inode| SpecialEntry { name: name.into_bytes(), inode, kind: libc::DT_CHR };
        let named = self.devpts.named();
        let mut entries: Vec<_> = named.iter().map(|pty| entry(pty.number.to_string(), pty.attributes().inode)).collect();
        entries.push(entry("ptmx".into(), 2));
        Ok(entries)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The device that makes terminals.
struct Ptmx {
    devpts: Arc<Devpts>,
}

impl Ptmx {
    fn inode(&self) -> Attributes {
        Attributes {
            device: device(ForeignFs::Devpts),
            inode: 2,
            links: 1,
            mode: libc::S_IFCHR | *self.devpts.ptmx_mode.lock(),
            special_device: libc::makedev(PTMX.0, PTMX.1),
            block_size: 1024,
            ..Attributes::default()
        }
    }
}

impl SpecialNode for Ptmx {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(self.inode())
    }

    fn open(self: Arc<Self>, thread: &Thread, _: u32) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(Master::open(thread, &self.devpts, self.inode())?)
    }

    fn set_mode(&self, thread: &Thread, mode: u32) -> Result<(), Errno> {
        let credentials = thread.credentials();
        if credentials.fsuid != 0 && !credentials.has(CAP_FOWNER) {
            return Err(Errno::EPERM);
        }
        *self.devpts.ptmx_mode.lock() = mode & 0o777;
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A slave's node.
struct SlaveNode {
    pty: Arc<Pty>,
}

impl SpecialNode for SlaveNode {
    fn attributes(&self, _: &Thread) -> Result<Attributes, Errno> {
        Ok(self.pty.attributes())
    }

    fn open(self: Arc<Self>, thread: &Thread, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(Slave::open(thread, &self.pty, flags, None)?)
    }

    fn set_mode(&self, thread: &Thread, mode: u32) -> Result<(), Errno> {
        let credentials = thread.credentials();
        let mut ownership = self.pty.ownership.lock();
        if credentials.fsuid != ownership.uid && !credentials.has(CAP_FOWNER) {
            return Err(Errno::EPERM);
        }
        ownership.permissions = mode & 0o7777;
        Ok(())
    }

    fn set_owner(&self, thread: &Thread, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let credentials = thread.credentials();
        let mut ownership = self.pty.ownership.lock();
        let own = credentials.fsuid == ownership.uid;
        let member = |gid: u32| gid == credentials.fsgid || credentials.groups.contains(&gid);
        let allowed = uid.is_none_or(|uid| own && uid == ownership.uid) && gid.is_none_or(|gid| own && member(gid));
        if !allowed && !credentials.has(CAP_CHOWN) {
            return Err(Errno::EPERM);
        }
        ownership.uid = uid.unwrap_or(ownership.uid);
        ownership.gid = gid.unwrap_or(ownership.gid);
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_mount_are_understood() {
        let options = Options::parse("newinstance,ptmxmode=0666,mode=0620,gid=5");
        assert_eq!(options, Options { gid: Some(5), mode: 0o620, ptmx_mode: 0o666, ..Options::default() });
        assert_eq!(Options::parse("mode=banana,max=9999999"), Options::default());
    }
}
