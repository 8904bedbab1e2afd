//! Compiles the debug plane's protocols, without protoc: the supervisor's own, and those of the services for asking them.

use std::{env, error::Error, fs, path::PathBuf};

/// Where the services' protocols are.
const SERVICES: [(&str, &str); 4] = [
    ("../ipc/proto", "debug.proto"),
    ("../services/sentry/proto", "sentry.proto"),
    ("../services/vfs/proto", "vfs.proto"),
    ("../services/gofer/proto", "gofer.proto"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    SERVICES.iter().for_each(|(directory, _)| println!("cargo:rerun-if-changed={directory}"));
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut own = protox::Compiler::new(["proto"])?;
    // Comments too: reflection shows them to whoever asks what a call means.
    own.include_imports(true).include_source_info(true).open_files(["supervisor.proto"])?;
    fs::write(out.join("supervisor.descriptors"), own.encode_file_descriptor_set())?;
    messages().compile_fds(own.file_descriptor_set())?;

    for (directory, file) in SERVICES {
        let mut compiler = protox::Compiler::new([directory])?;
        compiler.include_imports(true).open_files([file])?;
        messages().build_server(false).compile_fds(compiler.file_descriptor_set())?;
    }
    Ok(())
}

/// All messages can be shown as JSON.
fn messages() -> tonic_prost_build::Builder {
    tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize)]")
        .enum_attribute(".", "#[serde(rename_all = \"snake_case\")]")
        .field_attribute("bulkhead.sentry.v1.Event.what", "#[serde(flatten)]")
        .field_attribute("bulkhead.vfs.v1.Step.state", "#[serde(serialize_with = \"crate::inspect::show_state\")]")
}
