//! Signal names and numbers as `kill` takes them.

use nix::sys::signal::Signal;

use crate::error::{Error, Result};

/// `TERM`, `SIGTERM`, `sigterm` or `15`; real-time signals by number.
pub fn parse(text: &str) -> Result<i32> {
    let unknown = || Error::Usage(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    name.parse::<Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

/// `SIGKILL`, or `signal 35`.
pub fn name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_prefix_and_numbers_are_understood() {
        for (text, number) in [("TERM", 15), ("SIGTERM", 15), ("kill", 9), ("9", 9), ("SIGWINCH", 28), ("64", 64)] {
            assert_eq!(parse(text).ok(), Some(number), "{text}");
        }
        for text in ["", "0", "65", "-9", "SIGNOPE", "TERM "] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
