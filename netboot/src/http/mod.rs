//! HTTP: every machine's cloud-config and other texts that are made for it, the files of `tftp/` and `files/`, health and status.

mod api;
pub mod app;
mod body;
mod booted;
mod client;
mod cloud_config;
mod conditions;
mod connection;
mod date;
mod files;
mod handover;
mod ignition;
mod ipxe;
mod listener;
mod media;
mod named;
mod nocloud;
mod order;
mod reads;
pub mod server;
mod stream;
mod text;
mod tls;
mod token;
mod whole;
mod whose;

pub use api::STORE;
pub use app::{State, app};
pub use reads::Reads;
pub use tls::Certificate;
pub use token::Token;
