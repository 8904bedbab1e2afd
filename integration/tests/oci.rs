//! Fields of config.json that change what a container is and may do, as runc has them.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::Leftovers,
    runtime::{Runtime, code, text},
    scene::Scene,
    tree,
};
use serde_json::{Value, json};

fn profile(default: &str, rules: Value) -> impl Fn(&mut Value) {
    let seccomp = json!({ "defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules });
    move |config| config["linux"]["seccomp"] = seccomp.clone()
}

#[test]
fn a_seccomp_profile_decides_which_calls_the_guest_may_make() {
    let refused = json!([
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" },
        { "names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
        { "names": ["symlink", "symlinkat"], "action": "SCMP_ACT_KILL_PROCESS" },
        { "names": ["no_such_call"], "action": "SCMP_ACT_ERRNO" },
    ]);
    let script = "mkdir /tmp/d; echo $?; touch /tmp/f; chmod 600 /tmp/f; echo $?; ln -s a /tmp/l; echo $?; ls /tmp; \
                  grep Seccomp: /proc/self/status";
    let output = Scene::ash(script).configure(profile("SCMP_ACT_ALLOW", refused)).same();
    assert!(text(&output.stdout).starts_with("1\n1\n159\n"), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn conditions_of_a_seccomp_profile_look_at_arguments() {
    // umask(0o27) is refused, others are not; and kill with signal 0 of whoever.
    let rules = json!([
        { "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
          "args": [{ "index": 0, "value": 0o27, "op": "SCMP_CMP_EQ" }] },
        { "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2,
          "args": [{ "index": 1, "value": 0xff, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
    ]);
    let script = "umask 22; umask; umask 27; umask; kill -0 $$; echo $?; (kill -TERM 0); echo ended";
    let output = Scene::ash(script).configure(profile("SCMP_ACT_ALLOW", rules)).same();
    assert!(text(&output.stdout).starts_with("0022\n0022\n1\n"), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn a_trapped_call_raises_sigsys_and_a_default_action_counts() {
    let rules = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRAP" }]);
    let output = Scene::ash("sh -c 'mkdir /tmp/x'; echo $?").configure(profile("SCMP_ACT_ALLOW", rules)).same();
    assert_eq!(text(&output.stdout), "159\n");
}

#[test]
fn a_profile_that_makes_no_sense_is_refused_by_name() {
    let runtime = Runtime::bulkhead();
    let mut bundle = Bundle::new(&tree("busybox"), &["/bin/true"]);
    bundle.configure(profile("SCMP_ACT_ALLOW", json!([{ "names": ["read"], "action": "SCMP_ACT_NOTIFY" }])));
    let output = runtime.run(&bundle, b"");
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("linux.seccomp.syscalls[0].action"), "{}", text(&output.stderr));
    bundle.configure(|config| config["linux"]["seccomp"] = Value::Null);
    bundle.configure(|config| config["linux"]["netDevices"] = json!({ "eth0": {} }));
    assert!(text(&runtime.run(&bundle, b"").stderr).contains("linux.netDevices"));
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn the_process_is_who_and_what_the_configuration_says() {
    let script = "id -u; id -g; id -G; umask; cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; ulimit -c; hostname; uname -m; \
                  cat /proc/sys/kernel/domainname; grep -e Cap -e NoNewPrivs /proc/self/status; echo $HOME; pwd";
    let output = Scene::ash(script)
        .configure(|config| {
            let process = &mut config["process"];
            process["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o27 });
            process["oomScoreAdj"] = json!(500);
            process["rlimits"] = json!([
                { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }, { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
            process["capabilities"] = json!({ "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
                "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"] });
            process["cwd"] = json!("/made/for/it");
            process["env"] = json!(["PATH=/bin:/usr/bin", "A=1", "A=2"]);
            config["hostname"] = json!("hull");
        })
        .same_and_succeeds();
    let said = text(&output.stdout);
    assert!(said.starts_with("1000\n1001\n1001 5 6\n0027\n500\n100\n200\n0\nhull\nx86_64\n"), "{said}");
}

#[test]
fn a_personality_is_the_programs() {
    // runc has it from 1.2 on.
    let linux32 = |config: &mut Value| config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    let output = Scene::ash("uname -m; cat /proc/self/personality").configure(linux32).under_bulkhead();
    assert_eq!(text(&output.stdout), "i686\n00000008\n", "{}", text(&output.stderr));
}

#[test]
fn masked_and_read_only_paths_are_so_anywhere() {
    let script = "cat /etc/passwd | wc -c; ls /usr | wc -l; echo x >/etc/group; echo $?; ls /etc/group; echo x >/bin/new; echo $?; \
                  cat /proc/kcore | wc -c; echo 1 >/proc/sys/kernel/hostname; echo $?";
    let output = Scene::ash(script)
        .configure(|config| {
            config["linux"]["maskedPaths"] = json!(["/etc/passwd", "/usr", "/no/such", "/proc/kcore"]);
            config["linux"]["readonlyPaths"] = json!(["/etc/group", "/bin", "/no/such", "/proc/sys"]);
        })
        .under_bulkhead();
    assert_eq!(text(&output.stdout), "0\n0\n1\n/etc/group\n1\n0\n1\n", "{}", text(&output.stderr));
}

#[test]
fn hooks_run_at_their_stages_with_the_state_on_stdin() {
    let told = |runtime: Runtime| {
        let file = std::env::temp_dir().join(unique("hooks"));
        let mut bundle = Bundle::new(&tree("busybox"), &["/bin/true"]);
        let hook = |name: &str| {
            let script = format!("(echo {name}; grep -o '\"status\": *\"[a-z]*\"' | tr -d ' ') >>{}", file.display());
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
        };
        bundle.configure(|config| {
            config["hooks"] = json!({
                "prestart": hook("prestart"), "createRuntime": hook("createRuntime"), "createContainer": [],
                "poststart": hook("poststart"), "poststop": hook("poststop"),
            });
        });
        let output = runtime.run(&bundle, b"");
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let told = fs::read_to_string(&file).expect("the hooks ran");
        fs::remove_file(&file).expect("it is there");
        told.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let names = |told: &[String]| told.iter().filter(|line| !line.starts_with('"')).cloned().collect::<Vec<_>>();
    let (expected, got) = (told(Runtime::runc()), told(Runtime::bulkhead()));
    assert_eq!(names(&expected), names(&got));
    assert!(got.iter().filter(|line| line.starts_with("\"status\"")).count() == 4, "{got:?}");
}

#[test]
fn a_hook_that_fails_stops_the_container_and_leaves_nothing() {
    let runtime = Runtime::bulkhead();
    for stage in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let mut bundle = Bundle::new(&tree("busybox"), &["/bin/echo", "ran"]);
        bundle.configure(|config| config["hooks"] = json!({ stage: [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 3"] }] }));
        let output = runtime.run(&bundle, b"");
        assert_eq!((code(&output), text(&output.stdout)), (1, String::new()), "{stage}");
        assert!(text(&output.stderr).contains(stage), "{}", text(&output.stderr));
        Leftovers::of(&runtime).assert_none();
    }
}

#[test]
fn every_process_of_a_sandbox_is_in_its_control_group() {
    let runtime = Runtime::bulkhead();
    for (path, directory) in [
        (format!("/bulkhead-test/{}", unique("g")), None),
        ("a-b.slice:scene:x".to_owned(), Some("a.slice/a-b.slice/scene-x.scope")),
    ] {
        let mut bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
        bundle.configure(|config| config["linux"]["cgroupsPath"] = path.clone().into());
        let id = unique("cgroup");
        let mut command = runtime.command(&["--systemd-cgroup", "run", "--detach", "--bundle"]);
        command.arg(bundle.path()).arg(&id).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        assert!(command.status().expect("it starts").success());
        let place = Path::new("/sys/fs/cgroup/memory").join(directory.unwrap_or(path.trim_start_matches('/')));
        let members = fs::read_to_string(place.join("cgroup.procs")).expect("it is there");
        // The supervisor, four services, and the stub of the program at least.
        assert!(members.lines().count() >= 6, "{members}");
        let supervisor: Value = serde_json::from_slice(&runtime.call(&["state", &id]).stdout).expect("JSON");
        let supervisor = supervisor["pid"].to_string();
        assert!(members.lines().any(|pid| pid == supervisor));
        assert_eq!(code(&runtime.call(&["delete", "--force", &id])), 0);
        assert!(!place.exists());
        let _ = fs::remove_dir("/sys/fs/cgroup/memory/a.slice/a-b.slice");
    }
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn without_an_overlay_changes_are_in_the_bundle() {
    let runtime = Runtime::bulkhead();
    let script = "echo x >/etc/made; mkdir /new; rm /etc/group; echo more >>/etc/passwd; mv /etc/made /new/moved; cat /new/moved";
    let mut bundle = Bundle::new(&tree("busybox"), &["/bin/sh", "-c", script]);
    bundle.configure(|config| config["annotations"] = json!({ "dev.bulkhead.overlay": "none" }));
    let output = runtime.run(&bundle, b"");
    assert_eq!(text(&output.stdout), "x\n", "{}", text(&output.stderr));
    let rootfs = bundle.rootfs();
    assert_eq!(fs::read_to_string(rootfs.join("new/moved")).expect("it was made"), "x\n");
    assert!(!rootfs.join("etc/group").exists() && !rootfs.join("etc/made").exists());
    assert!(fs::read_to_string(rootfs.join("etc/passwd")).expect("it is there").ends_with("more\n"));
}

#[test]
fn id_mappings_say_which_ids_of_the_host_own_the_files_of_a_container() {
    let shared = std::env::temp_dir().join(unique("mapped"));
    fs::create_dir(&shared).expect("a directory can be made");
    let script = "touch /var/made; chown 5:6 /var/made; stat -c %u:%g /var /var/made /var/foreign /bin; \
                  chown 70000 /var/made || echo refused; echo x >/var/foreign || echo closed; rm /var/made; mkdir /var/kept";
    std::os::unix::fs::chown(&shared, Some(100_000), Some(200_000)).expect("root may");
    fs::write(shared.join("foreign"), "").expect("it can be written");
    let source = shared.clone();
    let scene = Scene::ash(script).configure(move |config| {
        let _ = fs::remove_dir(source.join("kept"));
        config["linux"]["namespaces"].as_array_mut().expect("there are some").push(json!({ "type": "user" }));
        config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 200_000, "size": 65_536 }]);
        let mount = json!({ "destination": "/var", "type": "bind", "source": source, "options": ["rbind", "rw"] });
        config["mounts"].as_array_mut().expect("there are some").push(mount);
    });
    let output = scene.same();
    let said = text(&output.stdout);
    assert_eq!(said, "0:0\n5:6\n65534:65534\n65534:65534\nrefused\nclosed\n", "{}", text(&output.stderr));
    let kept = fs::metadata(shared.join("kept")).expect("it was made");
    assert_eq!((kept.uid(), kept.gid()), (100_000, 200_000));
    fs::remove_dir_all(&shared).expect("it is there");
}

#[test]
fn mappings_without_a_user_namespace_are_refused_by_name() {
    let runtime = Runtime::bulkhead();
    let mut bundle = Bundle::new(&tree("busybox"), &["/bin/true"]);
    bundle.configure(|config| config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 7, "size": 1 }]));
    let output = runtime.run(&bundle, b"");
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("linux.uidMappings"), "{}", text(&output.stderr));
}
