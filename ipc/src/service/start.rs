//! The first steps of a service. The unsafe code of this folder is here: taking over the inherited fds.

use super::{Fds, Service, ServiceError, log};
use crate::{
    Errno,
    channel::Channel,
    debug::Stats,
    setup::{Role, Setup},
};
use std::{
    ffi::CString,
    os::fd::{AsFd, FromRawFd, OwnedFd},
    sync::Arc,
};

/// The control channel's number.
const CONTROL: i32 = 3;

/// Takes over the control channel and closes every other fd beyond stderr.
pub(super) fn take_control() -> Result<Channel, ServiceError> {
    if nix::fcntl::fcntl(borrowed_control(), nix::fcntl::FcntlArg::F_GETFD).is_err() {
        return Err(ServiceError::NotStartedBySupervisor);
    }
    // SAFETY: it is open, and this runs once, at the start of the process, when nothing else has taken it.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL) };
    let channel = Channel::from_fd(control).map_err(|_| ServiceError::NotStartedBySupervisor)?;
    // SAFETY: closes what nobody in this process knows of.
    if unsafe { libc::close_range(CONTROL as u32 + 1, u32::MAX, 0) } != 0 {
        return Err(ServiceError::Host("close inherited fds", Errno::last()));
    }
    Ok(channel)
}

fn borrowed_control() -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: only asked whether it is open.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(CONTROL) }
}

/// Receives the set-up and starts the log.
pub(super) fn receive(name: &'static str, control: &Arc<Channel>) -> Result<(Role, Fds, Service), ServiceError> {
    let stats = Stats::new();
    if let Ok(name) = CString::new(name) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    let mut message = Vec::new();
    let mut fds = Fds::new(control.receive(&mut message)?);
    let setup = Setup::decode(&message)?;
    let log_file = fds.take("the log")?;
    let debug_listener = fds.take("the debug plane")?;
    redirect_standard_streams(&log_file)?;
    let log_filter = log::start(log::Settings {
        file: log_file,
        filter: &setup.log_filter,
        json: setup.log_json,
        service: name,
        sandbox: setup.sandbox.clone(),
    })?;
    let service = Service { name, sandbox: setup.sandbox, control: control.clone(), debug_listener, log_filter, stats };
    Ok((setup.role, fds, service))
}

/// What is still written to stdout or stderr (by the runtime, when it aborts; by the handler of denied system calls) goes to the
/// log, and stdin is empty.
fn redirect_standard_streams(log: &OwnedFd) -> Result<(), ServiceError> {
    let failed = |errno: nix::errno::Errno| ServiceError::Host("redirect the standard streams", errno.into());
    nix::unistd::dup2_stdout(log.as_fd()).map_err(failed)?;
    nix::unistd::dup2_stderr(log.as_fd()).map_err(failed)?;
    match std::fs::File::open("/dev/null") {
        Ok(null) => nix::unistd::dup2_stdin(null).map_err(failed),
        Err(_) => nix::unistd::dup2_stdin(log.as_fd()).map_err(failed),
    }
}
