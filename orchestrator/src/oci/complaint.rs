//! How a field of config.json is complained about before the file's name is put in front.

/// `field: what`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaint(String);

impl Complaint {
    /// `field` as a path into the file, such as `mounts[3].source`.
    pub fn new(field: impl std::fmt::Display, what: impl std::fmt::Display) -> Complaint {
        Complaint(format!("{field}: {what}"))
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }
}
