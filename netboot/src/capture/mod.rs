//! Captures the boot traffic of an interface into a pcapng file: what the daemon receives and sends, heard at a packet
//! socket, and what the XDP program answers, which no packet socket sees, from the program's ring buffer.
//!
//! [`wire`], `sessions` and [`policy`] tell what belongs, `segments` makes of it what is on the wire, `order` joins the two
//! sources, [`pcapng`] is the file, [`taker`] makes its blocks; [`recorder`] moves the packets. Nothing here serves or changes anything.

mod order;
pub mod pcapng;
pub mod policy;
pub mod recorder;
mod segments;
mod sessions;
pub mod taker;
pub mod wire;
