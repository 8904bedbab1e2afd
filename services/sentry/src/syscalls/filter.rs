//! The container's seccomp profile, applied to every system call before it is carried out.

use bulkhead_ipc::setup::{Comparison, Condition, FilterAction, Profile};

use super::table::ROWS;
use crate::{
    Errno,
    abi::{Arguments, SysResult},
    signal::{self, SignalInfo},
    task::Thread,
};

/// AUDIT_ARCH_X86_64.
const ARCHITECTURE: u32 = 0xc000_003e;
/// SYS_SECCOMP, the si_code of a SIGSYS.
const SYS_SECCOMP: i32 = 1;

/// A profile by number of the call.
pub struct Filter {
    calls: Vec<Decision>,
    default: FilterAction,
    /// What becomes of calls with higher numbers than the profile knows any of: such as are newer than the profile do not exist
    /// rather than being forbidden, as with runc.
    beyond: FilterAction,
}

enum Decision {
    /// Whatever the arguments.
    Plain(FilterAction),
    /// The first whose conditions hold, or the default.
    Conditional(Vec<(Vec<Condition>, FilterAction)>),
}

impl Filter {
    /// Of a profile. Names that are unknown here are calls that do not exist anyway.
    pub fn new(profile: &Profile) -> Filter {
        let size = ROWS.last().map_or(0, |row| row.number as usize + 1);
        let mut calls: Vec<Decision> = (0..size).map(|_| Decision::Plain(profile.default)).collect();
        let mut named: Vec<bool> = vec![false; size];
        let mut last = 0;
        let number = |name: &str| ROWS.iter().find(|row| row.name == name).map(|row| row.number as usize);
        for rule in &profile.rules {
            for at in rule.names.iter().filter_map(|name| number(name)) {
                last = last.max(at);
                match &mut calls[at] {
                    // A rule without conditions is about all of it.
                    Decision::Plain(_) if named[at] => {}
                    decision if rule.conditions.is_empty() => *decision = Decision::Plain(rule.action),
                    Decision::Conditional(rules) => rules.push((rule.conditions.clone(), rule.action)),
                    plain => *plain = Decision::Conditional(vec![(rule.conditions.clone(), rule.action)]),
                }
                named[at] = named[at] || rule.conditions.is_empty();
            }
        }
        let beyond =
            if profile.default == FilterAction::Allow { FilterAction::Allow } else { FilterAction::Errno(libc::ENOSYS as u16) };
        calls.truncate(last + 1);
        Filter { calls, default: profile.default, beyond }
    }

    /// What becomes of a call.
    fn decide(&self, number: u64, arguments: &Arguments) -> FilterAction {
        match usize::try_from(number).ok().and_then(|number| self.calls.get(number)) {
            Some(Decision::Plain(action)) => *action,
            Some(Decision::Conditional(rules)) => {
                let holds = |conditions: &[Condition]| conditions.iter().all(|condition| holds(condition, arguments));
                rules.iter().find(|(conditions, _)| holds(conditions)).map_or(self.default, |(_, action)| *action)
            }
            None => self.beyond,
        }
    }
}

fn holds(condition: &Condition, arguments: &Arguments) -> bool {
    let argument = arguments.raw(condition.argument.into());
    match condition.comparison {
        Comparison::NotEqual => argument != condition.value,
        Comparison::Less => argument < condition.value,
        Comparison::LessOrEqual => argument <= condition.value,
        Comparison::Equal => argument == condition.value,
        Comparison::GreaterOrEqual => argument >= condition.value,
        Comparison::Greater => argument > condition.value,
        Comparison::MaskedEqual(mask) => argument & mask == condition.value & mask,
    }
}

/// Applies the container's profile. `Some`: the call is not carried out, and this is what it returns.
pub(crate) fn refused(thread: &mut Thread, number: u64, arguments: &Arguments) -> Option<SysResult> {
    let action = thread.kernel.filter.as_ref()?.decide(number, arguments);
    match action {
        FilterAction::Allow => None,
        FilterAction::Errno(0) => Some(Ok(0)),
        FilterAction::Errno(errno) => Some(Err(Errno::new(errno.into()))),
        FilterAction::Trap(errno) => {
            let fields = [thread.registers.rip, u64::from(number as u32) | u64::from(ARCHITECTURE) << 32, 0, 0];
            signal::raise(thread, SignalInfo { signal: libc::SIGSYS, code: SYS_SECCOMP, errno: errno.into(), fields });
            // The handler finds the number where it was.
            Some(Ok(number))
        }
        FilterAction::KillThread if thread.process.thread_count() > 1 => {
            thread.signals.end_thread();
            Some(Err(Errno::EINTR))
        }
        FilterAction::KillThread | FilterAction::KillProcess => {
            thread.process.begin_exit(libc::SIGSYS);
            Some(Err(Errno::EINTR))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_ipc::setup::FilterRule;

    #[test]
    fn rules_decide_by_number_and_arguments() {
        let rule = |names: &[&str], action, conditions: &[Condition]| FilterRule {
            names: names.iter().map(|name| name.to_string()).collect(),
            action,
            conditions: conditions.to_vec(),
        };
        let masked = Condition { argument: 0, comparison: Comparison::MaskedEqual(0xf0), value: 0 };
        let equal = Condition { argument: 1, comparison: Comparison::Equal, value: 7 };
        let filter = Filter::new(&Profile {
            default: FilterAction::Errno(1),
            rules: vec![
                rule(&["read", "no_such_call"], FilterAction::Allow, &[]),
                rule(&["clone"], FilterAction::Allow, &[masked, equal]),
                rule(&["clone"], FilterAction::KillProcess, &[equal]),
                rule(&["openat"], FilterAction::KillThread, &[equal]),
                rule(&["openat"], FilterAction::Allow, &[]),
            ],
        });
        let decide = |number: i64, a: u64, b: u64| filter.decide(number as u64, &Arguments([a, b, 0, 0, 0, 0]));
        assert_eq!(decide(libc::SYS_read, 0, 0), FilterAction::Allow);
        assert_eq!(decide(libc::SYS_write, 0, 0), FilterAction::Errno(1));
        assert_eq!(decide(libc::SYS_clone, 0x0f, 7), FilterAction::Allow);
        assert_eq!(decide(libc::SYS_clone, 0x1f, 7), FilterAction::KillProcess);
        assert_eq!(decide(libc::SYS_clone, 0, 8), FilterAction::Errno(1));
        assert_eq!(decide(libc::SYS_openat, 0, 7), FilterAction::Allow);
        // Newer than anything in the profile.
        assert_eq!(decide(9999, 0, 0), FilterAction::Errno(libc::ENOSYS as u16));
    }
}
