//! The OCI commands: create, start, state, list, kill, delete, run, do, spec.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::{Leftovers, cgroups},
    runtime::{Runtime, code, eventually, exit_code, text},
    tree,
};
use serde_json::{Value, json};

fn state(runtime: &Runtime, id: &str) -> Value {
    let output = runtime.call(&["state", id]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("state prints JSON")
}

fn create(runtime: &Runtime, bundle: &Bundle, id: &str) {
    let mut command = runtime.command(&["create", "--bundle"]);
    command.arg(bundle.path()).arg("--pid-file").arg(bundle.path().join("pid")).arg(id);
    // The container keeps the caller's stdio: a pipe here would never close.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("it starts").success(), "create {id}");
}

/// Adds a directory of the host as a bind mount.
fn share(bundle: &mut Bundle, destination: &str, options: &[&str]) -> std::path::PathBuf {
    let shared = bundle.path().join("shared");
    fs::create_dir_all(&shared).expect("a directory can be made");
    let mount = json!({ "destination": destination, "type": "bind", "source": shared, "options": options });
    bundle.configure(|config| config["mounts"].as_array_mut().expect("there are mounts").push(mount));
    shared
}

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
    let id = unique("life");
    create(&runtime, &bundle, &id);
    let created = state(&runtime, &id);
    assert_eq!(created["status"], "created");
    assert_eq!(created["id"], id.as_str());
    let pid = fs::read_to_string(bundle.path().join("pid")).expect("the pid file is there");
    assert_eq!(created["pid"].to_string(), pid.trim());

    assert_eq!(code(&runtime.call(&["start", &id])), 0);
    assert_eq!(state(&runtime, &id)["status"], "running");
    assert_ne!(code(&runtime.call(&["start", &id])), 0, "it cannot be started twice");
    assert_ne!(code(&runtime.call(&["delete", &id])), 0, "a running container is not deleted without --force");
    let listed: Value = serde_json::from_slice(&runtime.call(&["list", "--format", "json"]).stdout).expect("list prints JSON");
    assert_eq!(listed[0]["id"], id.as_str());
    assert_eq!(text(&runtime.call(&["list", "--quiet"]).stdout).trim(), id);

    assert_eq!(code(&runtime.call(&["kill", &id, "KILL"])), 0);
    eventually("it has stopped", || state(&runtime, &id)["status"] == "stopped");
    assert_eq!(code(&runtime.call(&["delete", &id])), 0);
    assert_ne!(code(&runtime.call(&["state", &id])), 0);
    Leftovers::of(&runtime).assert_none();
    assert_eq!(cgroups(&id), Vec::<std::path::PathBuf>::new());
}

/// `create`, and if that succeeds `start`: their exit codes, and what the program or the commands wrote to standard error.
fn create_and_start(runtime: &Runtime, program: &str) -> (i32, i32, String) {
    let bundle = Bundle::new(&tree("busybox"), &[program]);
    fs::write(bundle.rootfs().join("bin/nonsense"), "\x01\x02").expect("it can be written");
    fs::set_permissions(bundle.rootfs().join("bin/nonsense"), fs::Permissions::from_mode(0o755)).expect("it is there");
    let (id, file) = (unique("program"), bundle.path().join("stderr"));
    let errors = fs::File::create(&file).expect("it can be made");
    let mut command = runtime.command(&["create", "--bundle"]);
    command.arg(bundle.path()).arg(&id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    let created = exit_code(command.status().expect("it starts"));
    let started = code(&runtime.call(&["start", &id]));
    if created == 0 {
        eventually("it has stopped", || state(runtime, &id)["status"] == "stopped");
        assert_eq!(code(&runtime.call(&["delete", &id])), 0);
    }
    (created, started, fs::read_to_string(&file).expect("it is there"))
}

#[test]
fn create_finds_the_program_and_start_runs_it_as_runc_does() {
    let (bulkhead, runc) = (Runtime::bulkhead(), Runtime::runc());
    for (program, words) in [
        ("no-such-program", "exec: \"no-such-program\": executable file not found in $PATH"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ("/no/such/file", "exec: \"/no/such/file\": stat /no/such/file: no such file or directory"),
        ("/bin/nonsense", "exec /bin/nonsense: exec format error"),
        ("/bin/true", ""),
    ] {
        let (created, started, said) = create_and_start(&bulkhead, program);
        let (its_created, its_started, its_words) = create_and_start(&runc, program);
        assert_eq!((created, started), (its_created, its_started), "{program}: {said}{its_words}");
        // runc's log escapes quotes.
        assert!(said.contains(words) && its_words.replace('\\', "").contains(words), "{program}: {said}{its_words}");
    }
    Leftovers::of(&bulkhead).assert_none();
}

#[test]
fn a_created_container_can_be_deleted_by_force() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
    let id = unique("force");
    create(&runtime, &bundle, &id);
    assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn kill_delivers_the_named_signal_to_init() {
    let runtime = Runtime::bulkhead();
    let script = "trap 'echo usr1 >/tmp/got; exit 9' USR1; touch /tmp/ready; while :; do sleep 0.05; done";
    let mut bundle = Bundle::new(&tree("busybox"), &["/bin/sh", "-c", script]);
    let shared = share(&mut bundle, "/tmp", &["rbind", "rw"]);
    let id = unique("signal");
    create(&runtime, &bundle, &id);
    assert_eq!(code(&runtime.call(&["start", &id])), 0);
    eventually("the trap is set", || shared.join("ready").exists());
    assert_eq!(code(&runtime.call(&["kill", &id, "SIGUSR1"])), 0);
    eventually("it has stopped", || state(&runtime, &id)["status"] == "stopped");
    assert_eq!(fs::read_to_string(shared.join("got")).expect("the trap ran"), "usr1\n");
    assert_eq!(code(&runtime.call(&["delete", &id])), 0);
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn do_runs_a_command_over_the_hosts_root() {
    let runtime = Runtime::bulkhead();
    let script = "uname -r; echo x >/etc/made-in-the-sandbox && cat /etc/made-in-the-sandbox; exit 4";
    let output = runtime.call(&["do", "--", "sh", "-c", script]);
    assert_eq!(text(&output.stdout), "6.12.0-bulkhead\nx\n", "{}", text(&output.stderr));
    assert_eq!(code(&output), 4);
    assert!(!Path::new("/etc/made-in-the-sandbox").exists(), "the host's root is read-only to it");
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn do_runs_the_pipeline_of_the_readme() {
    let runtime = Runtime::bulkhead();
    let script = "for i in $(seq 50); do /bin/echo $i; done | sort -rn | head -3; cat /etc/os-release | wc -l";
    let output = runtime.call(&["do", "--", "bash", "-c", script]);
    let lines = fs::read_to_string("/etc/os-release").expect("the host has one").lines().count();
    assert_eq!(text(&output.stdout), format!("50\n49\n48\n{lines}\n"), "{}", text(&output.stderr));
    assert_eq!(code(&output), 0);
}

#[test]
fn spec_writes_a_configuration_that_runs() {
    let runtime = Runtime::bulkhead();
    let mut bundle = Bundle::new(&tree("busybox"), &["unused"]);
    let file = bundle.path().join("config.json");
    fs::remove_file(&file).expect("it is there");
    let output = runtime.call_in(bundle.path(), &["spec"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_ne!(code(&runtime.call_in(bundle.path(), &["spec"])), 0, "an existing config.json is not overwritten");
    bundle.config = serde_json::from_slice(&fs::read(&file).expect("it was written")).expect("it is JSON");
    bundle.configure(|config| {
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["echo", "from the specification"]);
    });
    let output = runtime.run(&bundle, b"");
    assert_eq!(text(&output.stdout), "from the specification\n", "{}", text(&output.stderr));
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn a_read_only_root_refuses_writes_and_tmpfs_takes_them() {
    let runtime = Runtime::bulkhead();
    let script = "echo x >/etc/x; echo $?; echo y >/dev/shm/y && cat /dev/shm/y";
    let mut bundle = Bundle::new(&tree("busybox"), &["/bin/sh", "-c", script]);
    bundle.configure(|config| config["root"]["readonly"] = true.into());
    let output = runtime.run(&bundle, b"");
    assert_eq!(text(&output.stdout), "1\ny\n", "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Read-only file system"), "{}", text(&output.stderr));
}

#[test]
fn a_bind_mount_reaches_the_host_and_a_read_only_one_does_not() {
    let runtime = Runtime::bulkhead();
    let script = "echo from inside >/rw/out; cat /rw/in; ls -l /rw/in | cut -c1-10; echo x >/ro/out; echo $?; cat /ro/in";
    let mut bundle = Bundle::new(&tree("busybox"), &["/bin/sh", "-c", script]);
    let shared = share(&mut bundle, "/rw", &["rbind", "rw"]);
    share(&mut bundle, "/ro", &["rbind", "ro"]);
    fs::write(shared.join("in"), "from outside\n").expect("a file can be written");
    let output = runtime.run(&bundle, b"");
    assert_eq!(text(&output.stdout), "from outside\n-rw-r--r--\n1\nfrom outside\n", "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(shared.join("out")).expect("it was written"), "from inside\n");
}

#[test]
fn the_host_sees_nothing_of_what_the_container_writes_to_its_root() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sh", "-c", "echo x >/etc/made; mkdir /new; rm /etc/group; ls /etc"]);
    let output = runtime.run(&bundle, b"");
    let listing = text(&output.stdout);
    assert!(listing.contains("made\n") && !listing.contains("group"), "{listing}{}", text(&output.stderr));
    assert!(!bundle.rootfs().join("etc/made").exists() && bundle.rootfs().join("etc/group").exists());
}

#[test]
fn the_version_is_told() {
    let output = Runtime::bulkhead().call(&["--version"]);
    assert!(text(&output.stdout).starts_with("bulkhead version "), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("spec: 1."), "{}", text(&output.stdout));
}
