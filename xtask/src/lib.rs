//! What the developer's commands and the integration tests share.

use std::path::PathBuf;

pub mod lab;
pub mod packages;
pub mod packets;

/// The root of the repository.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or(manifest.clone(), PathBuf::from)
}

/// Where the lab keeps what it needs between runs: unpacked packages and the guest.
pub fn lab_dir() -> PathBuf {
    root().join("target/lab")
}
