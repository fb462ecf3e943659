//! TFTP: boot loaders, their configuration, kernels and initrds (RFC 1350, 2347, 2348, 2349, 7440). Read only.
//!
//! [`wire`] is bytes, [`options`] and [`transfer`] decide and do nothing, `netascii` converts texts, [`files`] turns names into contents for TFTP
//! and HTTP alike. `listener` owns the port and opens files, `running` knows which are served, `worker` is a thread that plays transfers, each a `session`; `pages` has
//! the bytes that all of them share, `send` puts them on their way; [`server`] is the life of it all. Packets are brought by one
//! of two engines: `ring` (io_uring) or `plain` (epoll).

mod asked;
mod engine;
pub mod files;
mod flight;
mod listener;
mod netascii;
pub mod options;
mod pages;
mod plain;
mod refusals;
mod ring;
mod running;
mod send;
pub mod server;
mod session;
pub mod transfer;
pub mod wire;
mod worker;

pub use files::{Caller, Content, Files};

/// Where requests arrive (RFC 1350 4).
pub const PORT: u16 = 69;

/// Whether the kernel allows io_uring here.
///
/// # Errors
/// Why it does not.
pub fn io_uring() -> std::io::Result<()> {
    let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    <ring::Ring as engine::Engine>::new(wake.into()).map(drop)
}
