//! What the gofer answers on its debug socket: so far, what every service does.

use bulkhead_ipc::debug::Plane;

/// Its debug server.
pub fn plane() -> Plane {
    Plane::new()
}
