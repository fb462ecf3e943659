//! netboot: boots machines from the network. `ARCHITECTURE.md` beside `Cargo.toml` has the map of the code.
//!
//! The parts do not call each other's servers; [`daemon`] puts them together.

pub mod beneath;
pub mod capture;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dhcp;
pub mod fastpath;
pub mod http;
pub mod import;
pub mod inventory;
pub mod loader;
pub mod mac;
pub mod net;
pub mod orders;
pub mod store;
pub mod tftp;
pub mod timeline;
pub mod uuid;
