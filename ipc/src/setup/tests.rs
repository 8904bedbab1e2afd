use super::*;
use crate::vfs::ForeignFs;
use proptest::prelude::*;

fn program() -> Program {
    Program {
        arguments: vec![b"/bin/sh".to_vec(), b"-c".to_vec(), vec![0xff, 0xfe]],
        environment: vec![b"PATH=/bin".to_vec()],
        directory: b"/".to_vec(),
        uid: 1,
        gid: 2,
        groups: vec![3, 4],
        umask: Some(0o22),
        capabilities: CapabilitySets { bounding: 1, effective: 2, inheritable: 3, permitted: 4, ambient: u64::MAX },
        limits: vec![ResourceLimit { resource: 7, soft: 1024, hard: u64::MAX }],
        no_new_privileges: true,
        oom_score_adjust: -999,
        personality: 0x4_0000,
        terminal: true,
    }
}

fn roles() -> [Role; 4] {
    let mount = |kind| MountSpec {
        destination: b"/x".to_vec(),
        kind,
        flags: 15,
        fstype: "tmpfs".into(),
        source: "none".into(),
        options: "size=1m".into(),
    };
    [
        Role::Sentry(SentrySetup {
            program: program(),
            hostname: b"host".to_vec(),
            domainname: b"(none)".to_vec(),
            cpus: vec![0, 1],
            memory_limit: 1 << 40,
            masked_paths: vec![b"/proc/kcore".to_vec()],
            readonly_paths: vec![b"/proc/sys".to_vec(), b"/sys".to_vec()],
            sysctls: vec![("net.x".into(), "1".into())],
            devpts_options: "gid=5".into(),
            keep_call_sites: true,
            task_limit: Some(7),
            profile: Some(Profile {
                default: FilterAction::Errno(38),
                rules: vec![FilterRule {
                    names: vec!["clone".into()],
                    action: FilterAction::Trap(1),
                    conditions: vec![
                        Condition { argument: 5, comparison: Comparison::MaskedEqual(0xf0), value: 0x10 },
                        Condition { argument: 0, comparison: Comparison::Greater, value: u64::MAX },
                    ],
                }],
            }),
        }),
        Role::Vfs(VfsSetup {
            cpus: vec![1],
            mounts: vec![
                mount(MountKind::Overlay { lower: 0 }),
                mount(MountKind::Gofer { root: 3 }),
                mount(MountKind::Tmpfs),
                mount(MountKind::Foreign(ForeignFs::Devpts)),
            ],
            nodes: vec![NodeSpec {
                path: b"/dev/null".to_vec(),
                mode: 0o20666,
                device: 259,
                uid: 5,
                gid: 6,
                target: b"t".to_vec(),
            }],
        }),
        Role::Gofer(GoferSetup { cpus: vec![], roots: vec![RootSpec { path: b"/srv".to_vec(), readonly: true }] }),
        Role::Netstack(NetstackSetup { cpus: vec![1] }),
    ]
}

fn encoded(role: Role) -> (Setup, Vec<u8>) {
    let setup = Setup { sandbox: "c1".into(), log_filter: "info".into(), log_json: true, role };
    let mut bytes = Vec::new();
    setup.encode(&mut bytes);
    (setup, bytes)
}

#[test]
fn every_set_up_survives_the_wire() {
    for role in roles() {
        let (setup, bytes) = encoded(role);
        assert_eq!(Setup::decode(&bytes), Ok(setup));
    }
}

#[test]
fn orders_and_reports_survive_the_wire() {
    let mut bytes = Vec::new();
    for order in [Order::Prepare, Order::Start, Order::WindowChanged, Order::Signal { signal: 15, all: true }] {
        order.encode(&mut bytes);
        assert_eq!(Order::decode(&bytes), Ok(order));
    }
    for report in [Report::Ready, Report::Failed("no such file".into()), Report::Started, Report::Exited(0x8b)] {
        report.encode(&mut bytes);
        assert_eq!(Report::decode(&bytes), Ok(report));
    }
}

#[test]
fn a_set_up_with_arguments_as_large_as_linux_allows_survives_the_wire() {
    let mut large = program();
    large.arguments = vec![vec![b'x'; 100_000]; 40];
    let (setup, bytes) = encoded(Role::Sentry(SentrySetup { program: large, ..Default::default() }));
    assert_eq!(Setup::decode(&bytes), Ok(setup));
}

#[test]
fn values_out_of_range_are_refused() {
    let mut bytes = Vec::new();
    for signal in [0, -1, 65] {
        Order::Signal { signal, all: false }.encode(&mut bytes);
        assert!(Order::decode(&bytes).is_err());
    }
    let hostname = vec![b'x'; 65];
    assert!(Setup::decode(&encoded(Role::Sentry(SentrySetup { hostname, ..Default::default() })).1).is_err());
    let nodes = vec![NodeSpec { path: b"relative".to_vec(), mode: 0, device: 0, uid: 0, gid: 0, target: vec![] }];
    assert!(Setup::decode(&encoded(Role::Vfs(VfsSetup { nodes, ..Default::default() })).1).is_err());
}

#[test]
fn a_reason_is_one_line_whatever_the_service_wrote() {
    let mut bytes = Vec::new();
    Report::Failed("two\nlines\x1b[31m".into()).encode(&mut bytes);
    assert_eq!(Report::decode(&bytes), Ok(Report::Failed("two lines [31m".into())));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_errors_or_messages(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = (Setup::decode(&bytes), Order::decode(&bytes), Report::decode(&bytes));
    }

    /// Real messages with a few words changed: these get past the framing.
    #[test]
    fn damaged_messages_are_errors_or_messages(
        role in 0..4usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(roles()[role].clone()).1;
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = Setup::decode(&bytes);
        let _ = Setup::decode(&bytes[..cut.index(bytes.len())]);
    }
}
