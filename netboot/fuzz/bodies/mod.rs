//! What must hold for any bytes: the bodies of the fuzz targets. Each takes bytes and panics where something does not hold.
//!
//! They are written once and compiled twice: into the fuzz targets, which look for bytes that break them, and into the
//! integration tests, which replay every packet and every crash that was ever found (`tests/it/corpus.rs`). Public
//! entry points of netboot alone are used here, and nothing here sends or receives.

pub(crate) mod account;
pub(crate) mod dice;
pub(crate) mod equal;
pub(crate) mod files;
pub(crate) mod frames;
pub(crate) mod imports;
pub(crate) mod policy;
pub(crate) mod predict;
#[cfg(feature = "fastpath")]
pub(crate) mod program;
pub(crate) mod requests;
pub(crate) mod server;
pub(crate) mod site;
pub(crate) mod tftp;
pub(crate) mod tlv;
pub(crate) mod verdict;
pub(crate) mod wire;
pub(crate) mod world;

/// A body.
pub(crate) type Body = fn(&[u8]);

/// Every body that needs nothing but its bytes, by the name of its target and of its folder in `corpus`. `equal` needs the
/// kernel besides.
#[allow(dead_code, reason = "a fuzz target runs one body, the tests run all")]
pub(crate) const ALL: [(&str, Body); 6] = [
    ("files", files::run),
    ("imports", imports::run),
    ("policy", policy::run),
    ("tftp", tftp::run),
    ("verdict", verdict::run),
    ("wire", wire::run),
];
