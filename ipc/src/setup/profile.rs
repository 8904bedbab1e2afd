//! `linux.seccomp`: which system calls the container may make. The sentry enforces it on the guest's calls; it has nothing to do with
//! the filters that the services are under themselves.

use super::decode::list;
use crate::{
    control_capnp as schema,
    wire::{DecodeError, list_length},
};

/// A profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// What becomes of calls that no rule is about.
    pub default: FilterAction,
    /// The rules.
    pub rules: Vec<FilterRule>,
}

/// What becomes of a call (seccomp(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterAction {
    /// It is carried out.
    Allow,
    /// It fails with this errno.
    Errno(u16),
    /// It kills the thread.
    KillThread,
    /// It kills the process.
    KillProcess,
    /// It raises SIGSYS with this si_errno.
    Trap(u16),
}

/// Calls, and what becomes of them when all conditions hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterRule {
    /// Names of calls; those that the guest kernel does not know are of no consequence.
    pub names: Vec<String>,
    /// What becomes of them.
    pub action: FilterAction,
    /// Conditions on arguments.
    pub conditions: Vec<Condition>,
}

/// A condition on one argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

/// A comparison of an unsigned argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Comparison {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Only these bits of the argument are looked at.
    MaskedEqual(u64),
}

const NAMES: u32 = 4096;

pub(super) fn encode(from: &Profile, mut to: schema::profile::Builder<'_>) {
    action(from.default, to.reborrow().init_default_action());
    let mut rules = to.init_rules(list_length(from.rules.len()));
    for (n, from) in (0..).zip(&from.rules) {
        let mut to = rules.reborrow().get(n);
        let mut names = to.reborrow().init_names(list_length(from.names.len()));
        for (n, name) in (0..).zip(&from.names) {
            names.set(n, name.as_str());
        }
        action(from.action, to.reborrow().init_action());
        let mut conditions = to.init_conditions(list_length(from.conditions.len()));
        for (n, from) in (0..).zip(&from.conditions) {
            let mut to = conditions.reborrow().get(n);
            to.set_argument(from.argument);
            to.set_value(from.value);
            let (comparison, mask) = match from.comparison {
                Comparison::NotEqual => (schema::Comparison::NotEqual, 0),
                Comparison::Less => (schema::Comparison::Less, 0),
                Comparison::LessOrEqual => (schema::Comparison::LessOrEqual, 0),
                Comparison::Equal => (schema::Comparison::Equal, 0),
                Comparison::GreaterOrEqual => (schema::Comparison::GreaterOrEqual, 0),
                Comparison::Greater => (schema::Comparison::Greater, 0),
                Comparison::MaskedEqual(mask) => (schema::Comparison::MaskedEqual, mask),
            };
            to.set_comparison(comparison);
            to.set_mask(mask);
        }
    }
}

fn action(from: FilterAction, mut to: schema::filter_action::Builder<'_>) {
    match from {
        FilterAction::Allow => to.set_allow(()),
        FilterAction::Errno(errno) => to.set_errno(errno),
        FilterAction::KillThread => to.set_kill_thread(()),
        FilterAction::KillProcess => to.set_kill_process(()),
        FilterAction::Trap(errno) => to.set_trap(errno),
    }
}

pub(super) fn decode(from: schema::profile::Reader<'_>) -> Result<Profile, DecodeError> {
    Ok(Profile {
        default: read_action(from.get_default_action()?)?,
        rules: list(from.get_rules()?, "rules of a profile", |from| {
            let names = from.get_names()?;
            if names.len() > NAMES {
                return Err(DecodeError::TooLong("names of system calls"));
            }
            Ok(FilterRule {
                names: names.iter().map(|name| Ok(name?.to_str()?.to_owned())).collect::<Result<_, DecodeError>>()?,
                action: read_action(from.get_action()?)?,
                conditions: list(from.get_conditions()?, "conditions of a rule", read_condition)?,
            })
        })?,
    })
}

fn read_action(from: schema::filter_action::Reader<'_>) -> Result<FilterAction, DecodeError> {
    use schema::filter_action::Which;
    let errno = |value: u16| if value < 4096 { Ok(value) } else { Err(DecodeError::Invalid("errno of a profile")) };
    Ok(match from.which()? {
        Which::Allow(()) => FilterAction::Allow,
        Which::Errno(value) => FilterAction::Errno(errno(value)?),
        Which::KillThread(()) => FilterAction::KillThread,
        Which::KillProcess(()) => FilterAction::KillProcess,
        Which::Trap(value) => FilterAction::Trap(value),
    })
}

fn read_condition(from: schema::condition::Reader<'_>) -> Result<Condition, DecodeError> {
    if from.get_argument() > 5 {
        return Err(DecodeError::Invalid("argument of a condition"));
    }
    Ok(Condition {
        argument: from.get_argument(),
        comparison: match from.get_comparison()? {
            schema::Comparison::NotEqual => Comparison::NotEqual,
            schema::Comparison::Less => Comparison::Less,
            schema::Comparison::LessOrEqual => Comparison::LessOrEqual,
            schema::Comparison::Equal => Comparison::Equal,
            schema::Comparison::GreaterOrEqual => Comparison::GreaterOrEqual,
            schema::Comparison::Greater => Comparison::Greater,
            schema::Comparison::MaskedEqual => Comparison::MaskedEqual(from.get_mask()),
        },
        value: from.get_value(),
    })
}
