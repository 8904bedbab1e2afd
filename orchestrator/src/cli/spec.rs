//! `spec`: a default config.json.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::PathBuf,
};

use clap::Args;
use serde::Serialize;

use crate::{
    error::{Error, Result, describe},
    oci::default_spec,
};

/// Arguments of `spec`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Directory to write it to
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Accepted for compatibility: what is written needs no other privileges either way
    #[arg(long, hide = true)]
    rootless: bool,
}

/// Writes config.json, indented with tabs as runc's.
pub fn run(arguments: &Arguments) -> Result<i32> {
    let path = arguments.bundle.join("config.json");
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    default_spec()
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(Error::ipc("write the configuration"))?;
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::Usage(format!("File {} exists. Remove it first", path.display())));
        }
        Err(e) => return Err(Error::File { doing: "make", path, why: describe(&e) }),
    };
    file.write_all(&text).map_err(Error::file("write", &path))?;
    Ok(0)
}
