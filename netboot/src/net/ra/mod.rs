//! Quiet IPv6: blades that ask for an IPv6 router are told that there is none.
//!
//! iPXE configures IPv4 and IPv6 together and waits for both, so a network without a router costs each boot more than
//! ten seconds. An empty router advertisement (RFC 4861 4.2: router lifetime 0, no prefix) ends that wait and changes
//! nothing else on any machine. Where a real router is heard, this one is silent.

mod policy;
mod server;
mod wire;

pub use server::Server;
