//! The machine's own network: the PXE interface, raw frames and ARP probes.
pub mod arp;
pub mod frames;
pub mod hear;
pub mod link;
pub mod look;
pub mod offload;
pub mod ports;
pub mod program;
pub mod ra;
pub(crate) mod sockopt;
pub mod tap;
pub mod way;
