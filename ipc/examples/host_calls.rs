//! Prints docs/host-calls.md from the services' policies: `make docs` writes it, `make check` sees that it is fresh, so that
//! no policy grows unseen.
#![forbid(unsafe_code)]

use bulkhead_ipc::confine::{Policy, PolicyError};

const POLICIES: [(&str, &str); 4] = [
    ("sentry", include_str!("../../services/sentry/src/policy.seccomp")),
    ("vfs", include_str!("../../services/vfs/src/policy.seccomp")),
    ("netstack", include_str!("../../services/netstack/src/policy.seccomp")),
    ("gofer", include_str!("../../services/gofer/src/policy.seccomp")),
];

fn main() -> Result<(), PolicyError> {
    println!("# What each service may ask of the host\n");
    println!(
        "Every host system call that a service may make once it serves, with the argument values it may have and the reason."
    );
    println!("Anything else ends the service, and the supervisor says which call it was. Generated from the services'");
    println!("`policy.seccomp` by `make docs`; do not edit.\n");
    println!(
        "The threads in which guest code runs have a filter of their own, which allows four calls at four fixed instructions"
    );
    println!("(`services/sentry/src/platform/systrap/filter.rs`).");
    for (service, text) in POLICIES {
        let policy = Policy::parse(text)?;
        println!("\n## {service}: {} calls\n", policy.calls().len());
        println!("| call | part | reason |\n|---|---|---|");
        for rule in policy.rules() {
            println!("| `{}` | {} | {} |", rule.call().replace('|', "\\|"), rule.fragment.unwrap_or("its own"), rule.reason);
        }
    }
    Ok(())
}
