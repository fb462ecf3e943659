//! DHCP (RFC 2131, 2132): wire format, replies, decisions, leases, and the server that moves the packets.
pub mod options;
