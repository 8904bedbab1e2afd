//! `install` and `uninstall`: make the runtime known to Docker and containerd, and take it out again. Only its own entry in their
//! configuration is touched; comments and everything else stay as they are.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};
use toml_edit::{DocumentMut, Item, Table, value};

use super::Context;
use crate::{
    error::{Error, Result, describe},
    state::write_atomically,
};

/// Arguments of `install` and `uninstall`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Name under which Docker and containerd know it
    #[arg(long, value_name = "NAME", default_value = "bulkhead")]
    name: String,
    /// Docker's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/docker/daemon.json")]
    docker: PathBuf,
    /// containerd's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/containerd/config.toml")]
    containerd: PathBuf,
    /// Leave Docker alone
    #[arg(long)]
    no_docker: bool,
    /// Leave containerd alone
    #[arg(long)]
    no_containerd: bool,
    /// Flags for this command when they run it
    #[arg(value_name = "FLAG", last = true)]
    flags: Vec<String>,
}

/// Registers the runtime.
pub fn install(context: &Context, arguments: &Arguments) -> Result<i32> {
    let program = fs::read_link("/proc/self/exe").map_err(Error::host("find the own executable"))?;
    change(context, arguments, |config| match config {
        Configuration::Docker(object) => add_to_docker(object, &arguments.name, &program, &arguments.flags),
        Configuration::Containerd(document) => add_to_containerd(document, &arguments.name, &program, &arguments.flags),
    })
}

/// Takes it out.
pub fn uninstall(context: &Context, arguments: &Arguments) -> Result<i32> {
    change(context, arguments, |config| match config {
        Configuration::Docker(object) => remove_from_docker(object, &arguments.name),
        Configuration::Containerd(document) => remove_from_containerd(document, &arguments.name),
    })
}

/// A parsed configuration.
enum Configuration<'a> {
    Docker(&'a mut Map<String, Value>),
    Containerd(&'a mut DocumentMut),
}

fn change(
    context: &Context,
    arguments: &Arguments,
    edit: impl Fn(Configuration<'_>) -> std::result::Result<(), String>,
) -> Result<i32> {
    if !arguments.no_docker {
        change_file(context, &arguments.docker, "restart or reload dockerd", |text| {
            let mut object = parse_object(text)?;
            edit(Configuration::Docker(&mut object))?;
            Ok(print_object(text, &object))
        })?;
    }
    if !arguments.no_containerd {
        change_file(context, &arguments.containerd, "restart containerd", |text| {
            let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| e.to_string().replace('\n', " "))?;
            edit(Configuration::Containerd(&mut document))?;
            Ok(document.to_string())
        })?;
    }
    Ok(0)
}

/// Rewrites a file if that changes it; one whose directory is missing belongs to a program that is not installed.
fn change_file(
    context: &Context,
    file: &Path,
    then: &str,
    edit: impl FnOnce(&str) -> std::result::Result<String, String>,
) -> Result<()> {
    if !file.parent().is_none_or(Path::is_dir) {
        println!("{}: no such directory, left alone", file.display());
        return Ok(());
    }
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::File { doing: "read", path: file.to_owned(), why: describe(&error) }),
    };
    let edited = edit(&text).map_err(|what| Error::Config { file: file.to_owned(), what })?;
    if edited == text || (text.is_empty() && edited.trim().is_empty()) {
        println!("{}: nothing to change", file.display());
        return Ok(());
    }
    // A link stays one, and a file keeps its owner and mode.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let before = fs::metadata(&target).ok();
    write_atomically(&target, edited.as_bytes(), before.as_ref().map_or(0o644, |m| m.permissions().mode() & 0o7777))?;
    if let Some(before) = before
        && let Err(error) = std::os::unix::fs::chown(&target, Some(before.uid()), Some(before.gid()))
    {
        context.log.warning(&format!("cannot keep the owner of {}: {}", target.display(), describe(&error)));
    }
    println!("{}: changed; {then} for it to take effect", file.display());
    Ok(())
}

fn parse_object(text: &str) -> std::result::Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("not a configuration: the file's value is not an object".into()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

/// With the indentation that the text had, or four spaces; and unchanged if its meaning is.
fn print_object(before: &str, object: &Map<String, Value>) -> String {
    if serde_json::from_str::<Value>(before).is_ok_and(|value| value.as_object() == Some(object)) {
        return before.to_owned();
    }
    if object.is_empty() && before.trim().is_empty() {
        return before.to_owned();
    }
    let indented = before.lines().find(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty());
    let indent = indented.map_or("    ", |line| &line[..line.len() - line.trim_start().len()]);
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let printed = object.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter));
    debug_assert!(printed.is_ok(), "there is nothing in JSON that cannot be printed");
    format!("{}\n", String::from_utf8_lossy(&text))
}

fn add_to_docker(
    object: &mut Map<String, Value>,
    name: &str,
    program: &Path,
    flags: &[String],
) -> std::result::Result<(), String> {
    let runtimes = object.entry("runtimes").or_insert_with(|| json!({}));
    let runtimes = runtimes.as_object_mut().ok_or("runtimes: not an object")?;
    let mut entry = json!({ "path": program });
    if !flags.is_empty() {
        entry["runtimeArgs"] = json!(flags);
    }
    runtimes.insert(name.to_owned(), entry);
    Ok(())
}

fn remove_from_docker(object: &mut Map<String, Value>, name: &str) -> std::result::Result<(), String> {
    if object.get("default-runtime").and_then(Value::as_str) == Some(name) {
        return Err(format!("default-runtime: it is {name:?}; choose another first"));
    }
    let Some(runtimes) = object.get_mut("runtimes").and_then(Value::as_object_mut) else { return Ok(()) };
    if runtimes.shift_remove(name).is_some() && runtimes.is_empty() {
        object.shift_remove("runtimes");
    }
    Ok(())
}

/// Where containerd's CRI plugin has its runtimes, by the version of the configuration.
fn containerd_path(document: &DocumentMut) -> std::result::Result<[&'static str; 4], String> {
    match document.get("version").and_then(Item::as_integer).unwrap_or(2) {
        2 => Ok(["plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes"]),
        3 => Ok(["plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes"]),
        other => Err(format!("version: {other} is not known")),
    }
}

fn add_to_containerd(
    document: &mut DocumentMut,
    name: &str,
    program: &Path,
    flags: &[String],
) -> std::result::Result<(), String> {
    if !flags.is_empty() {
        return Err("containerd passes no flags to a runtime: use --no-containerd, or leave them out".into());
    }
    if document.get("version").is_none() {
        // Without it containerd takes the file for version 1.
        if document.as_table().iter().any(|(key, _)| key == "plugins") {
            return Err("version: 1 is not supported; migrate with `containerd config migrate`".into());
        }
        document.insert("version", value(2));
    }
    let path = containerd_path(document)?;
    let mut table = document.as_table_mut();
    for key in path {
        let implicit = || {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        };
        table = table.entry(key).or_insert_with(implicit).as_table_mut().ok_or_else(|| format!("{key}: not a table"))?;
    }
    let mut options = Table::new();
    options.insert("BinaryName", value(program.to_string_lossy().as_ref()));
    let mut entry = Table::new();
    entry.insert("runtime_type", value("io.containerd.runc.v2"));
    entry.insert("options", Item::Table(options));
    let same = table.get(name).is_some_and(|old| old.to_string() == Item::Table(entry.clone()).to_string());
    if !same {
        table.insert(name, Item::Table(entry));
    }
    Ok(())
}

fn remove_from_containerd(document: &mut DocumentMut, name: &str) -> std::result::Result<(), String> {
    if document.get("version").is_none() {
        return Ok(());
    }
    let [plugins, plugin, containerd, runtimes] = containerd_path(document)?;
    let Some(containerd) = document
        .get_mut(plugins)
        .and_then(|item| item.get_mut(plugin))
        .and_then(|item| item.get_mut(containerd))
        .and_then(Item::as_table_like_mut)
    else {
        return Ok(());
    };
    if containerd.get("default_runtime_name").and_then(Item::as_str) == Some(name) {
        return Err(format!("default_runtime_name: it is {name:?}; choose another first"));
    }
    if let Some(runtimes) = containerd.get_mut(runtimes).and_then(Item::as_table_like_mut) {
        runtimes.remove(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker(before: &str, edit: impl Fn(&mut Map<String, Value>) -> std::result::Result<(), String>) -> String {
        let mut object = parse_object(before).unwrap();
        edit(&mut object).unwrap();
        print_object(before, &object)
    }

    #[test]
    fn dockers_other_settings_and_indentation_stay() {
        let before = "{\n  \"log-level\": \"warn\",\n  \"runtimes\": {\n    \"other\": {\n      \"path\": \"/o\"\n    }\n  },\n  \"x\": [1]\n}\n";
        let program = Path::new("/usr/local/bin/bulkhead");
        let with = docker(before, |o| add_to_docker(o, "bulkhead", program, &[]));
        assert!(with.contains("\n    \"bulkhead\": {\n      \"path\": \"/usr/local/bin/bulkhead\"\n    }"), "{with}");
        assert!(with.find("log-level") < with.find("runtimes") && with.find("runtimes") < with.find("\"x\""));
        assert_eq!(docker(&with, |o| add_to_docker(o, "bulkhead", program, &[])), with);
        let without: Value = serde_json::from_str(&docker(&with, |o| remove_from_docker(o, "bulkhead"))).unwrap();
        assert_eq!(without, serde_json::from_str::<Value>(before).unwrap());
        assert_eq!(docker(before, |o| remove_from_docker(o, "bulkhead")), before);
        let fresh = docker("", |o| add_to_docker(o, "b", program, &["--debug".into()]));
        assert_eq!(docker(&fresh, |o| remove_from_docker(o, "b")).trim(), "{}");
    }

    #[test]
    fn a_default_runtime_is_not_taken_out() {
        let mut object = parse_object(r#"{"default-runtime":"b","runtimes":{"b":{"path":"/b"}}}"#).unwrap();
        assert!(remove_from_docker(&mut object, "b").unwrap_err().starts_with("default-runtime"));
    }

    #[test]
    fn containerds_comments_stay() {
        let before = "# ours\nversion = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"p\" # keep\n";
        let mut document: DocumentMut = before.parse().unwrap();
        let program = Path::new("/b");
        add_to_containerd(&mut document, "bulkhead", program, &[]).unwrap();
        let with = document.to_string();
        assert!(with.starts_with("# ours\nversion = 2\n") && with.contains("sandbox_image = \"p\" # keep"), "{with}");
        assert!(with.contains("BinaryName = \"/b\"") && with.contains("runtimes.bulkhead.options]"), "{with}");
        add_to_containerd(&mut document, "bulkhead", program, &[]).unwrap();
        assert_eq!(document.to_string(), with);
        remove_from_containerd(&mut document, "bulkhead").unwrap();
        assert_eq!(document.to_string(), before);
        let mut old: DocumentMut = "[plugins.cri]\n".parse().unwrap();
        assert!(add_to_containerd(&mut old, "bulkhead", program, &[]).is_err());
    }
}
