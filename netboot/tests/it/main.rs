//! The integration tests: one binary, real clients, network namespaces of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod boot;
mod check;
mod daemon;
mod dhcp;
mod house;
mod http;
mod import;
mod options;
mod ra;
mod sample;
mod tftp;
mod vagrant;
#[cfg(feature = "fastpath")]
mod xdp;
