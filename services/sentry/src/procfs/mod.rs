//! File systems that are views of the sentry's state: proc, sysfs, devpts, mqueue, cgroup.

/// A file or directory in one of them.
pub struct SpecialPlace {}
