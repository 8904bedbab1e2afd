//! mount(2), umount2(2) and the mount table.

use bulkhead_ipc::{
    Errno,
    vfs::{At, ForeignFs, MountInfo, NodeId, Reply},
};

use super::kind;
use crate::{
    gofer::Gofer,
    mounts::{Mount, Place, Target},
    permissions::{Capability, has},
    walk::{Stop, Walked},
    world::{World, device_of},
};

/// Flags of mount(2) that become ST_* flags of the mount. The numbers are the same but for MS_RELATIME.
const KEPT: u64 = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_NOATIME | libc::MS_NODIRATIME;
const PROPAGATION: u64 = libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;

fn mount_flags(flags: u64) -> u32 {
    let relatime = if flags & (libc::MS_NOATIME | libc::MS_STRICTATIME) == 0 { libc::ST_RELATIME as u32 } else { 0 };
    let kept = [
        (libc::MS_RDONLY, libc::ST_RDONLY),
        (libc::MS_NOSUID, libc::ST_NOSUID),
        (libc::MS_NODEV, libc::ST_NODEV),
        (libc::MS_NOEXEC, libc::ST_NOEXEC),
        (libc::MS_NOATIME, libc::ST_NOATIME),
        (libc::MS_NODIRATIME, libc::ST_NODIRATIME),
    ];
    kept.iter().filter(|(asked, _)| flags & KEPT & asked != 0).fold(relatime, |set, (_, flag)| set | *flag as u32)
}

impl World {
    /// mount(2). The error says whether it was the second path, the source, that failed.
    pub(super) fn mount(
        &mut self,
        gofer: &mut Gofer,
        source: Option<&At>,
        at: &At,
        fstype: &[u8],
        flags: u64,
        options: &[u8],
    ) -> Result<(), (Stop, bool)> {
        let first = |stop: Stop| (stop, false);
        let fail = |errno: Errno| (Stop::Errno(errno), false);
        if !has(&at.caller, Capability::SysAdmin) {
            return Err(fail(Errno::EPERM));
        }
        let place = self.resolve(gofer, at).map_err(first)?;
        let is_root =
            matches!(self.mounts.get(place.mount).map_err(fail)?.target, Target::Tree { root, .. } if root == place.dentry);
        if flags & libc::MS_REMOUNT != 0 {
            return if is_root { self.remount(place, flags).map_err(fail) } else { Err(fail(Errno::EINVAL)) };
        }
        if flags & PROPAGATION != 0 {
            // There is one mount namespace: nothing propagates.
            return if is_root { Ok(()) } else { Err(fail(Errno::EINVAL)) };
        }
        // What is mounted on must not be evicted while the source is walked.
        self.tree.hold(place.dentry);
        let result = if flags & (libc::MS_BIND | libc::MS_MOVE) != 0 {
            let source = match source {
                Some(source) => self.resolve(gofer, source).map_err(|stop| (stop, true)),
                None => Err(fail(Errno::EINVAL)),
            };
            source.and_then(|source| {
                let moved = flags & libc::MS_MOVE != 0;
                if moved { self.move_mount(source, place) } else { self.bind(source, place) }.map_err(fail)
            })
        } else {
            self.new_mount(place, fstype, flags, options).map_err(fail)
        };
        if result.is_err() {
            self.tree.release(place.dentry);
        }
        result
    }

    fn remount(&mut self, place: Place, flags: u64) -> Result<(), Errno> {
        self.mounts.get_mut(place.mount)?.flags = mount_flags(flags);
        Ok(())
    }

    fn same_type(&self, source: Place, place: Place) -> Result<(), Errno> {
        let directory = |place| Ok::<_, Errno>(kind(&self.inode(place)?.1) == libc::S_IFDIR);
        if directory(source)? == directory(place)? { Ok(()) } else { Err(Errno::ENOTDIR) }
    }

    fn bind(&mut self, source: Place, place: Place) -> Result<(), Errno> {
        self.same_type(source, place)?;
        let mount = self.mounts.get(source.mount)?.clone();
        let fs = self.tree.dentries[source.dentry].fs;
        self.tree.hold(source.dentry);
        let target = Target::Tree { fs, root: source.dentry };
        self.mounts.add(Mount { parent: Some(place), target, ..mount }, None).map(drop)
    }

    fn move_mount(&mut self, source: Place, place: Place) -> Result<(), Errno> {
        self.same_type(source, place)?;
        let mount = self.mounts.get(source.mount)?;
        if !matches!(mount.target, Target::Tree { root, .. } if root == source.dentry) || mount.parent.is_none() {
            return Err(Errno::EINVAL);
        }
        // A mount cannot go beneath itself.
        let mut above = place;
        loop {
            if above.mount == source.mount {
                return Err(Errno::ELOOP);
            }
            match self.mounts.get(above.mount)?.parent {
                Some(parent) => above = parent,
                None => break,
            }
        }
        let old = mount.parent;
        self.mounts.relocate(source.mount, place)?;
        if let Some(old) = old {
            self.tree.release(old.dentry);
        }
        Ok(())
    }

    fn new_mount(&mut self, place: Place, fstype: &[u8], flags: u64, options: &[u8]) -> Result<(), Errno> {
        let fstype = std::str::from_utf8(fstype).map_err(|_| Errno::EINVAL)?;
        let options = std::str::from_utf8(options).map_err(|_| Errno::EINVAL)?;
        let foreign = |fs| Target::Foreign { fs, inner: Vec::new() };
        if kind(&self.inode(place)?.1) != libc::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        let target = match fstype {
            "tmpfs" | "ramfs" => self.new_tmpfs(options)?,
            "proc" => foreign(ForeignFs::Proc),
            "sysfs" => foreign(ForeignFs::Sysfs),
            "devpts" => foreign(ForeignFs::Devpts),
            "mqueue" => foreign(ForeignFs::Mqueue),
            "cgroup" | "cgroup2" => foreign(ForeignFs::Cgroup),
            "" => return Err(Errno::EINVAL),
            _ => return Err(Errno::ENODEV),
        };
        let mount = Mount {
            id: 0,
            parent: Some(place),
            device: device_of(&self.tree, &target),
            target,
            flags: mount_flags(flags),
            fstype: fstype.to_owned(),
            source: fstype.to_owned(),
            options: options.to_owned(),
        };
        self.mounts.add(mount, None).map(drop)
    }

    pub(super) fn unmount(&mut self, gofer: &mut Gofer, at: &At, flags: u32) -> Walked<()> {
        if !has(&at.caller, Capability::SysAdmin) {
            return Err(Errno::EPERM.into());
        }
        let id = match self.resolve(gofer, at) {
            Ok(place) => {
                let mount = self.mounts.get(place.mount)?;
                if !matches!(mount.target, Target::Tree { root, .. } if root == place.dentry) {
                    return Err(Errno::EINVAL.into());
                }
                mount.id
            }
            // The root of a foreign mount: mounts are ours, whatever is in them.
            Err(Stop::Foreign(foreign)) => {
                self.nodes.forget(&mut self.tree, foreign.mountpoint);
                if !foreign.rest.is_empty() {
                    return Err(Errno::EINVAL.into());
                }
                foreign.mount
            }
            Err(stop) => return Err(stop),
        };
        let lazy = flags & libc::MNT_DETACH.cast_unsigned() != 0;
        let busy = self.nodes.uses_mount(id) || self.mounts.has_children(id);
        if self.mounts.get(id)?.parent.is_none() {
            return Err(Errno::EINVAL.into());
        }
        if busy {
            // Lazily, it would go on without a place; nobody here needs that yet.
            return Err(if lazy { Errno::EINVAL } else { Errno::EBUSY }.into());
        }
        if let Some(mount) = self.mounts.remove(id) {
            if let Some(parent) = mount.parent {
                self.tree.release(parent.dentry);
            }
            if let Target::Tree { root, .. } = mount.target {
                self.tree.release(root);
            }
        }
        Ok(())
    }

    /// The mounts that can be reached from a root directory.
    pub(crate) fn mount_table(&self, root: NodeId) -> Result<Reply, Errno> {
        let root = self.nodes.place(root)?;
        let mut table = Vec::new();
        for mount in self.mounts.all() {
            let mountpoint = match mount.parent {
                _ if mount.id == root.mount => b"/".to_vec(),
                Some(parent) => self.path_of(parent, root)?,
                None => continue,
            };
            if mountpoint.first() != Some(&b'/') {
                continue;
            }
            let inner = match &mount.target {
                Target::Tree { root, .. } => self.path_within(*root),
                Target::Foreign { inner, .. } => [b"/", &inner[..]].concat(),
            };
            table.push(MountInfo {
                id: mount.id,
                parent: mount.parent.map_or(0, |parent| parent.mount),
                device: mount.device,
                root: inner,
                mountpoint,
                flags: mount.flags,
                fstype: mount.fstype.clone(),
                source: mount.source.clone(),
                options: mount.options.clone(),
            });
        }
        Ok(Reply::Mounts(table))
    }

    /// The path of a dentry within its file system.
    fn path_within(&self, dentry: crate::tree::DentryId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut here = &self.tree.dentries[dentry];
        while let Some(parent) = here.parent {
            names.push(&here.name[..]);
            here = &self.tree.dentries[parent];
        }
        names.reverse();
        [b"/", &names.join(&b'/')[..]].concat()
    }
}
