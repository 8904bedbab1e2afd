//! Messages in, messages out.

use bulkhead_ipc::{
    service::{Control, Result},
    setup::NetstackSetup,
};

/// The running service.
#[derive(Debug)]
pub struct Server {
    _setup: NetstackSetup,
}

impl Server {
    /// Takes its set-up.
    pub fn new(setup: NetstackSetup) -> Server {
        Server { _setup: setup }
    }

    /// Serves until the supervisor has gone.
    pub fn run(self, control: &Control) -> Result<()> {
        control.wait_until_closed()
    }
}
