//! A lab: network namespaces of our own, in which servers, clients and virtual machines meet.
//!
//! Nothing here touches an interface of the machine: links are made inside namespaces, and are gone with them.

mod namespace;

pub use namespace::{Child, Namespace, wait_for};
