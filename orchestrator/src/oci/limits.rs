//! Resource limits of the container's program.

use bulkhead_ipc::setup::ResourceLimit;
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};

use super::complaint::Complaint;

/// `process.rlimits`.
pub fn convert(limits: &[PosixRlimit]) -> Result<Vec<ResourceLimit>, Complaint> {
    let mut converted: Vec<ResourceLimit> = Vec::with_capacity(limits.len());
    for (index, limit) in limits.iter().enumerate() {
        let resource = number(limit.typ());
        let field = format!("process.rlimits[{index}]");
        if converted.iter().any(|earlier| earlier.resource == resource) {
            return Err(Complaint::new(field, format!("a second limit of type {}", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            return Err(Complaint::new(
                field,
                format!("the soft limit {} is above the hard limit {}", limit.soft(), limit.hard()),
            ));
        }
        converted.push(ResourceLimit { resource, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(converted)
}

fn number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}
