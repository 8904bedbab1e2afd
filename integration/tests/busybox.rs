//! A busybox userland behaves under Bulkhead as under runc.

use bulkhead_integration::scene::Scene;

#[test]
fn applets_that_look_at_files() {
    Scene::ash(
        r#"
        set -e
        ls -l /bin | awk '{ print $1, $9, $10, $11 }'; ls -lan /tmp | wc -l
        stat -c '%n %a %F %s' /bin/busybox /tmp /etc/passwd; du -s /etc | wc -l
        dd if=/bin/busybox of=/tmp/b bs=4k count=10 2>/dev/null; cmp -n 40960 /bin/busybox /tmp/b && echo same
        od -c /etc/group | head -2; find / -xdev -name 'b*' -type f | sort; echo a b c | xargs -n1 echo
        vi -h 2>&1 | head -1 || true; md5sum /bin/busybox; realpath /bin/../bin/ls; readlink /bin/ls
        "#,
    )
    .same_and_succeeds();
}

#[test]
fn applets_that_look_at_processes() {
    Scene::ash(
        r#"
        sleep 50 & sleep 0.3; ps -o pid,comm >/tmp/ps; awk '$2 == "sh" || $2 == "sleep" { print $2 }' /tmp/ps; kill $!; wait $! 2>/dev/null; echo "ended $?"
        top -b -n1 | head -4 | cut -c1-4; kill -l 9; time -p true 2>&1 | cut -d' ' -f1
        "#,
    )
    .same_and_succeeds();
}

#[test]
fn applets_that_look_at_mounts() {
    Scene::ash(
        r#"
        mount | awk '{ print $3, $5 }' | sort; df -a >/dev/null && echo df
        df /dev/shm | tail -1 | awk '{ print $1, $2, $6 }'; mount -t tmpfs x /tmp; echo $?
        "#,
    )
    .same();
}

#[test]
fn a_missing_command_is_told_as_the_shell_does() {
    Scene::ash("nosuchcommand; echo $?; /etc/passwd; echo $?; exec /nonexistent").same();
}
