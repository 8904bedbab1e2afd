//! Terminals within a container and the container's own, as Linux has them.

use std::process::Command;

use bulkhead_integration::{
    bundle::Bundle,
    leftovers::Leftovers,
    runtime::{Runtime, code, text},
    scene::Scene,
    tree, workspace,
};

/// What the guest `integration/guests/terminals.c` sees under a runtime.
fn guest_under(runtime: &Runtime) -> String {
    let bundle = Bundle::new(&tree("busybox"), &["/guest"]);
    let compiled = Command::new("cc")
        .args(["-O1", "-static", "-w", "-o"])
        .arg(bundle.rootfs().join("guest"))
        .arg(workspace().join("integration/guests/terminals.c"))
        .status();
    assert!(compiled.expect("there is a C compiler").success(), "the guest compiles");
    let output = runtime.run(&bundle, b"");
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn pseudo_terminals_and_job_control_are_those_of_linux() {
    let expected = guest_under(&Runtime::runc());
    let runtime = Runtime::bulkhead();
    let got = guest_under(&runtime);
    for (number, (got, expected)) in got.lines().zip(expected.lines()).enumerate() {
        assert_eq!(got, expected, "line {}", number + 1);
    }
    assert_eq!(got.lines().count(), expected.lines().count());
    assert!(expected.lines().count() > 100, "it saw little:\n{expected}");
    Leftovers::of(&runtime).assert_none();
}

#[test]
fn script_runs_a_shell_on_a_terminal() {
    Scene::bash(
        r#"
        script -qec 'tty; stty -a; echo $-; ps -o tty,stat,comm' /dev/null </dev/null
        script -qec 'stty rows 12 cols 34; stty size; exit 3' /dev/null </dev/null; echo "status $?"
        ls -l /dev/ptmx /dev/pts | tr -s ' ' | cut -d ' ' -f 1,3-6,10-
        tty; echo "$?"; stty size; echo >/dev/tty
        "#,
    )
    .same();
}
