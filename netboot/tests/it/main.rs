//! The integration tests: one binary, real clients, network namespaces of its own.

mod tftp;
mod check;
mod http;
mod sample;
mod dhcp;
#[cfg(feature = "fastpath")]
mod xdp;
