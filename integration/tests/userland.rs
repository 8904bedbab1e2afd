//! A Debian userland behaves under Bulkhead as under runc.

use bulkhead_integration::{
    runtime::{code, text},
    scene::Scene,
};

#[test]
fn pipes_here_documents_redirections_and_globs() {
    Scene::bash(
        r#"
        set -e
        for i in $(seq 50); do /bin/echo $i; done | sort -rn | head -3
        cat <<EOF | tr a-z A-Z
here is $((6 * 7))
EOF
        cd /tmp; mkdir d; cd d; touch a1 a2 b1 .hidden
        echo a* b?; echo [ab]1; echo .h*; shopt -s nullglob; echo none* end
        { echo out; echo err >&2; } >o 2>e; cat o e; cat <o >>e; wc -l <e
        exec 5<>o; read -u 5 line; echo "read $line"; exec 5>&-
        diff <(echo 1; echo 2) <(echo 1; echo 3) || echo "differs: $?"
        echo one | tee f | cat - f; seq 1000 | tail -n +998; yes | head -2
        cat /etc/os-release | wc -l
        "#,
    )
    .same_and_succeeds();
}

#[test]
fn background_jobs_traps_and_wait() {
    Scene::bash(
        r#"
        (exit 7) & p=$!; wait $p; echo "child $?"
        sleep 100 & p=$!; kill $p; wait $p; echo "killed $?"
        sleep 100 & p=$!; kill -KILL $p; wait $p 2>/dev/null; echo "killed $?"
        trap 'echo caught usr1' USR1; kill -USR1 $$; echo after
        trap 'echo caught term' TERM; (sleep 0.1; kill $$) & sleep 5 & wait $!; echo "waited $?"
        trap 'echo bye' EXIT
        for i in 1 2 3 4 5 6 7 8; do (echo $i >/tmp/out$i) & done; wait; cat /tmp/out*
        set -o pipefail; false | true; echo "pipefail $?"
        { bash -c 'kill -SEGV $$'; echo "segv $?"; } 2>/dev/null
        timeout 0.2 sleep 10; echo "timeout $?"
        "#,
    )
    .same();
}

#[test]
fn exit_status_and_death_by_signal_go_through() {
    for (script, expected) in [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("{ (kill -KILL $BASHPID); } 2>/dev/null; exit $?", 137),
        ("exec /bin/false", 1),
    ] {
        let output = Scene::bash(script).same();
        assert_eq!(code(&output), expected, "{script}");
    }
}

#[test]
fn standard_input_is_the_callers() {
    let output = Scene::debian(&["/usr/bin/sort", "-r"]).input(b"b\na\nc\n").same();
    assert_eq!(text(&output.stdout), "c\nb\na\n");
    let mut lines = b"first\n".to_vec();
    lines.resize(200_000, b'x');
    Scene::bash("read line; echo \"got $line\"; md5sum").input(&lines).same_and_succeeds();
}

#[test]
fn grep_find_and_sort_over_usr() {
    Scene::bash(
        r#"
        set -e
        grep -rlE '^#!/bin/(ba)?sh' /usr/bin /usr/sbin | sort
        find /usr -xdev -type f -size +200k | sort | head -20
        find /etc -type l -printf '%p -> %l\n' | sort
        find /usr /etc -xdev -printf '%y %m %U %G %n %s %p\n' | grep -v '^d' | sort | md5sum
        find /usr -type d -printf '%m %u %g %p\n' | sort | md5sum
        "#,
    )
    .same_and_succeeds();
}

#[test]
fn archives_and_checksums() {
    Scene::bash(
        r#"
        set -e
        cd /tmp
        tar cf t.tar -C /usr/share perl5 doc; tar tf t.tar | sort | md5sum
        mkdir x; tar xf t.tar -C x; diff -r x/doc /usr/share/doc && echo same
        gzip -9 <t.tar >t.gz; gzip -t t.gz; gunzip <t.gz | cmp - t.tar && echo gzip
        xz -0 -T1 <t.tar >t.xz; xz -dc t.xz | cmp - t.tar && echo xz
        find /usr/bin -type f | sort | head -60 | xargs md5sum
        rm -rf x t.*; ls -A
        "#,
    )
    .same_and_succeeds();
}

#[test]
fn sed_and_awk() {
    Scene::bash(
        r#"
        set -e
        sed -n 's/^\([^:]*\):.*:\([^:]*\)$/\1 \2/p' /etc/passwd
        cp /etc/passwd /tmp/p; sed -i 's/root/toor/g' /tmp/p; head -1 /tmp/p
        awk -F: '{ n[$7]++ } END { for (s in n) print n[s], s }' /etc/passwd | sort
        awk 'BEGIN { while (("echo a; echo b" | getline x) > 0) print "got", x; print system("exit 3") }'
        "#,
    )
    .same_and_succeeds();
}

#[test]
fn dpkg_lists_its_packages() {
    Scene::bash("dpkg -l | cat; dpkg -L bash | head; dpkg -S /bin/bash").same_and_succeeds();
}

#[test]
fn perl_forks_waits_and_catches_signals() {
    Scene::debian(&[
        "/usr/bin/perl",
        "-e",
        r#"
        $| = 1;
        pipe(my $r, my $w) or die;
        for my $i (1 .. 5) {
            my $pid = fork() // die;
            if (!$pid) { syswrite($w, "child $i\n"); exit $i }
            waitpid($pid, 0); print "status ", $? >> 8, "\n";
        }
        close $w; print sort <$r>;
        local $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; select(undef, undef, undef, 5);
        local $SIG{CHLD} = sub { print "child signal\n" };
        my $pid = fork(); exit 0 if !$pid; waitpid($pid, 0);
        local $SIG{USR1} = sub { print "usr1 $_[0]\n" }; kill USR1 => $$;
        my $victim = fork(); if (!$victim) { sleep 100; exit }
        kill TERM => $victim; waitpid($victim, 0); print "signal ", $? & 127, "\n";
        my @s = stat("/etc/passwd"); printf "%o %d\n", $s[2], $s[7];
        "#,
    ])
    .same_and_succeeds();
}

#[test]
fn files_keep_their_attributes() {
    Scene::bash(
        r#"
        cd /tmp; umask 027
        touch f; mkdir d; ln -s f l; ln f h; mkfifo p; stat -c '%n %F %a %u %g %h' f d l h p
        chmod 4755 f; chown 12:34 f; stat -c '%a %u %g' f
        touch -d '2001-02-03 04:05:06.789 UTC' f; stat -c '%y' f
        ln -sfn /nonexistent dangling; cat dangling || echo "dangling $?"
        ln -s loop loop; cat loop || echo "loop $?"
        mkdir -p a/b/c; mv a/b x; ls -R x; rmdir x/c x; rmdir / 2>&1 || echo "rmdir $?"
        echo data >gone; exec 3<gone; rm gone; cat <&3
        truncate -s 10000 sparse; stat -c %s sparse; od -An -tx1 -N4 -j9000 sparse
        dd if=/dev/zero of=z bs=1000 count=5 2>/dev/null; stat -c %s z
        echo changed >>/etc/hostname; tail -1 /etc/hostname; rm /etc/issue; ls /etc/issue
        mv /etc/passwd /etc/passwd.moved; ls /etc/passwd* ; cp -a /etc/skel s; ls -A s
        mkdir -m 1777 sticky; stat -c %a sticky; test -w / && echo writable; cat /dev/null; head -c 4 /dev/zero | od -An -tx1
        echo x >/dev/full || echo "full $?"
        cp /bin/true t; chmod 644 t; ./t || echo "not executable $?"
        flock f -c 'echo locked'; flock -n f -c 'flock -n f true || echo busy'
        "#,
    )
    .same();
}

#[test]
fn users_and_groups_are_those_of_the_configuration() {
    Scene::bash(
        r#"
        id; cat /etc/shadow >/dev/null || echo "no shadow"; touch /root/x || echo "no root"
        touch /tmp/mine && stat -c '%u %g' /tmp/mine; kill -0 1; echo $?; umask
        "#,
    )
    .configure(|config| {
        config["process"]["user"] = serde_json::json!({ "uid": 1000, "gid": 1001, "additionalGids": [27, 100] });
        config["process"]["capabilities"] = serde_json::json!({});
    })
    .same();
}

#[test]
fn what_proc_says_of_the_process_itself() {
    Scene::bash(
        r#"
        readlink /proc/self/exe; tr '\0' ' ' </proc/self/cmdline; echo; cat /proc/$$/comm
        ls -l /proc/self/fd/ | awk '{ print $9 }' | head -4; echo /proc/[0-9]* | wc -w
        grep -E '^(Name|State|PPid|Uid|Gid|Groups|NoNewPrivs|CapEff|CapBnd|Threads):' /proc/self/status
        grep -c '\[stack\]' /proc/self/maps; grep -c 'r-xp.*/usr/bin/grep' /proc/self/maps; grep -cE '\[(vdso|heap)\]' /proc/self/maps
        cut -d' ' -f1-8 /proc/self/stat | tr -d '()' | cut -d' ' -f2-
        cat /proc/self/environ | tr '\0' '\n' | sort | grep -v '^_'
        grep 'open files' /proc/self/limits; cut -d' ' -f1 /proc/loadavg | grep -c .; head -1 /proc/meminfo | cut -d: -f1
        cut -d' ' -f2,3 /proc/mounts | sort; cat /proc/sys/kernel/hostname; cat /proc/sys/kernel/ostype
        grep -c processor /proc/cpuinfo; cat /proc/self/oom_score_adj; readlink /proc/self/cwd /proc/self/root
        "#,
    )
    .same();
}

#[test]
fn ps_shows_the_processes_of_the_sandbox() {
    // Nothing else starts while ps looks.
    Scene::bash(
        "sleep 100 & sleep 0.2; list=$(ps -eo ppid,stat,comm --no-headers); awk '{ print $1, $2, $3 }' <<< \"$list\"; kill %1; \
         ps -o args= $$ | head -c 9; uname -s -n -m",
    )
    .same_and_succeeds();
}

#[test]
fn a_guest_without_system_calls_is_stopped_by_its_limits() {
    Scene::bash(
        "exec 2>/dev/null; (ulimit -t 1; while :; do :; done); echo $?; timeout 0.3 bash -c 'while :; do :; done'; echo $?",
    )
    .same();
}
