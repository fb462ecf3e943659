//! The integration tests: one binary, real clients, network namespaces of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod boot;
mod capture;
mod cards;
mod check;
mod clients;
mod corpus;
mod daemon;
mod dhcp;
mod disk;
mod doctor;
#[cfg(feature = "fastpath")]
mod events;
mod faults;
mod firstboot;
mod holes;
mod hosts;
mod house;
mod http;
mod import;
mod kill;
#[cfg(feature = "fastpath")]
mod life;
mod names;
mod options;
mod overload;
mod profiles;
mod proxy;
mod ra;
mod relay;
mod sample;
mod tftp;
#[cfg(feature = "fastpath")]
mod trunk;
mod vagrant;
mod wire;
#[cfg(feature = "fastpath")]
mod xdp;
