//! What a reply repeats from its request.
//!
//! Pure. The order of the options is the rule at the top of `options`.

use std::net::Ipv4Addr;

use super::{Builder, addresses};

/// What a reply repeats from its request, in network order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Transaction.
    pub xid: [u8; 4],
    /// Seconds since the client began.
    pub secs: [u8; 2],
    /// The broadcast flag.
    pub flags: [u8; 2],
    /// Zero in an OFFER.
    pub ciaddr: [u8; 4],
    /// Relay agent.
    pub giaddr: [u8; 4],
    /// All 16 bytes of the field.
    pub chaddr: [u8; 16],
    /// Option 97, machine identifier.
    pub guid: Option<&'a [u8]>,
    /// Option 61, client identifier.
    pub client_id: Option<&'a [u8]>,
    /// Option 118, subnet selection, of a request whose subnet was chosen by it: such a client takes no reply without.
    pub subnet_selection: Option<Ipv4Addr>,
    /// Option 80, rapid commit: this is the ACK to a DISCOVER.
    pub rapid_commit: bool,
    /// Option 82, relay agent information.
    pub relay_info: Option<&'a [u8]>,
}

impl Echo<'_> {
    /// Adds the options that are repeated, in their order.
    pub(super) fn add_to(&self, reply: &mut Builder) {
        reply.option(97, self.guid.unwrap_or_default());
        reply.option(61, self.client_id.unwrap_or_default());
        reply.option(118, &addresses(self.subnet_selection.as_slice()));
        if self.rapid_commit {
            reply.0.extend([80, 0]);
        }
        reply.option(82, self.relay_info.unwrap_or_default());
    }

    /// What the longest template is with which a reply of `room` bytes can repeat all of this.
    pub fn leaves(&self, room: usize) -> usize {
        let mut echoed = Builder(Vec::new());
        self.add_to(&mut echoed);
        // And END.
        room.saturating_sub(echoed.0.len() + 1)
    }
}
