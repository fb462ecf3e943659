//! DHCP (RFC 2131, 2132): wire format, replies, decisions, leases, and the server that moves the packets.
//!
//! `wire`, `options`, `menu`, `pool`, `policy` and `proxy` are pure: bytes, snapshot, leases and time go in, a value comes out;
//! so are `cards` (whose request it is when it has another card than its machine), `waiting` (machines without a reservation that asked), `taken` (reservations that wait for a lease to end) and
//! `vacant` (which address a new reservation gets).
//! `leases` is the table in memory; `server` is the only one that has sockets and the store.
pub mod boot;
pub mod cards;
pub mod clock;
pub mod lease;
pub mod leases;
pub mod menu;
pub mod missing;
pub mod options;
mod parked;
pub mod policy;
pub mod pool;
pub mod proxy;
pub mod queue;
pub mod record;
pub mod rival;
mod segments;
pub mod select;
pub mod server;
pub mod sockets;
pub mod taken;
pub mod vacant;
pub mod waiting;
pub mod wire;

#[cfg(test)]
mod packets;
