//! Sockets behave as under runc. The guest says what each step gave (`integration/guests/unix_sockets.c`).

use bulkhead_integration::{runtime::text, scene::Scene};

#[test]
fn unix_sockets_do_step_by_step_what_they_do_under_runc() {
    let output = Scene::guest("unix_sockets.c").same_and_succeeds();
    assert!(text(&output.stdout).ends_with("-- end\n"));
}
