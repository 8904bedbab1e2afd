//! The kit of the end-to-end tests: root file systems, bundles, and runtimes to run them.
//!
//! A test runs real programs through the real binaries; where it claims that Bulkhead does what Linux does, it runs the same
//! bundle under runc and compares. Everything a scene makes goes with it.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod conversation;
pub mod docker;
pub mod guest;
pub mod intruder;
pub mod leftovers;
pub mod network;
pub mod processes;
pub mod runtime;
pub mod scene;
pub mod terminal;

use std::path::{Path, PathBuf};

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// A root file system made by `integration/trees.sh`: `debian` or `busybox`.
pub fn tree(name: &str) -> PathBuf {
    let trees = std::env::var_os("BULKHEAD_TREES").map_or_else(|| workspace().join("target/trees"), PathBuf::from);
    let tree = trees.join(name);
    assert!(tree.join(".complete").exists(), "{} is not there: run `make trees`", tree.display());
    tree
}
