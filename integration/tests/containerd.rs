//! containerd's shim for runc runs Bulkhead, as `ctr` asks it to.

use bulkhead_integration::{
    docker::Docker,
    runtime::{code, eventually, text},
    workspace,
};

#[test]
fn ctr_runs_executes_pauses_measures_and_removes() {
    let docker = Docker::start();
    let image = docker.import_to_containerd();
    let binary = workspace().join("target/release/bulkhead");
    let binary = binary.to_str().expect("it is text");
    let said = |arguments: &[&str]| {
        let output = docker.ctr(arguments);
        assert_eq!(code(&output), 0, "ctr {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let output = docker.ctr(&["run", "--rm", "--runc-binary", binary, &image, "once", "sh", "-c", "uname -r; exit 5"]);
    assert_eq!((text(&output.stdout), code(&output)), ("6.12.0-bulkhead\n".into(), 5), "{}", text(&output.stderr));

    said(&["run", "--detach", "--runc-binary", binary, &image, "task", "sleep", "1000"]);
    let status = || {
        let list = said(&["task", "ls"]);
        list.lines().find(|line| line.starts_with("task ")).and_then(|line| line.split_whitespace().nth(2)).map(str::to_owned)
    };
    assert_eq!(status().as_deref(), Some("RUNNING"));
    assert!(said(&["task", "exec", "--exec-id", "e1", "task", "ps"]).contains("sleep 1000"));
    assert_eq!(code(&docker.ctr(&["task", "exec", "--exec-id", "e2", "task", "sh", "-c", "exit 7"])), 7);
    said(&["task", "exec", "--detach", "--exec-id", "e3", "task", "sleep", "777"]);
    said(&["task", "kill", "--exec-id", "e3", "--signal", "TERM", "task"]);
    let listed = || said(&["task", "exec", "--exec-id", &bulkhead_integration::bundle::unique("e"), "task", "ps"]);
    eventually("the signal has reached the program", || !listed().contains("sleep 777"));
    said(&["task", "pause", "task"]);
    assert_eq!(status().as_deref(), Some("PAUSED"));
    said(&["task", "resume", "task"]);
    assert!(said(&["task", "metrics", "task"]).contains("memory.usage_in_bytes"));
    assert!(said(&["task", "ps", "task"]).lines().count() > 5);
    said(&["task", "kill", "--signal", "KILL", "task"]);
    eventually("it has stopped", || status().as_deref() == Some("STOPPED"));
    // Its exit status becomes the command's.
    let _ = docker.ctr(&["task", "rm", "task"]);
    said(&["container", "rm", "task"]);
    assert_eq!(status(), None);
}
