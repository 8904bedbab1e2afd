//! Which network a container has.

use std::{collections::BTreeMap, path::PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::{annotation, complaint::Complaint};
use crate::{log::Log, network::Namespace};

/// Bulkhead's own setting, of the same name as the flag `--network`.
const ANNOTATION: &str = "dev.bulkhead.network";

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum NetworkMode {
    /// The sandbox's own stack takes over what is in the container's network namespace.
    #[default]
    Sandbox,
    /// A loopback interface and nothing else.
    None,
}

impl NetworkMode {
    /// What a container's annotations say, if they do.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Option<NetworkMode>, Complaint> {
        annotation::value(annotations, ANNOTATION)
    }
}

/// `linux.namespaces`, as far as it is about the network.
pub fn namespace(spec: &Spec, mode: NetworkMode, log: &Log) -> Result<Namespace, Complaint> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let Some(index) = namespaces.iter().position(|namespace| namespace.typ() == LinuxNamespaceType::Network) else {
        if mode == NetworkMode::Sandbox {
            log.warning(
                "linux.namespaces: the container has no network namespace: it gets a loopback interface, not the host's network",
            );
        }
        return Ok(Namespace::Host);
    };
    match namespaces[index].path() {
        None => Ok(Namespace::New),
        Some(path) if path.as_os_str().is_empty() => Ok(Namespace::New),
        Some(path) if path.is_absolute() => Ok(Namespace::Existing(PathBuf::from(path))),
        Some(path) => {
            Err(Complaint::new(format!("linux.namespaces[{index}].path"), format!("{} is not absolute", path.display())))
        }
    }
}
