//! `features`: what this runtime can do, in the specification's form.

use serde_json::json;

use crate::{
    error::Result,
    oci::{CAPABILITY_NAMES, MOUNT_OPTIONS, SPEC_VERSION},
};

/// Prints the features.
pub fn run() -> Result<i32> {
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS(),
        "linux": {
            // What the guest kernel gives every container; none of it is the host's.
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": CAPABILITY_NAMES.as_slice(),
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false },
            "seccomp": { "enabled": false },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
        },
        "annotations": { "org.bulkhead.version": env!("CARGO_PKG_VERSION") },
    });
    println!("{features:#}");
    Ok(0)
}
