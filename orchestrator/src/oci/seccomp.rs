//! `linux.seccomp` to the profile that the sentry enforces. It is taken out of the JSON before its typed form is read, because names
//! of newer architectures and calls must not stop a container.

use bulkhead_ipc::setup::{Comparison, Condition, FilterAction, FilterRule, Profile};
use serde::Deserialize;
use serde_json::Value;

use super::complaint::Complaint;

/// EPERM and ENOSYS: what a call fails with that says nothing else, and a traced one without a tracer.
const DEFAULT_ERRNO: u16 = libc::EPERM as u16;
const NO_TRACER: u16 = libc::ENOSYS as u16;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u16>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Takes `linux.seccomp` out of `config`.
pub fn take(config: &mut Value) -> Result<Option<Profile>, Complaint> {
    let taken = config.get_mut("linux").and_then(Value::as_object_mut).and_then(|linux| linux.remove("seccomp"));
    let Some(value) = taken.filter(|value| !value.is_null()) else { return Ok(None) };
    let seccomp: Seccomp = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "linux.seccomp".to_owned() } else { format!("linux.seccomp.{path}") };
        Complaint::new(field, error.inner())
    })?;
    for flag in seccomp.flags.iter().flatten() {
        // They are about how the host's kernel filters and logs.
        const KNOWN: [&str; 4] = [
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ];
        if !KNOWN.contains(&flag.as_str()) {
            return Err(Complaint::new("linux.seccomp.flags", format!("seccomp flag {flag:?} is not known")));
        }
    }
    if seccomp.listener_path.is_some_and(|path| !path.is_empty()) {
        return Err(Complaint::new("linux.seccomp.listenerPath", "SCMP_ACT_NOTIFY is not supported"));
    }
    let default = action("linux.seccomp.defaultAction", &seccomp.default_action, seccomp.default_errno_ret)?;
    let mut rules = Vec::new();
    for (index, syscall) in seccomp.syscalls.unwrap_or_default().into_iter().enumerate() {
        let field = format!("linux.seccomp.syscalls[{index}]");
        let action = action(&format!("{field}.action"), &syscall.action, syscall.errno_ret)?;
        let conditions = conditions(&field, syscall.args.unwrap_or_default())?;
        rules.extend(conditions.into_iter().map(|conditions| FilterRule { names: syscall.names.clone(), action, conditions }));
    }
    Ok(Some(Profile { default, rules }))
}

fn action(field: &str, name: &str, errno: Option<u16>) -> Result<FilterAction, Complaint> {
    let errno = |default: u16| match errno {
        Some(value) if value >= 4096 => Err(Complaint::new(field, format!("{value} is no errno"))),
        other => Ok(other.unwrap_or(default)),
    };
    Ok(match name {
        "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" => FilterAction::Allow,
        "SCMP_ACT_ERRNO" => FilterAction::Errno(errno(DEFAULT_ERRNO)?),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => FilterAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => FilterAction::KillProcess,
        "SCMP_ACT_TRAP" => FilterAction::Trap(errno(0)?),
        // There is never a tracer that asked for it.
        "SCMP_ACT_TRACE" => FilterAction::Errno(NO_TRACER),
        "SCMP_ACT_NOTIFY" => return Err(Complaint::new(field, "SCMP_ACT_NOTIFY is not supported")),
        other => return Err(Complaint::new(field, format!("{other:?} is no action"))),
    })
}

/// All conditions have to hold, unless an argument appears in several: then any of them, as runc has it.
fn conditions(field: &str, arguments: Vec<Argument>) -> Result<Vec<Vec<Condition>>, Complaint> {
    let mut conditions = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.into_iter().enumerate() {
        let at = |name: &str| format!("{field}.args[{index}].{name}");
        if argument.index > 5 {
            return Err(Complaint::new(at("index"), format!("{}: a system call has six arguments", argument.index)));
        }
        let (comparison, value) = match argument.op.as_str() {
            "SCMP_CMP_NE" => (Comparison::NotEqual, argument.value),
            "SCMP_CMP_LT" => (Comparison::Less, argument.value),
            "SCMP_CMP_LE" => (Comparison::LessOrEqual, argument.value),
            "SCMP_CMP_EQ" => (Comparison::Equal, argument.value),
            "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, argument.value),
            "SCMP_CMP_GT" => (Comparison::Greater, argument.value),
            "SCMP_CMP_MASKED_EQ" => (Comparison::MaskedEqual(argument.value), argument.value_two),
            other => return Err(Complaint::new(at("op"), format!("{other:?} is no comparison"))),
        };
        conditions.push(Condition { argument: argument.index, comparison, value });
    }
    let repeated = conditions.iter().enumerate().any(|(n, c)| conditions[..n].iter().any(|d| d.argument == c.argument));
    Ok(if repeated { conditions.into_iter().map(|condition| vec![condition]).collect() } else { vec![conditions] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn taken(seccomp: Value) -> Result<Option<Profile>, String> {
        take(&mut json!({ "linux": { "seccomp": seccomp } })).map_err(Complaint::into_text)
    }

    #[test]
    fn a_profile_is_read_whatever_its_architectures() {
        let profile = taken(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_NEW"],
            "syscalls": [
                { "names": ["read", "new_call"], "action": "SCMP_ACT_ALLOW" },
                { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
                  "args": [{ "index": 0, "value": 2114060288u32, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
                { "names": ["personality"], "action": "SCMP_ACT_KILL", "args": [
                    { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }] },
            ],
        }))
        .unwrap()
        .unwrap();
        assert_eq!(profile.default, FilterAction::Errno(38));
        assert_eq!(profile.rules.len(), 4);
        assert_eq!(profile.rules[1].conditions[0].comparison, Comparison::MaskedEqual(2_114_060_288));
        assert_eq!(profile.rules[3].conditions.len(), 1);
        assert_eq!(taken(Value::Null), Ok(None));
    }

    #[test]
    fn complaints_name_the_field() {
        let complaint = |value| taken(value).unwrap_err();
        assert!(complaint(json!({})).starts_with("linux.seccomp: missing field `defaultAction`"));
        assert!(complaint(json!({ "defaultAction": "NO" })).starts_with("linux.seccomp.defaultAction: \"NO\""));
        let rule = |rule: Value| complaint(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
        assert!(rule(json!({ "names": ["x"], "action": "SCMP_ACT_NOTIFY" })).starts_with("linux.seccomp.syscalls[0].action"));
        let argument = json!({ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" });
        assert!(
            rule(json!({ "names": ["x"], "action": "SCMP_ACT_KILL", "args": [argument] }))
                .starts_with("linux.seccomp.syscalls[0].args[0].index")
        );
    }
}
