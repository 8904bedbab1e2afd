//! Where a container's changes to its root file system go.

use std::collections::BTreeMap;

use super::{annotation, complaint::Complaint};

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
        annotation::value(annotations, ANNOTATION)
    }
}
