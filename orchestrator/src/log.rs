//! Where messages to the user go: one line each on stderr, and with `--log` a record in that file in runc's form (containerd
//! reads the cause of a failure from it).

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::Write,
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use crate::{clock, error::Error};

/// `--log-format`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// `time="…" level=… msg="…"`.
    Text,
    /// One JSON object a line.
    Json,
}

/// A message's weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Shown with `--debug`.
    Debug,
    /// Of interest to who reads the log: not shown on stderr.
    Information,
    /// Something was left out; the command goes on.
    Warning,
    /// The command failed.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Information => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// The sinks.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    format: LogFormat,
    debug: bool,
    /// `--debug-log`.
    directory: Option<PathBuf>,
}

impl Log {
    /// Opens `--log`. `directory` is where each service is to have a file of its own.
    pub fn open(path: Option<&Path>, format: LogFormat, debug: bool, directory: Option<&Path>) -> Result<Log, Error> {
        let file = match path {
            None => None,
            Some(path) => Some(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o644)
                    .open(path)
                    .map_err(Error::file("open the log file", path))?,
            ),
        };
        let whole = |directory: &Path| std::path::absolute(directory).map_err(Error::file("find", directory));
        Ok(Log { file, format, debug, directory: directory.map(whole).transpose()? })
    }

    /// Only stderr: before the command line is understood.
    pub fn stderr() -> Log {
        Log { file: None, format: LogFormat::Text, debug: false, directory: None }
    }

    /// A failure.
    pub fn error(&self, message: &str) {
        self.record(Level::Error, message);
    }

    /// Something left out.
    pub fn warning(&self, message: &str) {
        self.record(Level::Warning, message);
    }

    /// For the log file.
    pub fn information(&self, message: &str) {
        self.record(Level::Information, message);
    }

    /// For `--debug`.
    pub fn debug(&self, message: &str) {
        self.record(Level::Debug, message);
    }

    fn record(&self, level: Level, message: &str) {
        if level == Level::Debug && !self.debug {
            return;
        }
        let message = message.replace('\n', " ");
        if let Some(mut file) = self.file.as_ref() {
            // A full disk must not stop a container.
            let _ = file.write_all(format_record(self.format, &clock::now_seconds(), level, &message).as_bytes());
        }
        let line = match level {
            Level::Error => format!("bulkhead: {message}\n"),
            Level::Information => return,
            _ if self.file.is_some() => return,
            _ => format!("bulkhead: {}: {message}\n", level.name()),
        };
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    /// Whether services write JSON.
    pub fn json(&self) -> bool {
        self.format == LogFormat::Json
    }

    /// tracing filter for the services.
    pub fn service_filter(&self) -> &'static str {
        if self.debug || self.directory.is_some() { "debug" } else { "warn" }
    }

    /// Where a service's log goes: into its own file with `--debug-log`, else `--log`, else stderr with `--debug`, else nowhere.
    pub fn service_sink(&self, sandbox: &str, service: &str) -> Result<Option<File>, Error> {
        let doing = "open the services' log";
        if let Some(directory) = &self.directory {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(Error::file("make", directory))?;
            let path = directory.join(format!("{sandbox}.{service}.log"));
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
            return file.map(Some).map_err(Error::file("open the log file", &path));
        }
        match &self.file {
            Some(file) => file.try_clone().map(Some).map_err(Error::host(doing)),
            None if self.debug => {
                let stderr = std::io::stderr().as_fd().try_clone_to_owned().map_err(Error::host(doing))?;
                Ok(Some(File::from(stderr)))
            }
            None => Ok(None),
        }
    }
}

fn format_record(format: LogFormat, time: &str, level: Level, message: &str) -> String {
    match format {
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({ "level": level.name(), "msg": message, "time": time }))
        }
        LogFormat::Text => {
            let quoted = message.replace('\\', "\\\\").replace('"', "\\\"");
            format!("time=\"{time}\" level={} msg=\"{quoted}\"\n", level.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_look_like_runcs() {
        let time = "2026-11-26T16:12:35Z";
        assert_eq!(
            format_record(LogFormat::Text, time, Level::Error, "no \"x\""),
            "time=\"2026-11-26T16:12:35Z\" level=error msg=\"no \\\"x\\\"\"\n"
        );
        assert_eq!(
            format_record(LogFormat::Json, time, Level::Error, "gone"),
            "{\"level\":\"error\",\"msg\":\"gone\",\"time\":\"2026-11-26T16:12:35Z\"}\n"
        );
    }
}
