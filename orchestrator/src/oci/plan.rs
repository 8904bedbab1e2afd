//! Everything that a sandbox is started from, checked, and without anything of the host held open yet.

use std::{collections::BTreeMap, path::PathBuf};

use bulkhead_ipc::setup::{MountSpec, NodeSpec, Profile, Program};
use nix::pty::Winsize;
use oci_spec::runtime::Hooks;

use super::{
    Config,
    complaint::Complaint,
    hidden,
    ids::{self, IdMappings},
    mounts::{self, HostRoot},
    network::{self, NetworkMode},
    nodes,
    overlay::Overlay,
    program,
    resources::Resources,
};
use crate::{
    error::{Error, Result},
    log::Log,
    network::Namespace,
};

/// The annotation that decides whether call sites are rewritten.
const REWRITING: &str = "dev.bulkhead.rewriting";

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// Bundle's absolute path.
    pub bundle: PathBuf,
    /// The root file system's absolute path.
    pub rootfs: PathBuf,
    /// The first program.
    pub program: Program,
    /// The size of its terminal's window, when that is configured.
    pub console_size: Option<Winsize>,
    /// UTS host name; empty keeps the guest kernel's.
    pub hostname: String,
    /// UTS domain name.
    pub domainname: String,
    /// The mount table.
    pub mounts: Vec<MountSpec>,
    /// Device nodes and links.
    pub nodes: Vec<NodeSpec>,
    /// What the gofer serves.
    pub roots: Vec<HostRoot>,
    /// Paths that read as empty.
    pub masked_paths: Vec<Vec<u8>>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<Vec<u8>>,
    /// Kernel settings, sorted by name.
    pub sysctls: Vec<(String, String)>,
    /// Limits of the sandbox.
    pub resources: Resources,
    /// Which ids of the host own the files of the container's users; `None`: the same ones.
    pub ids: Option<IdMappings>,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<PathBuf>,
    /// Programs to run at stages of the container's life.
    pub hooks: Hooks,
    /// Where its network is.
    pub network: Namespace,
    /// What becomes of that.
    pub network_mode: NetworkMode,
    /// Whether programs' call sites are rewritten.
    pub rewriting: bool,
    /// Which system calls the container may make.
    pub profile: Option<Profile>,
    /// For `state`.
    pub annotations: BTreeMap<String, String>,
}

impl Plan {
    /// Converts a configuration; complaints name its file and the field. `overlay` and `network` count where no annotation says
    /// otherwise.
    pub fn of(config: &Config, overlay: Overlay, network: NetworkMode, log: &Log) -> Result<Plan> {
        convert(config, overlay, network, log)
            .map_err(|complaint| Error::Config { file: config.file(), what: complaint.into_text() })
    }
}

fn convert(config: &Config, overlay: Overlay, network: NetworkMode, log: &Log) -> std::result::Result<Plan, Complaint> {
    let mut program = program::convert(config.spec.process().as_ref(), config.capabilities)?;
    program.personality = program::personality(&config.spec, log);
    let rootfs = mounts::rootfs(config)?;
    let spec = &config.spec;
    let annotations: BTreeMap<String, String> = spec.annotations().clone().unwrap_or_default().into_iter().collect();
    let mut table = mounts::convert(config, &rootfs, Overlay::of(&annotations)?.unwrap_or(overlay), log)?;
    let linux = spec.linux().as_ref();
    let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let masked = list(linux.and_then(|l| l.masked_paths().as_ref()));
    let readonly = list(linux.and_then(|l| l.readonly_paths().as_ref()));
    hidden::hide(&mut table, &rootfs, &masked, &readonly, log);
    let devices = linux.and_then(|l| l.devices().as_deref()).unwrap_or_default();
    let mut nodes = if table.foreign_dev { Vec::new() } else { nodes::convert(devices)? };
    if program.terminal && !table.foreign_dev {
        nodes.push(nodes::console(program.uid));
    }
    let paths = |list: Vec<String>| list.into_iter().map(String::into_bytes).collect();
    let mut sysctls: Vec<_> = linux.and_then(|l| l.sysctl().clone()).unwrap_or_default().into_iter().collect();
    sysctls.sort();
    let rewriting = match annotations.get(REWRITING).map(String::as_str) {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => {
            return Err(Complaint::new(format!("annotations.{REWRITING}"), format!("neither true nor false, but {other:?}")));
        }
    };
    let network_mode = NetworkMode::of(&annotations)?.unwrap_or(network);
    Ok(Plan {
        bundle: config.bundle.clone(),
        rootfs,
        program,
        console_size: program::console_size(spec.process().as_ref()),
        hostname: spec.hostname().clone().unwrap_or_default(),
        domainname: spec.domainname().clone().unwrap_or_default(),
        mounts: table.mounts,
        nodes,
        roots: table.roots,
        masked_paths: paths(masked),
        readonly_paths: paths(readonly),
        sysctls,
        resources: Resources::of(spec),
        ids: ids::convert(spec)?,
        cgroups_path: linux.and_then(|l| l.cgroups_path().clone()),
        hooks: spec.hooks().clone().unwrap_or_default(),
        network: network::namespace(spec, network_mode, log)?,
        network_mode,
        rewriting,
        annotations,
        profile: config.profile.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::default_spec;
    use bulkhead_ipc::setup::MountKind;
    use serde_json::{Value, json};

    fn plan(change: impl FnOnce(&mut Value)) -> std::result::Result<Plan, String> {
        let mut spec = default_spec();
        spec["root"]["path"] = "/".into();
        change(&mut spec);
        let spec = serde_json::from_value(spec).map_err(|e| e.to_string())?;
        let config = Config { bundle: "/".into(), spec, capabilities: Default::default(), profile: None };
        convert(&config, Overlay::Memory, NetworkMode::Sandbox, &Log::stderr()).map_err(Complaint::into_text)
    }

    #[test]
    fn the_default_configuration_converts() {
        let plan = plan(|_| ()).unwrap();
        assert_eq!(plan.program.arguments, [b"sh"]);
        assert_eq!(plan.mounts[0].kind, MountKind::Overlay { lower: 0 });
        assert_eq!(plan.mounts[0].flags & libc::ST_RDONLY as u32, libc::ST_RDONLY as u32);
        assert_eq!(plan.mounts.len(), 8);
        assert_eq!((plan.roots.len(), plan.nodes.len()), (1, 13));
    }

    #[test]
    fn an_annotation_leaves_call_sites_alone() {
        let with = |value: &str| plan(|spec| spec["annotations"] = json!({ REWRITING: value })).map(|plan| plan.rewriting);
        assert_eq!((with("false"), with("true"), plan(|_| ()).map(|plan| plan.rewriting)), (Ok(false), Ok(true), Ok(true)));
        assert_eq!(with("no"), Err("annotations.dev.bulkhead.rewriting: neither true nor false, but \"no\"".into()));
    }

    #[test]
    fn the_network_is_new_or_one_that_is_there_or_none() {
        let with = |namespaces: Value| plan(|spec| spec["linux"]["namespaces"] = namespaces).map(|plan| plan.network);
        assert_eq!(with(json!([{ "type": "network" }])), Ok(Namespace::New));
        assert_eq!(with(json!([{ "type": "network", "path": "/run/netns/x" }])), Ok(Namespace::Existing("/run/netns/x".into())));
        assert_eq!(with(json!([{ "type": "pid" }])), Ok(Namespace::Host));
        assert_eq!(
            with(json!([{ "type": "pid" }, { "type": "network", "path": "x" }])),
            Err("linux.namespaces[1].path: x is not absolute".into())
        );
        let mode =
            |mode: &str| plan(|spec| spec["annotations"] = json!({ "dev.bulkhead.network": mode })).map(|p| p.network_mode);
        assert_eq!((mode("none"), mode("sandbox")), (Ok(NetworkMode::None), Ok(NetworkMode::Sandbox)));
        assert!(mode("host").unwrap_err().starts_with("annotations.dev.bulkhead.network: "));
    }

    #[test]
    fn complaints_name_what_is_wrong_and_where() {
        type Change = fn(&mut Value);
        let complaints: [(Change, &str); 9] = [
            (|s| s["process"] = Value::Null, "process: process property must not be empty"),
            (|s| s["process"]["args"] = json!([]), "process.args: args must not be empty"),
            (|s| s["process"]["cwd"] = "x".into(), "process.cwd: Cwd must be an absolute path, not x"),
            (|s| s["root"] = Value::Null, "root: root must be specified"),
            (|s| s["root"]["path"] = "/none".into(), "root.path: invalid rootfs: stat /none: no such file or directory"),
            (|s| s["root"]["path"] = "/etc/passwd".into(), "root.path: invalid rootfs: stat /etc/passwd: not a directory"),
            (
                |s| s["mounts"][1] = json!({"destination": "/x", "type": "bind", "source": "/none", "options": ["rbind"]}),
                "mounts[1].source: bind source /none: no such file or directory",
            ),
            (|s| s["mounts"][2]["type"] = "nfs".into(), "mounts[2].type: file system type \"nfs\" is not supported"),
            (
                |s| s["process"]["rlimits"][0]["soft"] = 2048.into(),
                "process.rlimits[0]: the soft limit 2048 is above the hard limit 1024",
            ),
        ];
        for (change, expected) in complaints {
            assert_eq!(plan(change).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_root_without_an_overlay_is_written_on_the_host_unless_it_is_read_only() {
        let annotated = |readonly: bool, overlay: &str| {
            plan(|s| {
                s["root"]["readonly"] = readonly.into();
                s["annotations"] = json!({ "dev.bulkhead.overlay": overlay });
            })
        };
        let direct = annotated(false, "none").unwrap();
        assert_eq!(direct.mounts[0].kind, MountKind::Gofer { root: 0 });
        assert!(!direct.roots[0].readonly);
        assert_eq!(annotated(true, "none").unwrap().mounts[0].kind, MountKind::Overlay { lower: 0 });
        assert_eq!(annotated(false, "memory").unwrap().mounts[0].kind, MountKind::Overlay { lower: 0 });
        assert!(annotated(false, "x").unwrap_err().starts_with("annotations.dev.bulkhead.overlay: "));
    }

    #[test]
    fn a_bind_mount_gets_a_gofer_root_of_its_own() {
        let plan = plan(|s| {
            s["mounts"] = json!([{"destination": "/mnt", "source": "/etc", "options": ["rbind", "ro"]}]);
        })
        .unwrap();
        assert_eq!(plan.mounts[1].kind, MountKind::Gofer { root: 1 });
        assert_eq!(plan.roots[1], HostRoot { path: "/etc".into(), readonly: true, recursive: true });
    }
}
