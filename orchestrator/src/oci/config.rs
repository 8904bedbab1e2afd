//! Reads and checks a bundle's config.json.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bulkhead_ipc::setup::CapabilitySets;
use oci_spec::runtime::Spec;
use serde_json::Value;

use super::{SPEC_VERSION, capabilities, complaint::Complaint};
use crate::{
    error::{Error, Result, describe},
    log::Log,
};

/// A bundle that was read.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The typed file, without `process.capabilities`.
    pub spec: Spec,
    /// `process.capabilities`.
    pub capabilities: CapabilitySets,
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
            Ok((spec, capabilities, warnings)) => {
                warnings.iter().for_each(|w| log.warning(w));
                Ok(Config { bundle, spec, capabilities })
            }
            Err(complaint) => Err(Error::Config { file, what: complaint.into_text() }),
        }
    }
}

fn parse(text: &[u8]) -> std::result::Result<(Spec, CapabilitySets, Vec<String>), Complaint> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| Complaint::new("not JSON", e))?;
    if !value.is_object() {
        return Err(Complaint::new("not a configuration", "the file's value is not an object"));
    }
    let (capabilities, unknown) = capabilities::take(&mut value)?;
    let warnings = unknown_capabilities(&unknown);
    fit_to_model(&mut value);
    let spec: Spec = serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        match path.as_str() {
            "." => Complaint::new("not a configuration", e.inner()),
            _ => Complaint::new(path, e.inner()),
        }
    })?;
    check_version(spec.version())?;
    Ok((spec, capabilities, warnings))
}

/// What is said of capabilities that Linux does not know.
pub(super) fn unknown_capabilities(names: &[String]) -> Vec<String> {
    let warning = || format!("ignoring unknown or unavailable capabilities: [{}]", names.join(" "));
    (!names.is_empty()).then(warning).into_iter().collect()
}

/// What runc takes and the model does not: a process without `user` (it is root then). And what is not used: the guest's own
/// seccomp profile and Intel RDT, whose unknown names must not stop a container.
pub(super) fn fit_to_model(config: &mut Value) {
    if let Some(process) = config.get_mut("process").and_then(Value::as_object_mut) {
        if process.get("user").is_none_or(Value::is_null) {
            process.insert("user".into(), serde_json::json!({}));
        }
        process.entry("cwd").or_insert_with(|| "".into());
    }
    if let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) {
        linux.remove("seccomp");
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
            "linux":{"seccomp":{"defaultAction":"SCMP_ACT_NEW","architectures":["SCMP_ARCH_NEW"]}}}"#;
        let (spec, _, warnings) = parse(text.as_bytes()).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
        assert!(warnings.is_empty());
    }
}
