//! The policies do not grow unseen.

use bulkhead_ipc::confine::Policy;

/// Each service's policy, and how many of the host's system calls it may have. A limit is raised only with a good reason.
const LIMITS: [(&str, &str, usize); 4] = [
    ("sentry", include_str!("../../services/sentry/src/policy.seccomp"), 50),
    ("vfs", include_str!("../../services/vfs/src/policy.seccomp"), 25),
    ("netstack", include_str!("../../services/netstack/src/policy.seccomp"), 25),
    ("gofer", include_str!("../../services/gofer/src/policy.seccomp"), 45),
];

#[test]
fn no_service_has_more_host_calls_than_its_limit_and_the_page_counts_them() {
    let page = include_str!("../../docs/host-calls.md");
    for (service, text, limit) in LIMITS {
        let calls = Policy::parse(text).unwrap().calls();
        assert!(calls.len() <= limit, "{service} has {} calls: {calls:?}", calls.len());
        let heading = format!("## {service}: {} calls", calls.len());
        assert!(page.lines().any(|line| line == heading), "docs/host-calls.md has no line {heading:?}: run `make docs`");
    }
}

#[test]
fn no_service_may_run_programs_trace_others_open_by_path_or_make_sockets() {
    const NEVER: [&str; 20] = [
        "execve",
        "execveat",
        "fork",
        "vfork",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "open",
        "openat",
        "socket",
        "socketpair",
        "connect",
        "bind",
        "mount",
        "pivot_root",
        "chroot",
        "setns",
        "unshare",
        "bpf",
        "io_uring_setup",
    ];
    for (service, text, _) in LIMITS {
        let policy = Policy::parse(text).unwrap();
        for name in NEVER {
            assert!(!policy.calls().contains(name), "{service}: {name}");
        }
        for rule in policy.rules().iter().filter(|rule| ["mmap", "mprotect"].contains(&rule.name)) {
            assert!(
                !rule.covers([0, 4096, 4, 0x22, 0, 0]) && !rule.covers([0, 4096, 7, 0x22, 0, 0]),
                "{service}: {}",
                rule.call()
            );
        }
    }
}
