//! Reads and checks a bundle's config.json.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bulkhead_ipc::setup::{CapabilitySets, Profile};
use oci_spec::runtime::Spec;
use serde_json::Value;

use super::{SPEC_VERSION, capabilities, complaint::Complaint, seccomp};
use crate::{
    error::{Error, Result, describe},
    log::Log,
};

/// A bundle that was read.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The typed file, without `process.capabilities` and `linux.seccomp`.
    pub spec: Spec,
    /// `process.capabilities`.
    pub capabilities: CapabilitySets,
    /// `linux.seccomp`.
    pub profile: Option<Profile>,
}

impl Config {
    /// The configuration file's name.
    pub fn file(&self) -> PathBuf {
        self.bundle.join("config.json")
    }

    /// Reads `bundle/config.json`.
    pub fn load(bundle: &Path, log: &Log) -> Result<Config> {
        let bundle = fs::canonicalize(bundle).map_err(Error::file("enter the bundle", bundle))?;
        let file = bundle.join("config.json");
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NoConfig(file)),
            Err(e) => return Err(Error::File { doing: "read", path: file, why: describe(&e) }),
        };
        match parse(&text) {
            Ok(parsed) => {
                parsed.warnings.iter().for_each(|w| log.warning(w));
                let Parsed { spec, capabilities, profile, .. } = parsed;
                Ok(Config { bundle, spec, capabilities, profile })
            }
            Err(complaint) => Err(Error::Config { file, what: complaint.into_text() }),
        }
    }
}

/// What the file's text says.
#[derive(Debug)]
struct Parsed {
    spec: Spec,
    capabilities: CapabilitySets,
    profile: Option<Profile>,
    warnings: Vec<String>,
}

fn parse(text: &[u8]) -> std::result::Result<Parsed, Complaint> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| Complaint::new("not JSON", e))?;
    if !value.is_object() {
        return Err(Complaint::new("not a configuration", "the file's value is not an object"));
    }
    let (capabilities, unknown) = capabilities::take(&mut value)?;
    let mut warnings = unknown_capabilities(&unknown);
    let profile = seccomp::take(&mut value)?;
    refuse_unsupported(&value, &mut warnings)?;
    fit_to_model(&mut value);
    let spec: Spec = serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        match path.as_str() {
            "." => Complaint::new("not a configuration", e.inner()),
            _ => Complaint::new(path, e.inner()),
        }
    })?;
    check_version(spec.version())?;
    Ok(Parsed { spec, capabilities, profile, warnings })
}

/// Fields that would change what the container is allowed or sees, and that nothing here carries out: they are refused, unless a
/// container without them is only less able, which is a warning.
fn refuse_unsupported(config: &Value, warnings: &mut Vec<String>) -> std::result::Result<(), Complaint> {
    let at = |path: &str| path.split('.').try_fold(config, |value, name| value.get(name));
    let given = |path: &str| match at(path) {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(object)) => !object.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    for (field, why) in [
        ("vm", "virtual machines are another runtime's business"),
        ("windows", "this is not Windows"),
        ("solaris", "this is not Solaris"),
        ("zos", "this is not z/OS"),
        ("linux.resources.rdma", "RDMA is not supported"),
        ("linux.netDevices", "moving network devices into a container is not supported"),
    ] {
        if given(field) {
            return Err(Complaint::new(field, why));
        }
    }
    for (index, namespace) in at("linux.namespaces").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let text = |name: &str| namespace.get(name).and_then(Value::as_str).unwrap_or_default();
        if !text("path").is_empty() && !["network", "user"].contains(&text("type")) {
            let kind = text("type");
            warnings.push(format!("linux.namespaces[{index}].path: ignored: the container has a {kind} namespace of its own"));
        }
    }
    for (field, what) in [
        ("process.apparmorProfile", "there is no AppArmor in the container"),
        ("process.selinuxLabel", "there is no SELinux in the container"),
        ("process.execCPUAffinity", "the guest kernel places its threads itself"),
        ("process.scheduler", "the guest kernel schedules its threads itself"),
        ("process.ioPriority", "the guest's files are read by the services"),
        ("linux.intelRdt", "Intel RDT is not supported"),
        ("linux.mountLabel", "there is no SELinux in the container"),
        ("linux.resources.network", "traffic of containers is not classified"),
        ("linux.timeOffsets", "the guest has the host's clocks"),
    ] {
        if given(field) {
            warnings.push(format!("{field}: ignored: {what}"));
        }
    }
    Ok(())
}

/// What is said of capabilities that Linux does not know.
pub(super) fn unknown_capabilities(names: &[String]) -> Vec<String> {
    let warning = || format!("ignoring unknown or unavailable capabilities: [{}]", names.join(" "));
    (!names.is_empty()).then(warning).into_iter().collect()
}

/// What runc takes and the model does not: a process without `user` (it is root then). And what is not used: Intel RDT, whose unknown
/// names must not stop a container.
pub(super) fn fit_to_model(config: &mut Value) {
    if let Some(process) = config.get_mut("process").and_then(Value::as_object_mut) {
        if process.get("user").is_none_or(Value::is_null) {
            process.insert("user".into(), serde_json::json!({}));
        }
        process.entry("cwd").or_insert_with(|| "".into());
    }
    if let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) {
        linux.remove("intelRdt");
    }
}

/// Versions 1.x are compatible among each other. runc takes a file without one.
fn check_version(version: &str) -> std::result::Result<(), Complaint> {
    let number = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<_> = number.split('.').map(str::parse::<u32>).collect();
    match parts.as_slice() {
        [Ok(1), Ok(_), Ok(_)] => Ok(()),
        _ if version.is_empty() => Ok(()),
        [Ok(_), Ok(_), Ok(_)] => {
            Err(Complaint::new("ociVersion", format!("{version:?} is not supported (this runtime implements {SPEC_VERSION})")))
        }
        _ => Err(Complaint::new("ociVersion", format!("{version:?} is not a version"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().into_text()
    }

    #[test]
    fn complaints_name_the_field() {
        assert_eq!(complaint("{"), "not JSON: EOF while parsing an object at line 1 column 1");
        assert_eq!(complaint("[]"), "not a configuration: the file's value is not an object");
        assert_eq!(complaint(r#"{"ociVersion":3}"#), "ociVersion: invalid type: integer `3`, expected a string");
        assert!(complaint(r#"{"ociVersion":"2.0.0"}"#).starts_with("ociVersion: \"2.0.0\" is not supported"));
        assert!(complaint(r#"{"ociVersion":"one"}"#).starts_with("ociVersion: \"one\" is not a version"));
        assert!(complaint(r#"{"process":{"cwd":"/","args":["a",7]}}"#).starts_with("process.args[1]: invalid type: integer `7`"));
        let limit = complaint(r#"{"process":{"cwd":"/","rlimits":[{"type":"RLIMIT_FOO","hard":1,"soft":1}]}}"#);
        assert!(limit.starts_with("process.rlimits[0].type: unknown variant `RLIMIT_FOO`"), "{limit}");
        assert!(complaint(r#"{"mounts":[{"type":"proc"}]}"#).starts_with("mounts[0]: missing field `destination`"));
    }

    #[test]
    fn a_process_without_user_is_root_and_foreign_seccomp_names_do_no_harm() {
        let text = r#"{"ociVersion":"1.0.2-dev","process":{"cwd":"/","args":["sh"]},
            "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_NEW"]}}}"#;
        let parsed = parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.spec.process().as_ref().unwrap().user().uid(), 0);
        assert!(parsed.warnings.is_empty());
    }

    #[test]
    fn what_is_not_carried_out_is_refused_or_said() {
        let with =
            |name: &str, value: &str| format!(r#"{{"ociVersion":"1.2.0","process":{{"cwd":"/"}},"linux":{{"{name}":{value}}}}}"#);
        assert!(complaint(&with("netDevices", r#"{"eth0":{}}"#)).starts_with("linux.netDevices: "));
        let parsed = parse(with("mountLabel", r#""x""#).as_bytes()).unwrap();
        assert!(parsed.warnings[0].starts_with("linux.mountLabel: ignored"));
        assert!(parse(with("mountLabel", r#""""#).as_bytes()).unwrap().warnings.is_empty());
    }
}
