//! HTTP: every machine's cloud-config and other texts that are made for it, the files of `tftp/`, health and status.

mod api;
pub mod app;
mod booted;
mod cloud_config;
mod connection;
mod date;
pub mod files;
mod ignition;
mod ipxe;
mod named;
mod nocloud;
mod order;
mod reads;
pub mod server;
mod text;
mod whole;
mod whose;

pub use api::STORE;
pub use app::{State, app};
pub use reads::Reads;
