//! The signal frame on the guest stack.
