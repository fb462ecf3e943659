//! HTTP: every machine's cloud-config, the files of `tftp/`, health and status.

mod api;
pub mod app;
mod cloud_config;
mod connection;
mod date;
pub mod files;
mod ipxe;
mod order;
pub mod server;
mod whole;

pub use api::STORE;
pub use app::{State, app};
