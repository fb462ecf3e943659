//! The machine's own network: the PXE interface and raw frames.
pub mod frames;
pub mod kind;
pub mod link;
pub mod ports;
pub mod ra;
