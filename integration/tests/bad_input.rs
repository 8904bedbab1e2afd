//! Bad input gets one line that names what is wrong and where, exit code 1, and nothing stays behind.

use std::{fs, path::Path};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::Leftovers,
    runtime::{Runtime, code, text},
    tree,
};
use serde_json::{Value, json};

/// Runs the bundle and sees it refused with exactly one line that has all of `words`.
fn refused(runtime: &Runtime, bundle: &Bundle, words: &[&str]) {
    let output = runtime.run(bundle, b"");
    let message = text(&output.stderr);
    assert_eq!(code(&output), 1, "{message}");
    assert_eq!(message.trim_end().lines().count(), 1, "one line: {message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert!(text(&output.stdout).is_empty());
    Leftovers::of(runtime).assert_none();
}

fn refused_with(change: impl FnOnce(&mut Value), words: &[&str]) {
    let mut bundle = Bundle::new(&tree("busybox"), &["/bin/true"]);
    bundle.configure(change);
    refused(&Runtime::bulkhead(), &bundle, words);
}

#[test]
fn a_configuration_that_is_missing_or_no_json() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/true"]);
    let file = bundle.path().join("config.json");
    fs::write(&file, "{ \"ociVersion\": \"1.0.2\", ").expect("it can be written");
    refused(&runtime, &bundle, &["config.json", "line 1"]);
    fs::write(&file, b"\xff\xfe\x00binary").expect("it can be written");
    refused(&runtime, &bundle, &["config.json"]);
    fs::remove_file(&file).expect("it can be removed");
    refused(&runtime, &bundle, &["config.json"]);
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    refused_with(|config| config["process"]["args"] = json!("not a list"), &["config.json", "process.args"]);
    refused_with(|config| config["process"]["user"]["uid"] = json!(-1), &["config.json", "process.user.uid"]);
    refused_with(|config| config["mounts"][0]["options"] = json!(7), &["config.json", "mounts[0].options"]);
    refused_with(|config| config["root"]["readonly"] = json!("yes"), &["config.json", "root.readonly"]);
}

#[test]
fn a_field_that_is_missing_or_senseless_is_named() {
    refused_with(|config| config["process"]["args"] = json!([]), &["args"]);
    refused_with(|config| config["process"]["cwd"] = json!("relative"), &["cwd"]);
    refused_with(|config| config["process"]["rlimits"][0]["type"] = json!("RLIMIT_NONSENSE"), &["RLIMIT_NONSENSE"]);
    refused_with(|config| drop(config.as_object_mut().expect("an object").remove("root")), &["root"]);
    refused_with(|config| drop(config.as_object_mut().expect("an object").remove("process")), &["process"]);
}

#[test]
fn a_root_or_a_bind_source_that_is_missing_is_named() {
    refused_with(|config| config["root"]["path"] = json!("no-such-rootfs"), &["no-such-rootfs"]);
    refused_with(
        |config| {
            let mount = json!({ "destination": "/m", "type": "bind", "source": "/no/such/source", "options": ["rbind"] });
            config["mounts"].as_array_mut().expect("a list").push(mount);
        },
        &["/no/such/source"],
    );
}

#[test]
fn an_unknown_capability_is_a_warning() {
    let runtime = Runtime::bulkhead();
    let mut bundle = Bundle::new(&tree("busybox"), &["/bin/echo", "ran"]);
    bundle.configure(|config| config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_TO_FLY"]));
    let output = runtime.run(&bundle, b"");
    assert_eq!(text(&output.stdout), "ran\n");
    assert_eq!(code(&output), 0);
    assert!(text(&output.stderr).contains("CAP_TO_FLY"), "{}", text(&output.stderr));
}

#[test]
fn a_program_that_is_missing_or_not_executable_is_named() {
    refused_with(|config| config["process"]["args"] = json!(["no-such-program"]), &["no-such-program", "$PATH"]);
    refused_with(|config| config["process"]["args"] = json!(["/no/such/program"]), &["/no/such/program", "no such file"]);
    refused_with(|config| config["process"]["args"] = json!(["/etc/passwd"]), &["/etc/passwd", "permission denied"]);
    refused_with(|config| config["process"]["cwd"] = json!("/etc/passwd"), &["/etc/passwd"]);
}

/// Puts a program of these bytes into a bundle and sees it refused.
fn program_refused(bytes: &[u8], word: &str) {
    use std::os::unix::fs::PermissionsExt;
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/program"]);
    let program = bundle.rootfs().join("bin/program");
    fs::write(&program, bytes).expect("it can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it can be made executable");
    refused(&runtime, &bundle, &["/bin/program", word]);
}

/// A small valid program, and where its one program header lies.
fn elf() -> (Vec<u8>, usize) {
    let mut bytes = vec![0; 64 + 56 + 16];
    bytes[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &2u16.to_le_bytes()); // ET_EXEC
    put(18, &62u16.to_le_bytes()); // x86-64
    put(20, &1u32.to_le_bytes());
    put(24, &0x40_0078_u64.to_le_bytes()); // entry
    put(32, &64u64.to_le_bytes()); // program headers
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    let header = 64;
    put(header, &1u32.to_le_bytes()); // PT_LOAD
    put(header + 4, &5u32.to_le_bytes()); // r-x
    put(header + 16, &0x40_0000_u64.to_le_bytes()); // address
    put(header + 32, &136u64.to_le_bytes()); // bytes in the file
    put(header + 40, &136u64.to_le_bytes()); // bytes in memory
    put(header + 48, &4096u64.to_le_bytes());
    put(120, b"\xb8\x3c\0\0\0\x31\xff\x0f\x05"); // exit(0)
    (bytes, header)
}

#[test]
fn the_program_that_the_others_are_broken_copies_of_runs() {
    use std::os::unix::fs::PermissionsExt;
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/program"]);
    let program = bundle.rootfs().join("bin/program");
    fs::write(&program, elf().0).expect("it can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it can be made executable");
    let output = runtime.run(&bundle, b"");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn programs_that_are_broken() {
    let (good, header) = elf();
    program_refused(b"", "exec format error");
    program_refused(b"not a program", "exec format error");
    program_refused(&good[..40], "exec format error");
    program_refused(&good[..100], "exec format error");
    for (at, value) in [
        (header + 8, u64::MAX),               // offset
        (header + 16, 0xffff_8000_0000_0000), // address in the kernel's half
        (header + 32, u64::MAX / 2),          // more in the file than in memory
        (header + 40, 1 << 62),               // huge
    ] {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&value.to_le_bytes());
        program_refused(&bad, "");
    }
    let mut wrong_machine = good;
    wrong_machine[18] = 3;
    program_refused(&wrong_machine, "exec format error");
}

#[test]
fn interpreters_that_are_missing_or_loop() {
    program_refused(b"#!/no/such/interpreter\n", "no such file");
    program_refused(b"#!/bin/program\n", "too many levels of symbolic links");
    program_refused(b"#!\n", "exec format error");
}

#[test]
fn a_duplicate_id_is_refused_and_the_first_container_lives() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
    let id = unique("twice");
    let create = |stdio: fn() -> std::process::Stdio| {
        let mut command = runtime.command(&["create", "--bundle"]);
        command.arg(bundle.path()).arg(&id).stdout(stdio()).stderr(stdio());
        command
    };
    assert!(create(std::process::Stdio::null).status().expect("it starts").success());
    let second = create(std::process::Stdio::piped).output().expect("it starts");
    assert_eq!(code(&second), 1);
    assert!(text(&second.stderr).contains("already exists"), "{}", text(&second.stderr));
    assert_eq!(code(&runtime.call(&["state", &id])), 0);
    assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn an_id_that_is_no_name_is_refused() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/true"]);
    for id in ["", "../escape", "a/b", "with space", &"x".repeat(2000)] {
        let mut command = runtime.command(&["run", "--bundle"]);
        command.arg(bundle.path()).arg(id);
        let output = command.output().expect("it starts");
        assert_eq!(code(&output), 1, "{id:?}: {}", text(&output.stderr));
    }
    assert!(!Path::new("/run/escape").exists());
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn a_torn_state_file_is_named_and_can_be_deleted() {
    let runtime = Runtime::bulkhead();
    let directory = runtime.root().join("torn");
    fs::create_dir_all(&directory).expect("it can be made");
    fs::write(directory.join("state.json"), "{\"id\": \"torn\", \"pid\":").expect("it can be written");
    for arguments in [&["state", "torn"][..], &["start", "torn"], &["kill", "torn"]] {
        let output = runtime.call(arguments);
        assert_eq!(code(&output), 1, "{arguments:?}");
        let message = text(&output.stderr);
        assert!(message.contains("state.json") && message.lines().count() == 1, "{arguments:?}: {message}");
    }
    assert_eq!(code(&runtime.call(&["list"])), 0);
    assert_eq!(code(&runtime.call(&["delete", "--force", "torn"])), 0);
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn a_container_that_does_not_exist_is_named() {
    let runtime = Runtime::bulkhead();
    for command in ["state", "start", "kill", "delete"] {
        let output = runtime.call(&[command, "nobody"]);
        assert_eq!(code(&output), 1, "{command}");
        assert!(text(&output.stderr).contains("does not exist"), "{command}: {}", text(&output.stderr));
    }
}
