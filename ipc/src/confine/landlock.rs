//! Landlock: a second wall behind the empty root and the seccomp filter, for the case that either has a hole.
#![forbid(unsafe_code)]

use super::ConfineError;
use landlock::{ABI, Access, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope};
use std::os::fd::BorrowedFd;

/// What a service may reach by path.
#[derive(Clone, Copy, Debug)]
pub enum Files<'a> {
    /// Nothing: it works on fds that it was handed.
    None,
    /// What is beneath these directories (or these files themselves); with `false`, for reading only.
    Beneath(&'a [(BorrowedFd<'a>, bool)]),
}

/// The newest Landlock that we know; what an older host does not have is left out.
const NEWEST: ABI = ABI::V7;

/// Denies every access by path but `files`, every TCP port, abstract sockets of processes outside, and (unless `signals`) signals
/// to them: processes that were made before are outside too. Tells whether the host has Landlock.
pub(super) fn restrict(files: Files<'_>, signals: bool) -> Result<bool, ConfineError> {
    let mut scope = Scope::from_all(NEWEST);
    if signals {
        scope.remove(Scope::Signal);
    }
    let failed = |error: landlock::RulesetError| ConfineError::Landlock(error.to_string());
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(scope))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    if let Files::Beneath(roots) = files {
        for &(root, writable) in roots {
            let access = if writable { AccessFs::from_all(NEWEST) } else { AccessFs::from_read(NEWEST) };
            rules = rules.add_rule(PathBeneath::new(root, access)).map_err(failed)?;
        }
    }
    Ok(rules.restrict_self().map_err(failed)?.ruleset != RulesetStatus::NotEnforced)
}
