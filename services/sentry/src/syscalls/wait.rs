//! wait4(2), waitid(2).

use crate::{
    Errno,
    abi::{Arguments, SysResult},
    signal::SignalInfo,
    syscalls::limits::Usage,
    task::{
        PidFd, Thread,
        wait::{self, WaitOptions, Waited, Which, exit_code},
    },
};

/// wait4(2): pid, status, options, rusage.
pub async fn wait4(thread: &mut Thread, arguments: Arguments) -> SysResult {
    use WaitOptions as W;
    let allowed = W::NOHANG | W::UNTRACED | W::CONTINUED | W::NOTHREAD | W::CLONE | W::ALL;
    let options = W::from_bits(arguments.uint(2)).filter(|o| allowed.contains(*o)).ok_or(Errno::EINVAL)?;
    let which = match arguments.int(0) {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(own_group(thread)?),
        group if group < -1 => Which::Group(-group),
        pid => Which::Pid(pid),
    };
    let Some(waited) = wait::wait(&thread.task, which, options | W::EXITED).await? else { return Ok(0) };
    let memory = thread.memory();
    if !arguments.address(1).is_null() {
        memory.write_value(arguments.address(1), &waited.status)?;
    }
    if !arguments.address(3).is_null() {
        memory.write_value(arguments.address(3), &Usage::of(waited.times, waited.peak_resident))?;
    }
    Ok(waited.pid as u64)
}

/// waitid(2): kind of id, id, siginfo, options, rusage.
pub async fn waitid(thread: &mut Thread, arguments: Arguments) -> SysResult {
    use WaitOptions as W;
    let mut options = W::from_bits(arguments.uint(3)).ok_or(Errno::EINVAL)?;
    if !options.intersects(W::EXITED | W::UNTRACED | W::CONTINUED) {
        return Err(Errno::EINVAL);
    }
    let id = arguments.int(1);
    let mut nonblocking = false;
    let which = match arguments.uint(0) {
        libc::P_ALL => Which::Any,
        libc::P_PID if id > 0 => Which::Pid(id),
        libc::P_PGID if id > 0 => Which::Group(id),
        libc::P_PGID if id == 0 => Which::Group(own_group(thread)?),
        libc::P_PIDFD if id >= 0 => {
            let file = thread.files().get(arguments.fd(1))?;
            nonblocking = file.nonblocking();
            Which::Process(file.downcast::<PidFd>().ok_or(Errno::EBADF)?.process.clone())
        }
        _ => return Err(Errno::EINVAL),
    };
    let must_not_wait = nonblocking && !options.contains(W::NOHANG);
    options.set(W::NOHANG, options.contains(W::NOHANG) || nonblocking);
    let waited = wait::wait(&thread.task, which, options).await?;
    if waited.is_none() && must_not_wait {
        return Err(Errno::EAGAIN);
    }
    let memory = thread.memory();
    if let Some(waited) = &waited
        && !arguments.address(4).is_null()
    {
        memory.write_value(arguments.address(4), &Usage::of(waited.times, waited.peak_resident))?;
    }
    if !arguments.address(2).is_null() {
        let info = waited.as_ref().map_or_else(SignalInfo::default, describe);
        // Linux leaves what is behind si_status alone.
        memory.write(arguments.address(2), zerocopy::IntoBytes::as_bytes(&info.to_raw()).get(..WRITTEN).unwrap_or_default())?;
    }
    Ok(0)
}

/// Bytes of siginfo_t up to and including si_status.
const WRITTEN: usize = 28;

fn describe(waited: &Waited) -> SignalInfo {
    let (code, status) = exit_code(waited.status);
    SignalInfo::child(code, waited.pid, waited.uid, status, 0, 0)
}

fn own_group(thread: &Thread) -> Result<i32, Errno> {
    thread.kernel.pids.group_and_session(thread.process.pid).map(|(group, _)| group)
}
