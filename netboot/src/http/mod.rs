//! HTTP: every machine's cloud-config, the files of `tftp/`, health and status.

mod api;
pub mod app;
mod cloud_config;
mod connection;
mod date;
pub mod files;
mod ipxe;
pub mod server;

pub use api::STORE;
pub use app::{State, app};
