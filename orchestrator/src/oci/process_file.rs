//! The program of an `exec`: from a file with an OCI process, or with the settings of the bundle's own.

use std::{fs, path::Path};

use bulkhead_ipc::setup::{CapabilitySets, Program};
use nix::pty::Winsize;
use oci_spec::runtime::Process;
use serde_json::{Value, json};

use super::{Config, capabilities, complaint::Complaint, config, program};
use crate::{
    error::{Error, Result},
    log::Log,
};

/// What to execute.
#[derive(Clone, PartialEq, Debug)]
pub struct ProcessFile {
    /// The program.
    pub program: Program,
    /// The size of its terminal's window, when that is given.
    pub console_size: Option<Winsize>,
}

impl ProcessFile {
    /// Reads a file that has an OCI process (`--process`).
    pub fn load(file: &Path, log: &Log) -> Result<ProcessFile> {
        let text = fs::read(file).map_err(Error::file("read", file))?;
        let (process, capabilities, warnings) =
            parse(&text).map_err(|complaint| Error::Config { file: file.to_owned(), what: complaint.into_text() })?;
        warnings.iter().for_each(|warning| log.warning(warning));
        convert(Some(&process), capabilities, file)
    }

    /// The program of a bundle. That it has no arguments is no mistake here.
    pub fn of(config: &Config, log: &Log) -> Result<ProcessFile> {
        let mut process = config.spec.process().clone();
        if let Some(process) = &mut process
            && process.args().as_ref().is_none_or(Vec::is_empty)
        {
            process.set_args(Some(vec![String::new()]));
        }
        let mut file = convert(process.as_ref(), config.capabilities, &config.file())?;
        file.program.personality = program::personality(&config.spec, log);
        Ok(file)
    }
}

fn convert(process: Option<&Process>, capabilities: CapabilitySets, file: &Path) -> Result<ProcessFile> {
    match program::convert(process, capabilities) {
        Ok(program) => Ok(ProcessFile { program, console_size: program::console_size(process) }),
        Err(complaint) => Err(Error::Config { file: file.to_owned(), what: complaint.into_text() }),
    }
}

fn parse(text: &[u8]) -> std::result::Result<(Process, CapabilitySets, Vec<String>), Complaint> {
    let value: Value = serde_json::from_slice(text).map_err(|e| Complaint::new("not JSON", e))?;
    if !value.is_object() {
        return Err(Complaint::new("not a process", "the file's value is not an object"));
    }
    let mut value = json!({ "process": value });
    let (capabilities, unknown) = capabilities::take(&mut value)?;
    config::fit_to_model(&mut value);
    let process = serde_path_to_error::deserialize(value["process"].take())
        .map_err(|e| Complaint::new(format!("process.{}", e.path()), e.inner()))?;
    Ok((process, capabilities, config::unknown_capabilities(&unknown)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_and_complaints_name_its_field() {
        let text = br#"{"args":["a"],"cwd":"/","capabilities":{"bounding":["CAP_KILL","CAP_FLY"]}}"#;
        let (process, capabilities, warnings) = parse(text).unwrap();
        assert_eq!((process.user().uid(), capabilities.bounding, warnings.len()), (0, 1 << 5, 1));
        let complaint = |text: &str| parse(text.as_bytes()).unwrap_err().into_text();
        assert!(complaint(r#"{"cwd":"/","args":["a",7]}"#).starts_with("process.args[1]: invalid type: integer `7`"));
        assert!(complaint("[]").starts_with("not a process"));
    }
}
