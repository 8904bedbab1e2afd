//! Container ids, with runc's rules.

use std::{fmt, str::FromStr};

use crate::error::Error;

/// A checked id: letters, digits, `_`, `+`, `-`, `.`; neither `.` nor `..`. It is safe as a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ContainerId(String);

impl ContainerId {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An id for `do`: the clock and the pid make it new.
    pub fn generate() -> ContainerId {
        let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        ContainerId(format!("do-{}-{:08x}", std::process::id(), nanoseconds as u32))
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
        // A file name's limit, so that it can be a directory's name.
        let fits = (1..=255).contains(&text.len());
        if fits && text.bytes().all(allowed) && text != "." && text != ".." {
            Ok(ContainerId(text.to_owned()))
        } else {
            Err(Error::BadId)
        }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_runcs_rules() {
        for good in ["a", "c1", "a.b-c_d+e", "..a", "0"] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in ["", ".", "..", "a b", "a/b", "../x", "ä", "a\n", long.as_str()] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }
}
