//! Capability names to bit sets. Names that Linux does not know are left out with a warning, as runc does; so they are taken
//! out of the JSON before its typed form is read.

use bulkhead_ipc::setup::CapabilitySets;
use serde_json::Value;

use super::complaint::Complaint;

/// By number (capabilities(7), linux/capability.h).
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// All of them.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// Takes `process.capabilities` out of `config`; the second value lists the unknown names.
pub fn take(config: &mut Value) -> Result<(CapabilitySets, Vec<String>), Complaint> {
    let mut sets = CapabilitySets::default();
    let mut unknown = Vec::new();
    let taken = config.get_mut("process").and_then(Value::as_object_mut).and_then(|p| p.remove("capabilities"));
    let object = match taken {
        None | Some(Value::Null) => return Ok((sets, unknown)),
        Some(Value::Object(object)) => object,
        Some(other) => return Err(Complaint::new("process.capabilities", format!("{} instead of an object", kind(&other)))),
    };
    for (name, value) in object {
        let set = match name.as_str() {
            "bounding" => &mut sets.bounding,
            "effective" => &mut sets.effective,
            "inheritable" => &mut sets.inheritable,
            "permitted" => &mut sets.permitted,
            "ambient" => &mut sets.ambient,
            _ => continue,
        };
        *set = read_set(&format!("process.capabilities.{name}"), &value, &mut unknown)?;
    }
    Ok((sets, unknown))
}

fn read_set(field: &str, value: &Value, unknown: &mut Vec<String>) -> Result<u64, Complaint> {
    let list = match value {
        Value::Null => return Ok(0),
        Value::Array(list) => list,
        other => return Err(Complaint::new(field, format!("{} instead of a list", kind(other)))),
    };
    let mut set = 0;
    for (index, entry) in list.iter().enumerate() {
        let Value::String(name) = entry else {
            return Err(Complaint::new(format!("{field}[{index}]"), format!("{} instead of a string", kind(entry))));
        };
        match NAMES.iter().position(|known| known == name) {
            Some(number) => set |= 1 << number,
            None if unknown.contains(name) => {}
            None => unknown.push(name.clone()),
        }
    }
    Ok(set)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_unknown_capability_is_reported_once_and_the_rest_is_kept() {
        let mut config = json!({"process": {"capabilities": {
            "bounding": ["CAP_KILL", "CAP_FLY"], "effective": ["CAP_FLY", "CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]}}});
        let (sets, unknown) = take(&mut config).unwrap();
        assert_eq!((sets.bounding, sets.effective), (1 << 5, 1 | 1 << 40));
        assert_eq!(unknown, ["CAP_FLY"]);
        assert!(config["process"].get("capabilities").is_none());
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        let mut config = json!({"process": {"capabilities": {"bounding": ["CAP_KILL", 3]}}});
        assert_eq!(take(&mut config).unwrap_err().into_text(), "process.capabilities.bounding[1]: a number instead of a string");
    }
}
