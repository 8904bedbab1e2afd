//! Where a container's changes to its root file system go.

use std::collections::BTreeMap;

use super::complaint::Complaint;

/// Bulkhead's own setting, of the same name as the flag `--overlay`.
const ANNOTATION: &str = "dev.bulkhead.overlay";

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Overlay {
    /// Into memory. They are gone with the container, and the bundle stays as it is.
    #[default]
    Memory,
    /// Into the bundle, where others see them: what `docker cp`, `commit` and `diff` need.
    None,
}

impl Overlay {
    /// What a container's annotations say, if they do.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Option<Overlay>, Complaint> {
        match annotations.get(ANNOTATION).map(String::as_str) {
            None => Ok(None),
            Some("memory") => Ok(Some(Overlay::Memory)),
            Some("none") => Ok(Some(Overlay::None)),
            Some(other) => {
                Err(Complaint::new(format!("annotations.{ANNOTATION}"), format!("{other:?} is neither memory nor none")))
            }
        }
    }
}
