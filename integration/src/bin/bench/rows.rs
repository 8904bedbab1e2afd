//! What is measured, and how much slower than under runc it may be on two CPUs.
//!
//! Counts are such that a row takes runc some ten to a hundred milliseconds.

use super::workloads;

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// As it is printed and asked for.
    pub name: &'static str,
    /// What is done.
    pub work: Work,
    /// Times runc's, at most.
    pub goal: Option<f64>,
}

/// What a row does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// An operation of `integration/guests/bench`, so many times; its time in nanoseconds.
    Operation(u64),
    /// A bash script in the tree with the programs; its time in seconds.
    Script(&'static str),
    /// `run` of `/bin/true` from the outside; its time in seconds.
    Start,
}

const fn operation(name: &'static str, count: u64, goal: f64) -> Row {
    Row { name, work: Work::Operation(count), goal: Some(goal) }
}

const fn unlimited(name: &'static str, count: u64) -> Row {
    Row { name, work: Work::Operation(count), goal: None }
}

const fn script(name: &'static str, script: &'static str, goal: Option<f64>) -> Row {
    Row { name, work: Work::Script(script), goal }
}

/// All rows. Those of TCP come with the sockets.
pub const ROWS: &[Row] = &[
    Row { name: "start", work: Work::Start, goal: Some(1.0) },
    operation("getpid", 100_000, 2.0),
    operation("getpid-trapping", 30_000, 20.0),
    operation("clock_gettime", 1_000_000, 1.2),
    unlimited("pread-1", 50_000),
    operation("pread-4k", 50_000, 2.0),
    unlimited("pread-64k", 10_000),
    operation("pwrite-4k", 30_000, 2.0),
    operation("pread-program", 50_000, 2.0),
    operation("lseek", 100_000, 2.5),
    operation("fstat", 50_000, 2.5),
    unlimited("stat", 20_000),
    unlimited("stat-deep", 5_000),
    unlimited("stat-missing", 20_000),
    unlimited("open-close", 5_000),
    unlimited("create-unlink", 500),
    operation("mmap-touch-munmap", 5_000, 3.0),
    operation("touch", 16_384, 1.5),
    operation("segv", 10_000, 4.0),
    operation("kill-self", 10_000, 4.0),
    operation("cpu-1", 50, 1.03),
    operation("cpu-2", 50, 1.03),
    operation("thread", 1_000, 3.0),
    unlimited("pipe-alone", 30_000),
    operation("pipe-threads", 3_000, 1.5),
    operation("pipe-processes", 3_000, 1.5),
    operation("condvar-2", 6_000, 1.0),
    operation("condvar-4", 6_000, 1.0),
    operation("fork", 200, 3.0),
    operation("exec-static", 100, 2.5),
    operation("exec-dynamic", 50, 3.0),
    script("sh-loop", workloads::SHELL_LOOP, Some(3.0)),
    script("threads", workloads::PYTHON_QUEUE, Some(1.5)),
    script("py-start", workloads::PYTHON_START, None),
    script("cpu", workloads::PYTHON_COMPUTES, None),
    script("cc-build", workloads::COMPILE, None),
    script("git", workloads::GIT, None),
    script("find", workloads::FIND, None),
    script("grep", workloads::GREP, None),
    script("tar", workloads::TAR, None),
    script("sqlite", workloads::SQLITE, None),
    script("fio", workloads::FIO, None),
];
