//! A host with cgroup v2 only, as far as a mount namespace can show one: processes are in the container's group, which is frozen and
//! removed. Where the host's controllers belong to v1, as they may here, the group has none, so that limits are left to the unit tests.

use std::process::Command;

use bulkhead_integration::{
    bundle::{Bundle, unique},
    leftovers::Leftovers,
    runtime::{Runtime, code, finish, text},
    tree,
};

const SCRIPT: &str = r#"
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup || umount -l -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
id=$1 bundle=$2; shift 2
"$@" run --detach --pid-file "$bundle/pid" --bundle "$bundle" "$id" </dev/null >/dev/null
group=/sys/fs/cgroup$(grep ^0:: "/proc/$(cat "$bundle/pid")/cgroup" | cut -d: -f3)
test "$(basename "$group")" = "$id" && test "$(wc -l <"$group/cgroup.procs")" -gt 5 && echo members
"$@" pause "$id"; grep frozen "$group/cgroup.events"
"$@" resume "$id"; grep frozen "$group/cgroup.events"
"$@" exec "$id" echo inside
"$@" delete --force "$id"
test ! -e "$group" && echo gone
"#;

#[test]
fn on_a_host_with_cgroup_v2_only_a_container_has_its_group() {
    let runtime = Runtime::bulkhead();
    let bundle = Bundle::new(&tree("busybox"), &["/bin/sleep", "1000"]);
    let bulkhead = runtime.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", SCRIPT, "sh"]).arg(unique("v2")).arg(bundle.path());
    command.arg(bulkhead.get_program()).args(bulkhead.get_args());
    let output = finish(command, b"");
    let said = text(&output.stdout);
    assert_eq!(said, "members\nfrozen 1\nfrozen 0\ninside\ngone\n", "{}", text(&output.stderr));
    assert_eq!(code(&output), 0);
    Leftovers::of(&runtime).assert_none();
}
