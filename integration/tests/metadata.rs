//! What is changed about files is seen at once, by everybody, as under runc: names, attributes, links, mounts. The guest that
//! checks itself is `integration/guests/metadata.c`.

use std::time::Duration;

use bulkhead_integration::{guest::Guest, scene::Scene};

/// May mount, under both runtimes.
fn privileged(scene: Scene) -> Scene {
    scene.configure(|config| {
        for set in ["bounding", "effective", "permitted"] {
            let set = config["process"]["capabilities"][set].as_array_mut().expect("the default has it");
            set.push("CAP_SYS_ADMIN".into());
        }
    })
}

#[test]
fn names_come_and_go_and_everybody_sees_it() {
    Scene::bash(
        r#"
        cd /tmp; s() { stat -c '%n %F %a %s %h' "$@" 2>&1 | sed 's/\(directory [0-7]*\) [0-9]*/\1/'; }
        s a; s a; echo 12345 >a; s a; echo 678 >>a; s a; : >a; s a
        chmod 640 a; s a; ln a b; s a b; mv a c; s a b c; rm b; s b c
        mkdir -p d/e/f; s d d/e d/e/f; s d/e/f/none; touch d/e/f/none; s d/e/f/none
        (cd d/e; mv ../../d/e ../../moved; ls f; s f/none; s ../d; pwd -P)
        s d/e moved moved/f; rm -r moved; s moved moved/f/none; mkdir moved; s moved moved/f
        ln -s c link; s link; stat -L -c '%F %s' link; ln -sfn d link; s link; stat -L -c '%F' link
        readlink link; rm link; readlink link || echo "no link"; ln -s link link; stat -L link 2>&1
        cp /etc/passwd p; cmp p /etc/passwd && echo same; truncate -s 100 p; s p; head -c 50 p >q; s q
        mv q p; s p q; dd if=/dev/zero of=p bs=1 count=1 seek=9999 conv=notrunc 2>/dev/null; s p
        "#,
    )
    .same_and_succeeds();
}

#[test]
fn the_image_changes_under_the_paths_that_were_looked_up() {
    Scene::bash(
        r#"
        s() { stat -c '%n %F %a %h' "$@" 2>&1; }
        s /etc/passwd /etc/none /bin/sh /usr/share/../bin/../bin/env; [ -e /etc/none ] || echo none
        rm /etc/passwd; s /etc/passwd; echo new >/etc/passwd; s /etc/passwd; cat /etc/passwd
        mv /etc/hostname /etc/none; s /etc/hostname /etc/none; chmod 0 /etc/none; s /etc/none
        mv /usr/share/doc /usr/share/papers; s /usr/share/doc; ls /usr/share/papers | head -3; s /usr/share/papers/apt
        cp /bin/true /bin/copied; copied && echo ran; rm /bin/copied; copied 2>/dev/null || echo "gone $?"
        cp /bin/false /bin/copied; copied; echo "other $?"
        ln /etc/shells /etc/more; s /etc/shells /etc/more; rm /etc/shells; s /etc/more; cat /etc/more | head -2
        rm -rf /etc/none /etc/default; s /etc/default /etc/default/useradd; mkdir /etc/default; s /etc/default/useradd; echo done
        "#,
    )
    .same_and_succeeds();
}

#[test]
fn permissions_on_the_way_count_for_what_is_known_already() {
    privileged(Scene::bash(
        r#"
        as() { setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all --bounding-set=-all "$@" 2>&1; }
        mkdir -p /tmp/x/y; echo secret >/tmp/x/y/z; stat -c %s /tmp/x/y/z; as stat -c %s /tmp/x/y/z
        chmod 700 /tmp/x; as stat -c %s /tmp/x/y/z; as cat /tmp/x/y/z; as ls /tmp/x/none; stat -c %s /tmp/x/y/z
        chmod 711 /tmp/x; as stat -c %s /tmp/x/y/z; as ls /tmp/x; chmod 600 /tmp/x/y/z; as cat /tmp/x/y/z; as stat -c %a /tmp/x/y/z
        chown 1000 /tmp/x/y/z; as cat /tmp/x/y/z; chmod 0 /tmp/x/y/z; as cat /tmp/x/y/z; cat /tmp/x/y/z
        chgrp 1000 /tmp/x/y/z; chown 0 /tmp/x/y/z; chmod 040 /tmp/x/y/z; as cat /tmp/x/y/z; as test -w /tmp/x/y/z || echo "may not write"
        "#,
    ))
    .same_and_succeeds();
}

#[test]
fn mounts_cover_and_uncover_what_was_looked_up() {
    privileged(Scene::bash(
        r#"
        s() { stat -c '%n %F %s' "$@" 2>&1 | sed 's/directory [0-9]*/directory/'; }
        mkdir -p /tmp/m/sub /tmp/n; echo below >/tmp/m/file; s /tmp/m/file /tmp/m/none /tmp/m/sub
        cat /tmp/m/file; exec 5</tmp/m/file; exec 5<&-
        mount -t tmpfs none /tmp/m && echo mounted; s /tmp/m/file /tmp/m/none /tmp/m/sub; cat /tmp/m/file 2>&1
        echo above, and longer >/tmp/m/file; s /tmp/m/file; (cd /tmp/m; stat -c '%F' ..; ls ../m)
        mount --bind /tmp/m /tmp/n; s /tmp/n/file; rm /tmp/n/file; s /tmp/n/file /tmp/m/file; touch /tmp/m/now; s /tmp/n/now
        cat /tmp/n/now; umount /tmp/n && echo unmounted; s /tmp/n/now
        mount -o remount,ro /tmp/m; touch /tmp/m/now 2>&1; [ -w /tmp/m/now ] || echo "read-only"
        umount /tmp/m && echo unmounted; s /tmp/m/file /tmp/m/none /tmp/m/sub /tmp/m/now; cat /tmp/m/file
        "#,
    ))
    .same_and_succeeds();
}

#[test]
fn directories_are_read_as_they_are_now() {
    Scene::bash(
        r#"
        mkdir /tmp/d; cd /tmp/d; ls -a | sort; touch b a; ls; ls; rm a; ls; mkdir c; ls; ls c; touch c/x; ls c; rmdir c 2>&1; rm c/x; rmdir c; ls
        for i in $(seq 3000); do echo >f$i; done; ls | wc -l; ls | md5sum; rm f1*; ls | wc -l; find . | wc -l; cd ..; rm -r d; ls d 2>&1
        find /usr/share | sort | md5sum; find /usr/share | wc -l; rm -r /usr/share/doc; find /usr/share | sort | md5sum
        "#,
    )
    .same_and_succeeds();
}

#[test]
fn nobody_sees_an_old_state_or_half_a_change() {
    for place in ["/tmp", "/dev/shm", "/"] {
        let mut guest = Guest::start("metadata.c", &[place, "5"]);
        guest.says("fine", Duration::from_secs(120), place);
        assert_eq!(guest.end(Duration::from_secs(60)), (0, String::new()));
    }
}
