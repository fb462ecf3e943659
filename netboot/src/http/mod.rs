//! HTTP: every machine's cloud-config, the files of `tftp/` and `files/`, health and status.

mod api;
pub mod app;
mod body;
mod cloud_config;
mod conditions;
mod connection;
mod date;
mod files;
mod handover;
mod media;
pub mod server;
mod tls;

pub use api::STORE;
pub use app::{State, app};
pub use tls::Certificate;
