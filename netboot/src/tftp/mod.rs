//! TFTP: boot loaders, their configuration, kernels and initrds (RFC 1350, 2347, 2348, 2349, 7440). Read only.
//!
//! [`wire`] is bytes, [`options`] and [`transfer`] decide and do nothing, [`files`] turns names into contents for TFTP
//! and HTTP alike, `session` plays one transfer, `listener` owns the port, [`server`] its life. Packets are moved by one of two engines:
//! `ring` (io_uring) or `plain` (tokio's sockets); both play the same sessions.

mod blocks;
mod engine;
pub mod files;
mod listener;
pub mod options;
mod plain;
mod ring;
pub mod server;
mod session;
pub mod transfer;
pub mod wire;

pub use files::{Content, Files};

/// Where requests arrive (RFC 1350 4).
pub const PORT: u16 = 69;

/// Whether the kernel allows io_uring here.
///
/// # Errors
/// Why it does not.
pub fn io_uring() -> std::io::Result<()> {
    <ring::Ring as engine::Engine>::new(1).map(drop)
}
