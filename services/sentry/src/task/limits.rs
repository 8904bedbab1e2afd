//! Resource limits (getrlimit(2)), which a process has as a whole.

use bulkhead_ipc::setup::ResourceLimit;

/// RLIM_INFINITY.
pub const INFINITY: u64 = u64::MAX;
/// Number of resources (RLIM_NLIMITS).
pub const RESOURCES: usize = 16;

/// (soft, hard) of every resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits([(u64, u64); RESOURCES]);

impl Default for Limits {
    /// What a process has under Linux with a container manager's defaults.
    fn default() -> Self {
        let mut limits = Limits([(INFINITY, INFINITY); RESOURCES]);
        for (resource, soft, hard) in [
            (libc::RLIMIT_STACK, 8 << 20, INFINITY),
            (libc::RLIMIT_CORE, 0, INFINITY),
            (libc::RLIMIT_NOFILE, 1024, 1 << 20),
            (libc::RLIMIT_MEMLOCK, 8 << 20, 8 << 20),
            (libc::RLIMIT_MSGQUEUE, 819_200, 819_200),
            (libc::RLIMIT_SIGPENDING, 31_000, 31_000),
            (libc::RLIMIT_NICE, 0, 0),
            (libc::RLIMIT_RTPRIO, 0, 0),
        ] {
            limits.0[resource as usize] = (soft, hard);
        }
        limits
    }
}

impl Limits {
    /// The defaults with what the container's configuration names. What is no resource is ignored.
    pub fn configured(limits: &[ResourceLimit]) -> Limits {
        let mut all = Limits::default();
        for limit in limits {
            if let Some(slot) = all.0.get_mut(limit.resource as usize) {
                *slot = (limit.soft.min(limit.hard), limit.hard);
            }
        }
        all
    }
    /// (soft, hard); a number that is no resource is unlimited.
    pub fn get(&self, resource: u32) -> (u64, u64) {
        self.0.get(resource as usize).copied().unwrap_or((INFINITY, INFINITY))
    }
    /// Sets (soft, hard); the caller has checked them.
    pub fn set(&mut self, resource: u32, value: (u64, u64)) {
        if let Some(slot) = self.0.get_mut(resource as usize) {
            *slot = value;
        }
    }
}
