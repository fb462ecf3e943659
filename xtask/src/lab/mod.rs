//! A lab: network namespaces of our own, in which servers, clients and virtual machines meet.
//!
//! Nothing here touches an interface of the machine: links are made inside namespaces, and are gone with them.

mod blade;
pub mod guest;
mod namespace;
mod network;
mod payload;
mod server;
mod tags;
mod vlan;

pub use blade::{Accel, Blade, Firmware, Report};
pub(crate) use namespace::run;
pub use namespace::{Child, Namespace, enter, pin_directories, remove_pins, wait_for};
pub use network::{Capture, Lab, SERVER_ADDR, Trunk, remove_leftovers};
pub use payload::data_directory;
pub use server::{READY, Server, Step, sentence};
pub use vlan::Vlan;
