//! Seccomp policies as text, one file a service: what it may ask of the host, each rule with its reason.
//!
//! ```text
//! include runtime                                   # what every Rust program with threads needs
//! mmap arg2&PROT_EXEC==0                            # memory, but no new code
//! fcntl arg1 in F_GETFL,F_SETFL                     # non-blocking sockets
//! ```
//!
//! A line is a system call's name, conditions on its arguments (all of them have to hold; several lines for one call are
//! alternatives), and `#` with the reason, without which it is an error. A condition is `argN==V`, `argN!=V`, `argN<=V`,
//! `argN&MASK==V` or `argN in V,V,…`; a value is a number or names of [`constants`](super::constants), joined with `|`.
//! Values and masks that fit into 32 bits are compared with the lower 32 bits of the argument, which is what the host looks
//! at in the `int` arguments that such conditions are about. `name =ERRNO # reason` answers the call with an error instead
//! of making it, unless another rule has the call. `include NAME` takes in one of the [`FRAGMENTS`].
//!
//! Everything that is not named ends the process (see [`denied`](super::denied)).
#![forbid(unsafe_code)]

use super::{constants, syscalls};
use crate::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    sock_filter,
};
use std::collections::{BTreeMap, BTreeSet};

/// Parts that policies share.
pub const FRAGMENTS: [(&str, &str); 4] = [
    ("runtime", include_str!("runtime.seccomp")),
    ("threads", include_str!("threads.seccomp")),
    ("rpc", include_str!("../rpc/policy.seccomp")),
    ("debug", include_str!("../debug/policy.seccomp")),
];

/// One line of a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The system call.
    pub name: &'static str,
    /// Its number.
    pub number: i64,
    /// What its arguments must be, all of it.
    pub conditions: Vec<Condition>,
    /// The error it is answered with, instead of being made.
    pub error: Option<Errno>,
    /// Why it is needed.
    pub reason: String,
    /// The fragment it comes from, if any.
    pub fragment: Option<&'static str>,
}

/// What one argument must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// As it is written.
    pub text: String,
    argument: u8,
    /// Any of these will do.
    tests: Vec<(SeccompCmpOp, u64)>,
}

/// A parsed policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// What is wrong with a policy's text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}, line {line}: {problem}")]
pub struct PolicyError {
    /// "policy", or the name of the fragment.
    pub place: &'static str,
    /// Counted from 1; 0 is the policy as a whole.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// See [`PolicyError`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("a rule needs a reason (\"name conditions # reason\")")]
    NoReason,
    #[error("there is no system call {0:?}")]
    UnknownSyscall(String),
    #[error("there is no fragment {0:?}, or it may not be included here")]
    UnknownFragment(String),
    #[error("{0:?} is no condition")]
    BadCondition(String),
    #[error("{0:?} is no number, and no constant that policies know")]
    BadValue(String),
    #[error("the filter cannot be built: {0}")]
    Build(String),
}

impl Policy {
    /// Parses a policy's text.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        let mut rules = Vec::new();
        parse_into(text, None, &mut rules)?;
        Ok(Policy { rules })
    }

    /// The rules in the order they are written, fragments in place.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The system calls that it lets through, whatever their arguments have to be; those that it answers with an error are not
    /// among them.
    pub fn calls(&self) -> BTreeSet<&'static str> {
        self.rules.iter().filter(|rule| rule.error.is_none()).map(|rule| rule.name).collect()
    }

    /// The filter. A call that no rule allows raises SIGSYS.
    pub fn compile(&self) -> Result<BpfProgram, PolicyError> {
        let failed =
            |error: &dyn std::fmt::Display| PolicyError { place: "policy", line: 0, problem: Problem::Build(error.to_string()) };
        let mut filter: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        let (errors, allowed): (Vec<_>, Vec<_>) = self.rules.iter().partition(|rule| rule.error.is_some());
        let unconditional = |number| allowed.iter().any(|rule| rule.number == number && rule.conditions.is_empty());
        for rule in &allowed {
            let alternatives = filter.entry(rule.number).or_default();
            // An empty list of alternatives allows the call whatever its arguments.
            if unconditional(rule.number) {
                continue;
            }
            for conditions in rule.combinations() {
                let conditions: Result<Vec<_>, _> = conditions
                    .into_iter()
                    .map(|(argument, operator, value)| SeccompCondition::new(argument, width(&operator, value), operator, value))
                    .collect();
                let conditions = conditions.map_err(|e| failed(&e))?;
                alternatives.push(SeccompRule::new(conditions).map_err(|e| failed(&e))?);
            }
        }
        // One program with the errors before the rest: the host runs every program at every call.
        let errors = errors.into_iter().filter(|rule| !filter.contains_key(&rule.number));
        let mut program = answer_with_errors(errors.filter_map(|rule| Some((rule.number, rule.error?))));
        let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| failed(&e))?;
        let rest = SeccompFilter::new(filter, SeccompAction::Trap, SeccompAction::Allow, architecture);
        program.extend(rest.and_then(BpfProgram::try_from).map_err(|e| failed(&e))?);
        Ok(program)
    }
}

/// The beginning of a filter: answers these calls with these errors, and goes on with others. Numbers are compared whatever the
/// architecture is that they belong to; nothing is let through here.
fn answer_with_errors(errors: impl Iterator<Item = (i64, Errno)>) -> BpfProgram {
    let step = |code: u32, jf: u8, k: u32| sock_filter { code: code as u16, jt: 0, jf, k };
    let number = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, std::mem::offset_of!(libc::seccomp_data, nr) as u32);
    let answers = errors.flat_map(|(call, error)| {
        let answer = libc::SECCOMP_RET_ERRNO | error.number() as u32;
        [step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32), step(libc::BPF_RET | libc::BPF_K, 0, answer)]
    });
    std::iter::once(number).chain(answers).collect()
}

impl Rule {
    /// The rule as a line of text without its reason.
    pub fn call(&self) -> String {
        let call = self.conditions.iter().fold(self.name.to_owned(), |line, condition| line + " " + &condition.text);
        self.error.map_or(call.clone(), |error| format!("{call} ={error}"))
    }

    /// Whether the call with these arguments is what the rule is about.
    pub fn covers(&self, arguments: [u64; 6]) -> bool {
        self.conditions.iter().all(|condition| {
            condition.tests.iter().any(|(operator, value)| {
                let wide = matches!(width(operator, *value), SeccompCmpArgLen::Qword);
                let argument = arguments[usize::from(condition.argument)];
                let argument = if wide { argument } else { argument & u64::from(u32::MAX) };
                match operator {
                    SeccompCmpOp::Eq => argument == *value,
                    SeccompCmpOp::Ne => argument != *value,
                    SeccompCmpOp::Le => argument <= *value,
                    SeccompCmpOp::MaskedEq(mask) => argument & mask == *value,
                    _ => false,
                }
            })
        })
    }

    /// Every way to choose one test of each condition.
    fn combinations(&self) -> Vec<Vec<(u8, SeccompCmpOp, u64)>> {
        self.conditions.iter().fold(vec![Vec::new()], |chosen, condition| {
            chosen
                .iter()
                .flat_map(|chosen| {
                    condition.tests.iter().map(move |(operator, value)| {
                        let mut longer: Vec<_> = chosen.clone();
                        longer.push((condition.argument, operator.clone(), *value));
                        longer
                    })
                })
                .collect()
        })
    }
}

fn width(operator: &SeccompCmpOp, value: u64) -> SeccompCmpArgLen {
    let mask = if let SeccompCmpOp::MaskedEq(mask) = operator { *mask } else { 0 };
    if value <= u64::from(u32::MAX) && mask <= u64::from(u32::MAX) { SeccompCmpArgLen::Dword } else { SeccompCmpArgLen::Qword }
}

fn parse_into(text: &str, fragment: Option<&'static str>, rules: &mut Vec<Rule>) -> Result<(), PolicyError> {
    for (line, text) in (1..).zip(text.lines()) {
        let at = |problem| PolicyError { place: fragment.unwrap_or("policy"), line, problem };
        let (rule, reason) = text.split_once('#').map_or((text, ""), |(rule, reason)| (rule, reason.trim()));
        let mut words = rule.split_whitespace();
        let Some(first) = words.next() else { continue };
        if first == "include" {
            let name = words.next().unwrap_or_default();
            match FRAGMENTS.iter().find(|(known, _)| *known == name) {
                Some((name, text)) if fragment.is_none() && words.next().is_none() => parse_into(text, Some(name), rules)?,
                _ => return Err(at(Problem::UnknownFragment(name.to_owned()))),
            }
            continue;
        }
        let (name, number) = syscalls::find(first).ok_or_else(|| at(Problem::UnknownSyscall(first.to_owned())))?;
        if reason.is_empty() {
            return Err(at(Problem::NoReason));
        }
        let (mut conditions, mut error) = (Vec::new(), None);
        while let Some(word) = words.next() {
            if let Some(name) = word.strip_prefix('=') {
                let number = (1..=4095).find(|&number| crate::name_of(number) == Some(name));
                error = Some(Errno::new(number.ok_or_else(|| at(Problem::BadValue(name.to_owned())))?));
                continue;
            }
            conditions.push(match word.strip_prefix("arg").filter(|rest| rest.len() == 1) {
                Some(_) => parse_list(word, &mut words).map_err(at)?,
                None => parse_comparison(word).map_err(at)?,
            });
        }
        if error.is_some() && !conditions.is_empty() {
            return Err(at(Problem::BadCondition(rule.trim().to_owned())));
        }
        rules.push(Rule { name, number, conditions, error, reason: reason.to_owned(), fragment });
    }
    Ok(())
}

/// `argN in V,V,…`; blanks may follow the commas.
fn parse_list<'a>(first: &str, words: &mut impl Iterator<Item = &'a str>) -> Result<Condition, Problem> {
    let bad = || Problem::BadCondition(first.to_owned());
    let argument = argument(first).ok_or_else(bad)?;
    if words.next() != Some("in") {
        return Err(bad());
    }
    let mut list = String::new();
    loop {
        list.push_str(words.next().ok_or_else(bad)?);
        if !list.ends_with(',') {
            break;
        }
    }
    let tests = list.split(',').map(|item| Ok((SeccompCmpOp::Eq, value(item)?))).collect::<Result<_, _>>()?;
    Ok(Condition { text: format!("{first} in {list}"), argument, tests })
}

/// `argN==V`, `argN!=V`, `argN<=V` or `argN&MASK==V`.
fn parse_comparison(word: &str) -> Result<Condition, Problem> {
    let bad = || Problem::BadCondition(word.to_owned());
    let (operator, left, right) = ["==", "!=", "<="]
        .into_iter()
        .find_map(|operator| word.split_once(operator).map(|(left, right)| (operator, left, right)))
        .ok_or_else(bad)?;
    let (left, mask) = match left.split_once('&') {
        Some((left, mask)) => (left, Some(value(mask)?)),
        None => (left, None),
    };
    let operator = match (operator, mask) {
        ("==", Some(mask)) => SeccompCmpOp::MaskedEq(mask),
        ("==", None) => SeccompCmpOp::Eq,
        ("!=", None) => SeccompCmpOp::Ne,
        ("<=", None) => SeccompCmpOp::Le,
        _ => return Err(bad()),
    };
    Ok(Condition { text: word.to_owned(), argument: argument(left).ok_or_else(bad)?, tests: vec![(operator, value(right)?)] })
}

fn argument(word: &str) -> Option<u8> {
    word.strip_prefix("arg")?.parse().ok().filter(|&n| n < 6)
}

fn value(word: &str) -> Result<u64, Problem> {
    word.split('|').try_fold(0, |value, term| {
        number(term).or_else(|| constants::find(term)).map(|term| value | term).ok_or_else(|| Problem::BadValue(word.to_owned()))
    })
}

/// Decimal, `0x` or `0o`; a negative number is an `int`.
fn number(term: &str) -> Option<u64> {
    if let Some(hex) = term.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if let Some(octal) = term.strip_prefix("0o") {
        u64::from_str_radix(octal, 8).ok()
    } else if term.starts_with('-') {
        term.parse::<i32>().ok().map(|n| u64::from(n as u32))
    } else {
        term.parse().ok()
    }
}

#[cfg(test)]
mod tests;
