//! Call sites that are rewritten behave as before. The guests are `integration/guests/rewriting_*.c`;
//! `BULKHEAD_REWRITING_SECONDS` lets the stress test run longer.

use std::{fs, path::Path, process::Command, time::Duration};

use bulkhead_integration::{guest::Guest, workspace};

#[test]
fn rewritten_calls_keep_everything_that_calls_keep_while_all_else_goes_on() {
    let seconds = std::env::var("BULKHEAD_REWRITING_SECONDS").unwrap_or_else(|_| "20".into());
    let length: u64 = seconds.parse().expect("it is a number");
    let guest = Guest::start("rewriting_stress.c", &[&seconds]);
    ends_well(guest, Duration::from_secs(length + 30));
}

#[test]
fn a_program_may_do_anything_to_its_rewritten_text() {
    ends_well(Guest::start("rewriting_odd.c", &[]), Duration::from_secs(60));
}

#[test]
fn cancellation_points_of_musl_stay_what_they_are() {
    let build = |flags: &'static [&str]| {
        move |rootfs: &Path| {
            let mut compiler = Command::new("musl-gcc");
            compiler.args(["-O1", "-pthread", "-w"]).args(flags);
            compile_with(compiler, "cancel.c", rootfs);
            // For the dynamic one.
            let library = "lib/ld-musl-x86_64.so.1";
            fs::create_dir_all(rootfs.join("lib")).expect("it can be made");
            fs::copy(Path::new("/").join(library), rootfs.join(library)).expect("musl is there");
        }
    };
    ends_well(Guest::built(&[], build(&["-static"])), Duration::from_secs(60));
    ends_well(Guest::built(&[], build(&[])), Duration::from_secs(60));
}

#[test]
fn a_go_program_calls_and_is_preempted_and_starts_others() {
    let guest = Guest::built(&[], |rootfs| {
        let mut compiler = Command::new("go");
        compiler.arg("build").env("CGO_ENABLED", "0").env("GOCACHE", workspace().join("target/tools/go-cache"));
        compile_with(compiler, "goroutines.go", rootfs);
    });
    ends_well(guest, Duration::from_secs(60));
}

fn compile_with(mut compiler: Command, source: &str, rootfs: &Path) {
    compiler.arg("-o").arg(rootfs.join("guest")).arg(workspace().join("integration/guests").join(source));
    assert!(compiler.status().expect("there is a compiler").success(), "{source} compiles");
}

fn ends_well(mut guest: Guest, within: Duration) {
    guest.says("ok", within, "the guest");
    let (code, errors) = guest.end(Duration::from_secs(10));
    assert_eq!((code, errors.as_str()), (0, ""));
}
