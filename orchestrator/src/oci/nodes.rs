//! What lies in /dev: runc's default nodes and links, then `linux.devices`.

use std::os::unix::ffi::OsStrExt;

use bulkhead_ipc::setup::NodeSpec;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::complaint::Complaint;

const DEFAULT_NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];

const DEFAULT_LINKS: [(&str, &str); 6] = [
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// The nodes; `linux.devices` replace the defaults of the same path.
pub fn convert(devices: &[LinuxDevice]) -> Result<Vec<NodeSpec>, Complaint> {
    let mut nodes: Vec<NodeSpec> = DEFAULT_NODES
        .iter()
        .map(|&(path, major, minor)| NodeSpec {
            path: path.into(),
            mode: libc::S_IFCHR | 0o666,
            device: libc::makedev(major, minor),
            uid: 0,
            gid: 0,
            target: Vec::new(),
        })
        .collect();
    nodes.extend(DEFAULT_LINKS.iter().map(|&(path, target)| NodeSpec {
        path: path.into(),
        mode: libc::S_IFLNK | 0o777,
        device: 0,
        uid: 0,
        gid: 0,
        target: target.into(),
    }));
    for (index, device) in devices.iter().enumerate() {
        let node = convert_device(index, device)?;
        nodes.retain(|earlier| earlier.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

/// /dev/console of a container with a terminal: the first pseudo-terminal of its devpts.
pub fn console(uid: u32) -> NodeSpec {
    const SLAVE_MAJOR: u32 = 136;
    /// tty, by custom.
    const GROUP: u32 = 5;
    NodeSpec {
        path: b"/dev/console".to_vec(),
        mode: libc::S_IFCHR | 0o620,
        device: libc::makedev(SLAVE_MAJOR, 0),
        uid,
        gid: GROUP,
        target: Vec::new(),
    }
}

/// Also devices that the guest kernel has no driver for: as on Linux they are there, and opening them is ENXIO.
fn convert_device(index: usize, device: &LinuxDevice) -> Result<NodeSpec, Complaint> {
    let field = |name: &str| format!("linux.devices[{index}].{name}");
    if !device.path().is_absolute() {
        return Err(Complaint::new(field("path"), format!("{} is not absolute", device.path().display())));
    }
    let (kind, permissions) = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => (libc::S_IFCHR, 0o666),
        LinuxDeviceType::B => (libc::S_IFBLK, 0o666),
        LinuxDeviceType::P => (libc::S_IFIFO, 0o666),
        LinuxDeviceType::A => return Err(Complaint::new(field("type"), "\"a\" is no device")),
    };
    let number = |name: &str, value: i64| u32::try_from(value).map_err(|_| Complaint::new(field(name), "out of range"));
    let device_number = match device.typ() {
        LinuxDeviceType::P => 0,
        _ => libc::makedev(number("major", device.major())?, number("minor", device.minor())?),
    };
    Ok(NodeSpec {
        path: device.path().as_os_str().as_bytes().to_vec(),
        mode: kind | device.file_mode().map_or(permissions, |mode| mode & 0o7777),
        device: device_number,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        target: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_device_replaces_the_default_one() {
        let device: LinuxDevice =
            serde_json::from_str(r#"{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":384,"uid":7,"gid":8}"#)
                .unwrap();
        let nodes = convert(&[device]).unwrap();
        let null: Vec<_> = nodes.iter().filter(|n| n.path == b"/dev/null").collect();
        assert_eq!(null.len(), 1);
        assert_eq!((null[0].mode, null[0].uid, null[0].gid), (libc::S_IFCHR | 0o600, 7, 8));
        assert_eq!(nodes.len(), DEFAULT_NODES.len() + DEFAULT_LINKS.len());
    }
}
