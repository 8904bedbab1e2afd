//! A guest that does its worst hurts nobody but itself.
//!
//! The guest is `integration/guests/hostile.c`. `BULKHEAD_SEED` and `BULKHEAD_HOSTILE_SECONDS` let it rage otherwise and longer.

use std::{process::Command, time::Duration};

use bulkhead_integration::{
    bundle::{Bundle, unique},
    guest::Guest,
    leftovers::Leftovers,
    processes::Holdings,
    runtime::{Runtime, code, finish, text},
    tree,
};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |value| value.parse().expect("it is a number"))
}

/// No service holds much more than it did.
fn assert_no_growth(before: &[(&str, Holdings)], after: &[(&str, Holdings)], about: &str) {
    for ((name, before), (_, after)) in before.iter().zip(after) {
        assert!(
            after.private_kilobytes < before.private_kilobytes + 24 * 1024
                && after.shared_kilobytes < before.shared_kilobytes + 16 * 1024
                && after.files < before.files + 32
                && after.threads < before.threads + 8,
            "{about}: {name} held {before:?} and holds {after:?}"
        );
    }
}

#[test]
fn a_guest_that_does_its_worst_hurts_only_itself() {
    let (seed, seconds) = (setting("BULKHEAD_SEED", 1), setting("BULKHEAD_HOSTILE_SECONDS", 20));
    let about = format!("seed {seed}");
    let mut guest = Guest::start("hostile.c", &[&seed.to_string(), &seconds.to_string()]);
    guest.says("ready", Duration::from_secs(20), &about);
    let before = guest.holdings();
    guest.go_on();
    guest.says("raging", Duration::from_secs(30), &about);
    guest.says("quiet", Duration::from_secs(seconds + 30), &about);
    let after = guest.holdings();
    guest.go_on();
    let (code, errors) = guest.end(Duration::from_secs(10));
    assert!(code == 0 && !errors.contains("bulkhead:"), "{about}: {code}, {errors}");
    assert_no_growth(&before, &after, &about);
}

#[test]
fn a_guest_that_does_its_worst_can_be_killed() {
    let seed = setting("BULKHEAD_SEED", 2);
    let about = format!("seed {seed}");
    let mut guest = Guest::start("hostile.c", &[&seed.to_string(), "1000"]);
    guest.says("ready", Duration::from_secs(20), &about);
    guest.go_on();
    guest.says("raging", Duration::from_secs(30), &about);
    let killed = guest.kill();
    assert_eq!(code(&killed), 0, "{about}: {}", text(&killed.stderr));
    let (code, errors) = guest.end(Duration::from_secs(3));
    assert!(code == 137 && !errors.contains("bulkhead:"), "{about}: {code}, {errors}");
}

#[test]
fn a_guest_that_opens_more_files_than_the_host_allows_is_told_so_and_can_go_on() {
    let script = r#"
        my @files; my @todo = ("/usr", "/etc", "/var/lib");
        while (my $dir = pop @todo) {
            opendir(my $d, $dir) or next;
            for (readdir $d) { next if /^\.\.?$/ || -l "$dir/$_"; push @todo, "$dir/$_" if -d _; push @files, "$dir/$_" if -f _ }
        }
        print @files > 3000 ? "many files\n" : "few files\n";
        my %errors; my $all = 0;
        for my $child (0 .. 5) {
            pipe(my $r, my $w); my $pid = fork;
            if (!$pid) {
                my @open; my %failed;
                for (1 .. 900) { my $f = $files[($child * 900 + $_) % @files]; open(my $o, "<", $f) ? push @open, $o : $failed{$! + 0}++ }
                syswrite $w, join(" ", scalar(@open), keys %failed) . "\n"; sleep 1000; exit;
            }
            close $w; push @children, $pid; my ($n, @e) = split " ", scalar <$r>; $all += $n; $errors{$_}++ for @e;
        }
        print "opened many\n" if $all > 1000; print "failed with $_\n" for grep { $_ != 23 } keys %errors;
        kill 9, @children; 1 while wait > 0;
        my $read = 0; for (@files) { open(my $o, "<", $_) or print("$_: $!\n"), last; my $x = <$o>; $read++ }
        print "read all\n" if $read == @files;
        print `echo alive`;
    "#;
    let bundle = Bundle::new(&tree("debian"), &["/usr/bin/perl", "-e", script]);
    let runtime = Runtime::bulkhead();
    // Where the runtime may raise its services' limits beyond this, there is room for all.
    let mut command = Command::new("prlimit");
    command.args(["--nofile=2500:2500", "--"]);
    let run = runtime.command(&["run", "--bundle"]);
    command.arg(run.get_program()).args(run.get_args()).arg(bundle.path()).arg(unique("files"));
    let output = finish(command, b"");
    assert_eq!(
        (text(&output.stdout).as_str(), text(&output.stderr).as_str(), code(&output)),
        ("many files\nopened many\nread all\nalive\n", "", 0)
    );
    Leftovers::of(&runtime).assert_none();
}
