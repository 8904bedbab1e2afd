//! The policy is one that the host takes.

use bulkhead_ipc::confine::Policy;

#[test]
fn the_policy_compiles() {
    Policy::parse(include_str!("../src/policy.seccomp")).unwrap().compile().unwrap();
}
