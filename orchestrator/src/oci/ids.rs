//! `linux.uidMappings` and `linux.gidMappings`: which ids of the host own the files of the container's users.
//!
//! Only files have owners that both sides know, so that only the gofer, which serves them, has the mappings. As under runc, ids that
//! are not mapped appear as the overflow id, and files cannot be given to them.

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use super::complaint::Complaint;

/// A range of ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdRange {
    /// The first one in the container.
    pub inside: u32,
    /// The host's id for it.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// The ids of a container's files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdMappings {
    /// Users.
    pub users: Vec<IdRange>,
    /// Groups.
    pub groups: Vec<IdRange>,
}

/// `None`: every id is itself.
pub fn convert(spec: &Spec) -> Result<Option<IdMappings>, Complaint> {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let own = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::User);
    if own.is_some_and(|namespace| namespace.path().is_some()) {
        return Err(Complaint::new("linux.namespaces", "the path of a user namespace is not supported: use linux.uidMappings"));
    }
    let users = ranges("linux.uidMappings", linux.and_then(|linux| linux.uid_mappings().as_deref()), own.is_some())?;
    let groups = ranges("linux.gidMappings", linux.and_then(|linux| linux.gid_mappings().as_deref()), own.is_some())?;
    Ok(own.map(|_| IdMappings { users, groups }))
}

fn ranges(field: &str, list: Option<&[LinuxIdMapping]>, wanted: bool) -> Result<Vec<IdRange>, Complaint> {
    let range = |m: &LinuxIdMapping| IdRange { inside: m.container_id(), host: m.host_id(), size: m.size() };
    let ranges: Vec<IdRange> = list.unwrap_or_default().iter().map(range).collect();
    match (wanted, ranges.is_empty()) {
        (false, false) => return Err(Complaint::new(field, "mappings without a user namespace in linux.namespaces")),
        (true, true) => return Err(Complaint::new(field, "missing, although linux.namespaces has a user namespace")),
        (false, true) => return Ok(ranges),
        (true, false) => {}
    }
    let ends = |range: &IdRange| [range.inside, range.host].iter().all(|first| first.checked_add(range.size).is_some());
    if let Some(range) = ranges.iter().find(|range| range.size == 0 || !ends(range)) {
        return Err(Complaint::new(field, format!("a range of {} ids from {} and {} on", range.size, range.inside, range.host)));
    }
    if !ranges.iter().any(|range| range.inside == 0) {
        return Err(Complaint::new(field, "the container's root (containerID 0) has no id of the host"));
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(linux: serde_json::Value) -> Result<Option<IdMappings>, String> {
        let config = serde_json::json!({ "ociVersion": "1.2.0", "linux": linux });
        let spec: Spec = serde_json::from_value(config).unwrap();
        super::convert(&spec).map_err(Complaint::into_text)
    }

    #[test]
    fn a_user_namespace_and_its_mappings_come_together_and_map_root() {
        let namespaces = serde_json::json!([{ "type": "user" }]);
        let map = |inside, host, size| serde_json::json!([{ "containerID": inside, "hostID": host, "size": size }]);
        let good = map(0, 100_000, 65_536);
        let ranges = vec![IdRange { inside: 0, host: 100_000, size: 65_536 }];
        let asked = serde_json::json!({ "namespaces": namespaces, "uidMappings": good, "gidMappings": good });
        assert_eq!(convert(asked), Ok(Some(IdMappings { users: ranges.clone(), groups: ranges })));
        assert_eq!(convert(serde_json::json!({})), Ok(None));
        for (linux, field) in [
            (serde_json::json!({ "uidMappings": good }), "linux.uidMappings"),
            (serde_json::json!({ "namespaces": namespaces, "gidMappings": good }), "linux.uidMappings"),
            (serde_json::json!({ "namespaces": namespaces, "uidMappings": good }), "linux.gidMappings"),
            (
                serde_json::json!({ "namespaces": namespaces, "uidMappings": map(1, 1, 1), "gidMappings": good }),
                "linux.uidMappings",
            ),
            (
                serde_json::json!({ "namespaces": namespaces, "uidMappings": map(0, 1, 0), "gidMappings": good }),
                "linux.uidMappings",
            ),
            (serde_json::json!({ "namespaces": [{ "type": "user", "path": "/proc/1/ns/user" }] }), "linux.namespaces"),
        ] {
            let complaint = convert(linux.clone()).unwrap_err();
            assert!(complaint.starts_with(field), "{linux}: {complaint}");
        }
    }
}
