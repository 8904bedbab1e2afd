use super::*;

fn problem(text: &str) -> (usize, Problem) {
    let error = Policy::parse(text).unwrap_err();
    (error.line, error.problem)
}

#[test]
fn a_rule_is_a_name_conditions_and_a_reason() {
    let policy = Policy::parse(
        "# a comment\n\nread # data\nfcntl arg1 in F_GETFL, 0x4,-1 arg2&O_NONBLOCK|O_APPEND==0   # flags # and more\n",
    )
    .unwrap();
    let [read, fcntl] = policy.rules() else { panic!() };
    assert_eq!((read.name, read.reason.as_str(), read.conditions.len()), ("read", "data", 0));
    assert_eq!(fcntl.reason, "flags # and more");
    assert_eq!(fcntl.call(), "fcntl arg1 in F_GETFL,0x4,-1 arg2&O_NONBLOCK|O_APPEND==0");
    assert_eq!(fcntl.conditions[0].tests.iter().map(|t| t.1).collect::<Vec<_>>(), [3, 4, 0xffff_ffff]);
    assert_eq!(fcntl.conditions[1].tests, [(SeccompCmpOp::MaskedEq(0o6000), 0)]);
    assert_eq!(fcntl.combinations().len(), 3);
}

#[test]
fn mistakes_are_named_with_their_line() {
    assert_eq!(problem("read\n"), (1, Problem::NoReason));
    assert_eq!(problem("read # x\nreadd # y"), (2, Problem::UnknownSyscall("readd".into())));
    assert_eq!(problem("\nread arg1 # y"), (2, Problem::BadCondition("arg1".into())));
    assert_eq!(problem("read arg6==1 # y"), (1, Problem::BadCondition("arg6==1".into())));
    assert_eq!(problem("read arg1=1 # y"), (1, Problem::BadCondition("arg1=1".into())));
    assert_eq!(problem("read arg1&4!=1 # y"), (1, Problem::BadCondition("arg1&4!=1".into())));
    assert_eq!(problem("read arg1==O_NOPE # y"), (1, Problem::BadValue("O_NOPE".into())));
    assert_eq!(problem("include nothing"), (1, Problem::UnknownFragment("nothing".into())));
}

#[test]
fn every_fragment_parses_and_compiles() {
    for (name, text) in FRAGMENTS {
        Policy::parse(text).and_then(|policy| policy.compile()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let policy = Policy::parse(&format!("include {name}")).unwrap();
        assert!(policy.rules().iter().all(|rule| rule.fragment == Some(name)));
    }
}
