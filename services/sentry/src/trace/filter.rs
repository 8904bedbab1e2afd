//! Which calls a client wants to hear of.

use std::collections::BTreeSet;

use bulkhead_ipc::{Errno, name_of};
use parking_lot::RwLock;

use super::signatures;
use crate::syscalls::table::{self, ROWS};

/// A filter that cannot be understood, in words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadFilter {
    /// No such name.
    #[error("no system call is called {name:?}{}", meant.map(|meant| format!("; is {meant} meant?")).unwrap_or_default())]
    Call {
        /// What was given.
        name: String,
        /// What is like it.
        meant: Option<&'static str>,
    },
    /// No such class.
    #[error("there is no class of system calls {0:?}; there are {known}", known = signatures::CLASSES.join(", "))]
    Class(String),
    /// No such error.
    #[error("no error is called {0:?}")]
    Errno(String),
}

/// System calls by number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallSet([u64; WORDS]);

/// Enough for every number of the table; those without a name are behind it.
const WORDS: usize = 8;

impl CallSet {
    /// All, also those without a name.
    pub const ALL: CallSet = CallSet([u64::MAX; WORDS]);

    /// Those named, or if all names have a `!` before them, all others. Names are those of the table, numbers, or classes
    /// (`%file`). No names at all mean all calls.
    pub fn parse(names: &[String]) -> Result<CallSet, BadFilter> {
        let mut set = CallSet([0; WORDS]);
        if names.iter().all(|name| name.starts_with('!')) {
            set = CallSet::ALL;
        }
        for name in names {
            let (name, add) = name.strip_prefix('!').map_or((name.as_str(), true), |name| (name, false));
            for number in numbers(name)? {
                let (word, bit) = place(number);
                if add { set.0[word] |= bit } else { set.0[word] &= !bit }
            }
        }
        Ok(set)
    }

    fn contains(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.0[word] & bit != 0
    }
}

/// All numbers without a name share the last bit.
fn place(number: u64) -> (usize, u64) {
    let number = if number < WORDS as u64 * 64 { number as usize } else { WORDS * 64 - 1 };
    (number / 64, 1 << (number % 64))
}

fn numbers(name: &str) -> Result<Vec<u64>, BadFilter> {
    if let Some(class) = name.strip_prefix('%') {
        return signatures::class(class).ok_or_else(|| BadFilter::Class(name.to_owned()));
    }
    let known = ROWS.iter().find(|row| row.name == name).map(|row| u64::from(row.number));
    match known.or_else(|| name.parse().ok()) {
        Some(number) => Ok(vec![number]),
        None => Err(BadFilter::Call { name: name.to_owned(), meant: nearest(name) }),
    }
}

/// The name that somebody may have meant.
fn nearest(name: &str) -> Option<&'static str> {
    let most = if name.len() < 4 { 1 } else { 2 };
    let candidates = ROWS.iter().map(|row| (distance(name, row.name), row.name));
    candidates.filter(|(distance, _)| *distance <= most).min().map(|(_, name)| name)
}

/// Letters to put in, take out, change or swap to get from one to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let same = from[i - 1] == to[j - 1];
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + usize::from(!same));
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

/// See the module.
pub struct Filter {
    /// Processes or threads by number; `None`: all.
    numbers: Option<RwLock<BTreeSet<i32>>>,
    /// Whether children of them count as well.
    follow: bool,
    calls: CallSet,
    errnos: Vec<Errno>,
    failed: bool,
    /// Nanoseconds that a call takes at least.
    least: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Filter { numbers: None, follow: false, calls: CallSet::ALL, errnos: Vec::new(), failed: false, least: 0 }
    }
}

impl Filter {
    /// Calls of these processes or threads (none: of all), with `follow` also of the children that they make from now on.
    pub fn of(numbers: &[i32], follow: bool) -> Filter {
        let numbers = (!numbers.is_empty()).then(|| RwLock::new(numbers.iter().copied().collect()));
        Filter { numbers, follow, ..Filter::default() }
    }

    /// Only these calls.
    pub fn with_calls(self, calls: CallSet) -> Filter {
        Filter { calls, ..self }
    }

    /// Only calls that fail with one of these errors (none: whatever they return), or at least that fail.
    pub fn with_errors(self, names: &[String], failed: bool) -> Result<Filter, BadFilter> {
        let errnos = names.iter().map(|name| parse_errno(name)).collect::<Result<_, _>>()?;
        Ok(Filter { errnos, failed, ..self })
    }

    /// Only calls that take so many nanoseconds or longer.
    pub fn slower_than(self, least: u64) -> Filter {
        Filter { least, ..self }
    }

    fn is_about(&self, pid: i32, tid: i32) -> bool {
        self.numbers.as_ref().is_none_or(|numbers| {
            let numbers = numbers.read();
            numbers.contains(&pid) || numbers.contains(&tid)
        })
    }

    /// Whether a call that begins may be of interest.
    pub(super) fn begins(&self, pid: i32, tid: i32, number: u64) -> bool {
        self.calls.contains(number) && self.is_about(pid, tid)
    }

    /// Whether it still is, when it has returned.
    pub(super) fn ends(&self, errno: Option<Errno>, duration: u64) -> bool {
        let by_error = match errno {
            _ if self.errnos.is_empty() && !self.failed => true,
            Some(errno) => self.errnos.is_empty() || self.errnos.contains(&errno),
            None => false,
        };
        by_error && duration >= self.least
    }

    /// Whether signals and ends of threads are of interest: unless only some outcomes of calls are.
    pub(super) fn is_about_other_events(&self, pid: i32, tid: i32) -> bool {
        self.errnos.is_empty() && !self.failed && self.least == 0 && self.is_about(pid, tid)
    }

    pub(super) fn follow(&self, parent: i32, child: i32) {
        if self.follow
            && let Some(numbers) = &self.numbers
            && numbers.read().contains(&parent)
        {
            numbers.write().insert(child);
        }
    }
}

/// `ENOENT`, `2`, or one of the codes by which calls are restarted.
fn parse_errno(name: &str) -> Result<Errno, BadFilter> {
    let aliases = [("EWOULDBLOCK", Errno::EAGAIN), ("EDEADLOCK", Errno::EDEADLK), ("ENOTSUP", Errno::EOPNOTSUPP)];
    let by_number = || name.parse().ok().filter(|number| (1..4096).contains(number)).map(Errno::new);
    let by_name = || (1..4096).find(|&number| name_of(number) == Some(name)).map(Errno::new);
    let alias = || aliases.into_iter().find(|(alias, _)| *alias == name).map(|(_, errno)| errno);
    let restart = || table::RESTARTS.into_iter().find(|(_, restart)| *restart == name).map(|(errno, _)| errno);
    by_name().or_else(alias).or_else(restart).or_else(by_number).ok_or_else(|| BadFilter::Errno(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(names: &[&str]) -> Result<CallSet, BadFilter> {
        CallSet::parse(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn calls_are_chosen_by_name_number_and_class_and_left_out_by_an_exclamation_mark() {
        let set = calls(&["openat", "0"]).unwrap();
        assert!(set.contains(libc::SYS_openat as u64) && set.contains(0) && !set.contains(1));
        let set = calls(&["!read"]).unwrap();
        assert!(!set.contains(0) && set.contains(1) && set.contains(1 << 40));
        let set = calls(&["%file", "!stat"]).unwrap();
        assert!(set.contains(libc::SYS_openat as u64) && !set.contains(libc::SYS_stat as u64) && !set.contains(0));
        assert!(calls(&[]).unwrap().contains(39));
        assert_eq!(calls(&["opnat"]), Err(BadFilter::Call { name: "opnat".into(), meant: Some("openat") }));
        assert_eq!(calls(&["raed"]).unwrap_err().to_string(), "no system call is called \"raed\"; is read meant?");
        assert_eq!(calls(&["xyzzy"]).unwrap_err().to_string(), "no system call is called \"xyzzy\"");
        assert!(calls(&["%nonsense"]).unwrap_err().to_string().contains("%file"));
    }

    #[test]
    fn outcomes_are_chosen_by_error_and_duration() {
        let plain = Filter::default();
        assert!(plain.ends(None, 0) && plain.ends(Some(Errno::EPERM), 0) && plain.is_about_other_events(1, 1));
        let failed = Filter::default().with_errors(&[], true).unwrap();
        assert!(!failed.ends(None, 0) && failed.ends(Some(Errno::EPERM), 0) && !failed.is_about_other_events(1, 1));
        let missing = Filter::default().with_errors(&["ENOENT".into(), "EWOULDBLOCK".into()], false).unwrap();
        assert!(missing.ends(Some(Errno::ENOENT), 0) && missing.ends(Some(Errno::EAGAIN), 0));
        assert!(!missing.ends(Some(Errno::EPERM), 0) && !missing.ends(None, 0));
        assert!(Filter::default().with_errors(&["ENOSUCH".into()], false).is_err());
        let slow = Filter::default().slower_than(10);
        assert!(slow.ends(None, 10) && !slow.ends(None, 9));
    }

    #[test]
    fn children_are_followed_if_wanted() {
        let filter = Filter::of(&[7], true);
        assert!(filter.begins(7, 9, 0) && filter.begins(3, 7, 0) && !filter.begins(8, 8, 0));
        filter.follow(7, 8);
        filter.follow(8, 9);
        assert!(filter.begins(8, 8, 0) && filter.begins(9, 9, 0));
        let alone = Filter::of(&[7], false);
        alone.follow(7, 8);
        assert!(!alone.begins(8, 8, 0));
    }
}
