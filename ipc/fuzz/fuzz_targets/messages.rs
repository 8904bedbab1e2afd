//! Every decoder of the control plane and the fast plane. What decodes has to survive being encoded and decoded again.
#![no_main]

use bulkhead_ipc::{
    gofer,
    setup::{Order, Report, Setup},
    vfs,
};
use libfuzzer_sys::fuzz_target;

macro_rules! round_trip {
    ($bytes:expr, $($message:ty),*) => {$(
        if let Ok(message) = <$message>::decode($bytes) {
            let mut again = Vec::new();
            message.encode(&mut again);
            assert_eq!(<$message>::decode(&again), Ok(message));
        }
    )*};
}

fuzz_target!(|bytes: &[u8]| {
    round_trip!(bytes, Setup, Order, Report, vfs::Request, vfs::Reply, gofer::Request, gofer::Reply);
});
