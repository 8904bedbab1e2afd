//! What can go wrong, worded as the one line that the user sees. Details of a host call are its errno's text.

use std::path::{Path, PathBuf};

use crate::supervisor::SANDBOX_FAILED;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such container under the root.
    #[error("container does not exist")]
    NoContainer,
    /// `create` of an id that is taken.
    #[error("container with given ID already exists")]
    DuplicateId,
    /// An id with other characters than runc allows.
    #[error("invalid container ID format")]
    BadId,
    /// The bundle has no configuration.
    #[error("JSON specification file {} not found", .0.display())]
    NoConfig(PathBuf),
    /// A field of config.json, or the whole file.
    #[error("{}: {what}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// Field and complaint.
        what: String,
    },
    /// A state file that cannot be understood.
    #[error("{}: damaged state file: {what}", file.display())]
    DamagedState {
        /// The file.
        file: PathBuf,
        /// Why.
        what: String,
    },
    /// A service's binary is not installed.
    #[error("cannot find the service binary {name} in {} or {}", beside.display(), libexec.display())]
    NoService {
        /// Its name.
        name: &'static str,
        /// Where it was looked for first.
        beside: PathBuf,
        /// And then.
        libexec: PathBuf,
    },
    /// A service ended or gave up.
    #[error("{service}: {cause}")]
    Service {
        /// Which.
        service: &'static str,
        /// Exit status, signal or its own words.
        cause: String,
    },
    /// The container's program could not be started (the sentry's words).
    #[error("unable to start container process: {0}")]
    Start(String),
    /// The supervisor answered with a refusal.
    #[error("{0}")]
    Refused(String),
    /// A service of the sandbox ended or gave up, in the supervisor's words.
    #[error("{0}")]
    SandboxFailed(String),
    /// The supervisor ended without an answer.
    #[error("the supervisor of the sandbox is gone")]
    SupervisorGone,
    /// A service's debug socket.
    #[error("{service}: {what}")]
    Plane {
        /// Which service.
        service: &'static str,
        /// What it answered instead of an answer.
        what: String,
    },
    /// A hook failed.
    #[error("error running hook #{index} ({kind}): {what}")]
    Hook {
        /// OCI name of the kind.
        kind: &'static str,
        /// Position in its list.
        index: usize,
        /// Why.
        what: String,
    },
    /// A command that does not fit the container's state or the given flags.
    #[error("{0}")]
    Usage(String),
    /// A host call on a file.
    #[error("cannot {doing} {}: {why}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// errno's text.
        why: String,
    },
    /// Another host call.
    #[error("cannot {doing}: {why}")]
    Host {
        /// What was being done.
        doing: &'static str,
        /// errno's text.
        why: String,
    },
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// The text of an error of the host without Rust's "(os error N)".
pub fn describe(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase_first(),
        None => error.to_string(),
    }
}

impl Error {
    /// What the command exits with: runc's 1, unless the sandbox itself failed.
    pub fn exit_status(&self) -> i32 {
        match self {
            Error::SandboxFailed(_) | Error::Service { .. } => SANDBOX_FAILED,
            _ => 1,
        }
    }

    /// For `map_err`: a refusal to find or run the container's program says so.
    pub fn not_started(self) -> Error {
        match self {
            Error::Refused(why) => Error::Start(why),
            other => other,
        }
    }

    /// For `map_err`: a host call on `path`.
    pub fn file<E: Into<std::io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
        let path = path.to_owned();
        move |error| Error::File { doing, path, why: describe(&error.into()) }
    }

    /// For `map_err`: a host call.
    pub fn host<E: Into<std::io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Error {
        move |error| Error::Host { doing, why: describe(&error.into()) }
    }

    /// For `map_err`: something of the `ipc` crate.
    pub fn ipc<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Error {
        move |error| Error::Host { doing, why: error.to_string() }
    }
}

trait LowercaseFirst {
    fn to_lowercase_first(&self) -> String;
}

impl LowercaseFirst for str {
    /// As runc (Go) words it: "no such file or directory".
    fn to_lowercase_first(&self) -> String {
        let mut letters = self.chars();
        match (letters.next(), letters.clone().next()) {
            // "I/O error" keeps its capital.
            (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
            _ => self.to_owned(),
        }
    }
}
