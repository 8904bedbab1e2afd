//! Everything that vfs knows about a sandbox's files, and how it is set up.

use bulkhead_ipc::{
    Errno,
    setup::{MountKind, MountSpec, NodeSpec, VfsSetup},
    vfs::{At, Attributes, Caller, ForeignFs, NodeId},
};

use crate::{
    gofer::Gofer,
    host,
    mounts::{InForeign, Mount, Mounts, Place, Target, options::TmpfsOptions},
    nodes::Nodes,
    permissions::Capability,
    publish::Publisher,
    tree::{FsKind, NewFile, Tree},
    walk::{End, Stop, Walk},
};

/// ST_RDONLY of statvfs(3), as flags have it.
pub const ST_RDONLY: u32 = libc::ST_RDONLY as u32;

/// The state of a sandbox's files.
#[derive(Debug)]
pub struct World {
    /// File systems.
    pub tree: Tree,
    /// Mounts.
    pub mounts: Mounts,
    /// What the sentry holds.
    pub nodes: Nodes,
    /// What the sentry sees without asking.
    pub published: Publisher,
    /// Bytes of the machine's memory.
    pub memory: u64,
    /// Requests that were answered.
    pub answered: u64,
}

/// Why the world could not be made as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The first mount is the root.
    #[error("there is no root file system among the mounts")]
    NoRoot,
    /// A mount failed.
    #[error("cannot mount {source_name} on {destination}: {errno}")]
    Mount {
        /// Where.
        destination: String,
        /// What.
        source_name: String,
        /// Why not.
        errno: Errno,
    },
    /// A node could not be made.
    #[error("cannot make {path}: {errno}")]
    Node {
        /// Which.
        path: String,
        /// Why not.
        errno: Errno,
    },
}

/// Who sets up: may do anything.
fn supervisor() -> Caller {
    let capabilities = [Capability::DacOverride, Capability::Fowner, Capability::Chown, Capability::Mknod, Capability::SysAdmin];
    Caller { capabilities: capabilities.iter().fold(0, |set, capability| set | 1 << *capability as u32), ..Caller::default() }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl World {
    /// Mounts what `setup` says and makes its nodes.
    pub fn new(setup: &VfsSetup, gofer: &mut Gofer) -> Result<World, SetupError> {
        let memory = host::memory_of_the_machine();
        let (first, rest) = setup.mounts.split_first().ok_or(SetupError::NoRoot)?;
        let mut tree = Tree::default();
        let mut mounts = Mounts::default();
        let failed = |spec: &MountSpec| {
            let (destination, source_name) = (lossy(&spec.destination), spec.source.clone());
            move |errno| SetupError::Mount { destination, source_name, errno }
        };
        let mount = new_mount(&mut tree, gofer, first, memory).map_err(failed(first))?;
        let Target::Tree { root, .. } = mount.target else { return Err(SetupError::NoRoot) };
        let id = mounts.add(mount, None).map_err(failed(first))?;
        let nodes = Nodes::new(&mut tree, Place { mount: id, dentry: root });
        let mut world = World { tree, mounts, nodes, published: Publisher::default(), memory, answered: 0 };
        for spec in rest {
            world.mount_spec(gofer, spec).map_err(failed(spec))?;
        }
        for spec in &setup.nodes {
            world.node_spec(gofer, spec).map_err(|errno| SetupError::Node { path: lossy(&spec.path), errno })?;
        }
        Ok(world)
    }

    /// Attributes of a place, with those of its mount.
    pub fn attributes(&mut self, gofer: &mut Gofer, place: Place) -> Result<Attributes, Errno> {
        let inode = self.tree.inode_of(place.dentry)?;
        let mut attributes = self.tree.current_attributes(gofer, inode)?;
        attributes.mount = place.mount;
        attributes.mount_flags = self.mounts.get(place.mount).map(|mount| mount.flags).unwrap_or_default();
        Ok(attributes)
    }

    fn mount_spec(&mut self, gofer: &mut Gofer, spec: &MountSpec) -> Result<(), Errno> {
        let mut mount = new_mount(&mut self.tree, gofer, spec, self.memory)?;
        let is_file = match mount.target {
            Target::Tree { root, .. } => {
                let inode = self.tree.inode_of(root)?;
                self.tree.inodes[inode].attributes.mode & libc::S_IFMT != libc::S_IFDIR
            }
            Target::Foreign { .. } => false,
        };
        let (place, inside) = self.mountpoint(gofer, &spec.destination, is_file)?;
        self.tree.hold(place.dentry);
        mount.parent = Some(place);
        self.mounts.add(mount, inside).map(drop)
    }

    /// Finds or makes a mount point, whatever the mounts' flags say. The second part says where it is in a foreign mount.
    fn mountpoint(&mut self, gofer: &mut Gofer, path: &[u8], is_file: bool) -> Result<(Place, Option<InForeign>), Errno> {
        let mut path = path.to_vec();
        // Each round makes one missing directory.
        loop {
            let at = At { caller: supervisor(), root: NodeId::ROOT, base: NodeId::ROOT, path: path.clone(), follow: true };
            let mut walk = Walk::new(self, &at)?;
            match walk.to_end(self, gofer, true) {
                Ok(place) => return Ok((place, None)),
                Err(Stop::Errno(Errno::ENOENT)) => {}
                Err(Stop::Errno(errno)) => return Err(errno),
                Err(Stop::Foreign(foreign)) => return self.mountpoint_in_foreign(gofer, foreign, is_file),
            }
            let missing = self.first_missing(gofer, &path)?;
            let is_last = missing.1;
            let mode = if is_last && is_file { libc::S_IFREG | 0o644 } else { libc::S_IFDIR | 0o755 };
            let (parent, name) = missing.0;
            self.make_mountpoint(parent, &name, mode)?;
            // A trailing slash would ask for a directory.
            while path.len() > 1 && path.ends_with(b"/") {
                path.pop();
            }
        }
    }

    /// The first name of a path that is not there, and whether it is the last one.
    fn first_missing(&mut self, gofer: &mut Gofer, path: &[u8]) -> Result<((Place, Vec<u8>), bool), Errno> {
        let ends = (1..=path.len()).filter(|end| *end == path.len() || path[*end] == b'/');
        for end in ends {
            let at =
                At { caller: supervisor(), root: NodeId::ROOT, base: NodeId::ROOT, path: path[..end].to_vec(), follow: true };
            let mut walk = Walk::new(self, &at)?;
            loop {
                match walk.to_last(self, gofer) {
                    Ok(End::Place(_)) => break,
                    Ok(End::Name(last)) => match walk.finish(self, gofer, &last, true) {
                        Ok(Some(_)) => break,
                        Ok(None) => {}
                        Err(Stop::Errno(Errno::ENOENT)) => return Ok(((last.parent, last.name), end == path.len())),
                        Err(Stop::Errno(errno)) => return Err(errno),
                        Err(Stop::Foreign(_)) => return Err(Errno::ENOENT),
                    },
                    Err(Stop::Errno(errno)) => return Err(errno),
                    Err(Stop::Foreign(_)) => return Err(Errno::ENOENT),
                }
            }
        }
        Err(Errno::ENOENT)
    }

    fn make_mountpoint(&mut self, parent: Place, name: &[u8], mode: u32) -> Result<Place, Errno> {
        let dentry = match self.tree.kind(parent.dentry) {
            FsKind::Gofer => self.tree.add_virtual(parent.dentry, name, mode)?,
            FsKind::Memory | FsKind::Overlay => {
                let fs = self.tree.dentries[parent.dentry].fs;
                let inode = self.tree.new_inode(fs, &NewFile { mode, uid: 0, gid: 0, device: 0, target: b"" })?;
                self.tree.add_name(parent.dentry, name, inode)?
            }
        };
        Ok(Place { mount: parent.mount, dentry })
    }

    /// Makes the mount point in what the foreign file system covers.
    fn mountpoint_in_foreign(
        &mut self,
        gofer: &mut Gofer,
        foreign: bulkhead_ipc::vfs::Foreign,
        is_file: bool,
    ) -> Result<(Place, Option<InForeign>), Errno> {
        let mut here = self.nodes.place(foreign.mountpoint)?;
        let names: Vec<Vec<u8>> = foreign
            .rest
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
            .map(<[u8]>::to_vec)
            .collect();
        if names.iter().any(|name| name == b"..") {
            return Err(Errno::EINVAL);
        }
        for (index, name) in names.iter().enumerate() {
            let mode = if is_file && index + 1 == names.len() { libc::S_IFREG | 0o644 } else { libc::S_IFDIR | 0o755 };
            here = match self.tree.lookup(gofer, here.dentry, name, &[])? {
                Some(dentry) => Place { mount: here.mount, dentry },
                None => self.make_mountpoint(here, name, mode)?,
            };
        }
        // The node is kept: the mount point must not go away.
        let inside = if names.is_empty() { None } else { Some((foreign.mount, names)) };
        Ok((here, inside))
    }

    fn node_spec(&mut self, gofer: &mut Gofer, spec: &NodeSpec) -> Result<(), Errno> {
        let at = At { caller: supervisor(), root: NodeId::ROOT, base: NodeId::ROOT, path: spec.path.clone(), follow: false };
        let mut walk = Walk::new(self, &at)?;
        let errno = |stop| match stop {
            Stop::Errno(errno) => errno,
            Stop::Foreign(_) => Errno::EPERM,
        };
        let last = match walk.to_last(self, gofer) {
            Ok(End::Name(last)) => last,
            Ok(End::Place(_)) => return Err(Errno::EEXIST),
            Err(Stop::Errno(Errno::ENOENT)) => {
                let slash = spec.path.iter().rposition(|byte| *byte == b'/').ok_or(Errno::EINVAL)?;
                self.mountpoint(gofer, &spec.path[..slash], false)?;
                match Walk::new(self, &at)?.to_last(self, gofer).map_err(errno)? {
                    End::Name(last) => last,
                    End::Place(_) => return Err(Errno::EEXIST),
                }
            }
            Err(stop) => return Err(errno(stop)),
        };
        if self.tree.kind(last.parent.dentry) == FsKind::Gofer {
            return Err(Errno::EPERM);
        }
        if let Some(old) = self.tree.lookup(gofer, last.parent.dentry, &last.name, &[])? {
            // What the image has there is replaced, except a directory: that is somebody's content.
            let inode = self.tree.inode_of(old)?;
            if self.tree.inodes[inode].attributes.mode & libc::S_IFMT == libc::S_IFDIR {
                return Err(Errno::EEXIST);
            }
            self.tree.remove_name(old)?;
        }
        let fs = self.tree.dentries[last.parent.dentry].fs;
        let mode = if spec.mode & libc::S_IFMT == libc::S_IFLNK { libc::S_IFLNK | 0o777 } else { spec.mode };
        let new = NewFile { mode, uid: spec.uid, gid: spec.gid, device: spec.device, target: &spec.target };
        let inode = self.tree.new_inode(fs, &new)?;
        self.tree.add_name(last.parent.dentry, &last.name, inode).map(drop)
    }

    /// A new tmpfs and its root.
    pub fn new_tmpfs(&mut self, options: &str) -> Result<Target, Errno> {
        tmpfs(&mut self.tree, options, self.memory)
    }
}

fn tmpfs(tree: &mut Tree, options: &str, memory: u64) -> Result<Target, Errno> {
    let options = TmpfsOptions::parse(options, memory)?;
    let fs = tree.add_filesystem(FsKind::Memory, options.size, options.inodes);
    let root = tree.add_memory_root(fs, options.mode, options.uid, options.gid)?;
    Ok(Target::Tree { fs, root })
}

fn new_mount(tree: &mut Tree, gofer: &mut Gofer, spec: &MountSpec, memory: u64) -> Result<Mount, Errno> {
    let target = match spec.kind {
        MountKind::Tmpfs => tmpfs(tree, &spec.options, memory)?,
        MountKind::Gofer { root } => host_tree(tree, gofer, FsKind::Gofer, root)?,
        MountKind::Overlay { lower } => host_tree(tree, gofer, FsKind::Overlay, lower)?,
        MountKind::Foreign(fs) => Target::Foreign { fs, inner: Vec::new() },
    };
    Ok(Mount {
        id: 0,
        parent: None,
        device: device_of(tree, &target),
        target,
        flags: spec.flags,
        fstype: spec.fstype.clone(),
        source: spec.source.clone(),
        options: spec.options.clone(),
    })
}

fn host_tree(tree: &mut Tree, gofer: &mut Gofer, kind: FsKind, root: u32) -> Result<Target, Errno> {
    let fs = tree.add_filesystem(kind, u64::MAX, u64::MAX);
    let found = gofer.attach(root)?;
    let root = tree.add_host_root(fs, found)?;
    Ok(Target::Tree { fs, root })
}

/// The device number that a mount shows: its file system's, or one of its own for a foreign one.
pub fn device_of(tree: &Tree, target: &Target) -> u64 {
    match target {
        Target::Tree { fs, .. } => tree.filesystem(*fs).device,
        Target::Foreign { fs, .. } => libc::makedev(
            0,
            match fs {
                ForeignFs::Proc => 21,
                ForeignFs::Sysfs => 22,
                ForeignFs::Devpts => 23,
                ForeignFs::Mqueue => 24,
                ForeignFs::Cgroup => 25,
            },
        ),
    }
}
